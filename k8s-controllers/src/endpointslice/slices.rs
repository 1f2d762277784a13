//! What a Service's slices should be: the pure core.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{ObjectReference, Pod, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};

use super::{CONTROLLER, MANAGED_BY, SERVICE_NAME};
use crate::common::{compat, owner, pod, service};

/// The most endpoints in a slice.
const MAX_ENDPOINTS: usize = 100;

/// What to do to the slices.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<Arc<EndpointSlice>>,
    /// Pods that were left out because their node is not known (yet).
    pub(crate) skipped: Vec<String>,
}

/// What the core sees.
pub(crate) struct Observed<'a> {
    pub(crate) service: &'a Service,
    /// The pods that the Service selects.
    pub(crate) pods: &'a [Arc<Pod>],
    /// The slices that this controller keeps for the Service.
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
    /// A node's zone; the outer `None` is a node that is not known.
    pub(crate) zone: &'a dyn Fn(&str) -> Option<Option<String>>,
}

/// Decides what to create, update and delete, with as few writes as possible: endpoints stay in
/// the slice that they are in, slices that change anyway are filled up first, and a slice that
/// would be deleted while another is created is reused.
pub(crate) fn reconcile(observed: Observed<'_>) -> Changes {
    let mut changes = Changes::default();
    let mut slices: BTreeMap<&str, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let families = address_types(observed.service);
    for slice in &observed.slices {
        match families
            .iter()
            .find(|family| **family == slice.address_type)
        {
            Some(family) => slices.entry(family).or_default().push(slice.clone()),
            None => changes.delete.push(slice.clone()),
        }
    }
    for family in families {
        reconcile_family(
            &observed,
            family,
            slices.remove(family).unwrap_or_default(),
            &mut changes,
        );
    }
    changes
}

/// The address families of a Service.
fn address_types(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let families: BTreeSet<&str> = spec
        .and_then(|spec| spec.ip_families.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|family| ["IPv4", "IPv6"].into_iter().find(|known| known == family))
        .collect();
    if !families.is_empty() {
        return families
            .into_iter()
            .filter_map(|family| ["IPv4", "IPv6"].into_iter().find(|k| *k == family))
            .collect();
    }
    match spec.and_then(|spec| spec.cluster_ip.as_deref()) {
        Some(ip) if !ip.is_empty() && ip != "None" => {
            vec![if service::is_ipv6(ip) { "IPv6" } else { "IPv4" }]
        }
        _ => vec!["IPv4", "IPv6"],
    }
}

/// Ports in a form that can be compared: slices hold endpoints with the same ports.
type PortKey = Vec<(String, Option<i32>, String, Option<String>)>;

fn port_key(ports: &[EndpointPort]) -> PortKey {
    let mut key: PortKey = ports
        .iter()
        .map(|port| {
            let name = port.name.clone().unwrap_or_default();
            (
                name,
                port.port,
                port.protocol.clone().unwrap_or_default(),
                port.app_protocol.clone(),
            )
        })
        .collect();
    key.sort();
    key
}

/// What makes an endpoint the same endpoint: its pod and its addresses.
type EndpointKey = (String, Vec<String>);

fn endpoint_key(endpoint: &Endpoint) -> EndpointKey {
    let uid = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.clone())
        .unwrap_or_default();
    (uid, endpoint.addresses.clone())
}

fn reconcile_family(
    observed: &Observed<'_>,
    family: &'static str,
    existing: Vec<Arc<EndpointSlice>>,
    changes: &mut Changes,
) {
    let service = observed.service;
    let mut wanted: BTreeMap<PortKey, (Vec<EndpointPort>, BTreeMap<EndpointKey, Endpoint>)> =
        BTreeMap::new();
    for pod in observed.pods {
        if !service::is_endpoint(pod, true) {
            continue;
        }
        let ports = ports(service, pod);
        let group = wanted
            .entry(port_key(&ports))
            .or_insert_with(|| (ports, BTreeMap::new()));
        match endpoint(observed, pod, family) {
            Some(Ok(endpoint)) => {
                group.1.insert(endpoint_key(&endpoint), endpoint);
            }
            Some(Err(skipped)) => changes.skipped.push(skipped),
            None => {}
        }
    }
    let mut by_ports: BTreeMap<PortKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let (mut create, mut update, mut delete) = (Vec::new(), Vec::new(), Vec::new());
    let count = existing.len();
    for slice in existing {
        let owned = slice
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|o| o.uid == owner::uid(&service.metadata));
        if owned {
            by_ports
                .entry(port_key(slice.ports.as_deref().unwrap_or_default()))
                .or_default()
                .push(slice);
        } else {
            delete.push(slice);
        }
    }
    for (key, (ports, endpoints)) in wanted {
        let slices = by_ports.remove(&key).unwrap_or_default();
        pack(
            service,
            family,
            &ports,
            slices,
            endpoints,
            &mut create,
            &mut update,
            &mut delete,
        );
    }
    delete.extend(by_ports.into_values().flatten());
    // A Service always has a slice, so that "no endpoints" can be told from "not looked at yet".
    if delete.len() == count && create.is_empty() {
        let placeholder = new_slice(service, family, &[]);
        let kept = delete.len() == 1 && is_placeholder(&delete[0], &placeholder);
        if kept {
            delete.clear();
        } else {
            create.push(placeholder);
        }
    }
    // Reuse what would be deleted for what would be created.
    for _ in 0..create.len().min(delete.len()) {
        let (Some(new), Some(old)) = (create.pop(), delete.pop()) else {
            break;
        };
        let mut reused = (*old).clone();
        reused.ports = new.ports;
        reused.endpoints = new.endpoints;
        reused.metadata.labels = new.metadata.labels;
        reused.metadata.owner_references = new.metadata.owner_references;
        update.push(reused);
    }
    changes.create.extend(create);
    changes.update.extend(update);
    changes.delete.extend(delete);
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    endpoints(slice).is_empty()
        && slice.ports.as_deref().unwrap_or_default().is_empty()
        && slice.metadata.labels == placeholder.metadata.labels
}

fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    compat::get(&slice.endpoints)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Packs `wanted` endpoints, which all have the same `ports`, into slices.
#[expect(clippy::too_many_arguments, reason = "three of them are the results")]
fn pack(
    service: &Service,
    family: &'static str,
    ports: &[EndpointPort],
    slices: Vec<Arc<EndpointSlice>>,
    mut wanted: BTreeMap<EndpointKey, Endpoint>,
    create: &mut Vec<EndpointSlice>,
    update: &mut Vec<EndpointSlice>,
    delete: &mut Vec<Arc<EndpointSlice>>,
) {
    let labels = labels(service);
    let mut touched: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    let mut untouched: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let mut changed = slice.metadata.labels.as_ref() != Some(&labels);
        let mut kept = Vec::new();
        for endpoint in endpoints(&slice) {
            match wanted.remove(&endpoint_key(endpoint)) {
                Some(want) => {
                    changed |= !same(endpoint, &want);
                    kept.push(want);
                }
                None => changed = true,
            }
        }
        if changed && kept.is_empty() && !endpoints(&slice).is_empty() && wanted.is_empty() {
            delete.push(slice);
        } else if changed {
            touched.push((slice, kept));
        } else {
            untouched.push((slice, kept));
        }
    }
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    // Fullest first: fewer slices in the end.
    touched.sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
    for (_, endpoints) in &mut touched {
        let room = MAX_ENDPOINTS
            .saturating_sub(endpoints.len())
            .min(left.len());
        endpoints.extend(left.drain(..room));
    }
    while !left.is_empty() {
        let room = |endpoints: &Vec<Endpoint>| MAX_ENDPOINTS.saturating_sub(endpoints.len());
        let fitting = (0..untouched.len())
            .filter(|i| left.len() < MAX_ENDPOINTS && room(&untouched[*i].1) >= left.len());
        if let Some(index) = fitting.min_by_key(|index| room(&untouched[*index].1)) {
            let (slice, mut endpoints) = untouched.remove(index);
            endpoints.append(&mut left);
            touched.push((slice, endpoints));
        } else {
            let count = left.len().min(MAX_ENDPOINTS);
            let mut slice = new_slice(service, family, ports);
            slice.endpoints = compat::set(left.drain(..count).collect::<Vec<_>>());
            create.push(slice);
        }
    }
    for (slice, endpoints) in touched {
        if endpoints.is_empty() {
            delete.push(slice);
            continue;
        }
        let mut changed = (*slice).clone();
        changed.endpoints = compat::set(endpoints);
        changed.metadata.labels = Some(labels.clone());
        update.push(changed);
    }
    // An empty slice next to filled ones has outlived its purpose.
    for (slice, endpoints) in untouched {
        if endpoints.is_empty() {
            delete.push(slice);
        }
    }
}

/// Whether two states of the same endpoint are equal.
fn same(a: &Endpoint, b: &Endpoint) -> bool {
    a.conditions == b.conditions
        && a.node_name == b.node_name
        && a.zone == b.zone
        && a.hostname == b.hostname
}

/// A pod's ports by the Service's names for them. A port that the pod does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(service::target_port(pod, port)?),
                protocol: Some(service::protocol(port).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// A pod as an endpoint; `Err` when its node is not known, `None` when it has no address of the
/// family.
fn endpoint(observed: &Observed<'_>, pod: &Pod, family: &str) -> Option<Result<Endpoint, String>> {
    let service = observed.service;
    let addresses: Vec<String> = service::addresses(pod)
        .filter(|address| service::is_ipv6(address) == (family == "IPv6"))
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .filter(|node| !node.is_empty());
    let publish = service::publishes_not_ready(service);
    let zone = match (node.as_deref().and_then(observed.zone), publish) {
        (Some(zone), _) => zone,
        (None, true) => None,
        (None, false) => {
            let meta = &service.metadata;
            return Some(Err(format!(
                "skipping Pod {} for Service {}/{}: Node {} Not Found",
                owner::name(&pod.metadata),
                owner::namespace(meta),
                owner::name(meta),
                node.unwrap_or_default(),
            )));
        }
    };
    let serving = pod::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    Some(Ok(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service::hostname(service, pod),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        zone,
        ..Default::default()
    }))
}

/// The Service's labels, and those that say whose slice this is.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS);
    if !service::has_ip(service) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(
        SERVICE_NAME.to_owned(),
        owner::name(&service.metadata).to_owned(),
    );
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

fn new_slice(service: &Service, family: &str, ports: &[EndpointPort]) -> EndpointSlice {
    let mut slice = EndpointSlice {
        address_type: family.to_owned(),
        ports: Some(ports.to_vec()),
        endpoints: compat::set(Vec::new()),
        ..Default::default()
    };
    slice.metadata.generate_name = Some(format!("{}-", owner::name(&service.metadata)));
    slice.metadata.namespace = service.metadata.namespace.clone();
    slice.metadata.owner_references = Some(vec![owner::controller_ref(service)]);
    slice.metadata.labels = Some(labels(service));
    slice
}

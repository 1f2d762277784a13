//! Addresses and ports of Services: each is handed out once.
//!
//! What is taken is a key in the store, written and removed in the same commit as the
//! Service that has it. No two Services can get the same one, not even from two servers on one
//! store. The key of an address is that of its IPAddress (KEP-1880), which anybody may delete who has the right to:
//! [`repair`] makes it again.

mod addresses;
mod chosen;
mod cidr;
mod default_range;
mod events;
mod families;
mod keep;
mod metrics;
mod ports;
mod ranges;
mod repair;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use bytes::Bytes;
use k8s_model::{
    Object,
    field::{self, Path},
};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_store::{Expect, Op, Write};

use self::{
    chosen::chosen,
    families::{Families, families, ips},
    keep::keep,
    metrics::Scope,
};
pub(crate) use self::{
    cidr::Family, default_range::make as make_default_range, metrics::Allocations, repair::start,
};
pub use self::{
    cidr::{Cidr, ParseCidrError},
    ports::NodePortRange,
};
use crate::{
    Error, Result,
    registry::{Registry, Row},
};

const PORTS: &str = "/registry/ranges/servicenodeports/";

const ALLOCATED: &str = "provided port is already allocated";

/// Hands out addresses and ports.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    /// The range whose family is the default.
    pub(crate) cidr: Cidr,
    /// Of the other family, if there is one.
    pub(crate) second_cidr: Option<Cidr>,
    pub(crate) node_ports: NodePortRange,
    /// What was handed out since the start.
    pub(crate) allocations: Arc<Allocations>,
}

/// What a Service has been given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holdings {
    addresses: Vec<IpAddr>,
    /// Those of its ports. TCP and UDP may share a number within one Service.
    node_ports: Vec<i32>,
    /// The one for health checks.
    health_check: Option<i32>,
}

impl Holdings {
    fn ports(&self) -> impl Iterator<Item = i32> {
        let node_ports = self.node_ports.iter().copied();
        // One that was stored elsewhere may have one number for both.
        let other = self.health_check.filter(|n| !self.node_ports.contains(n));
        node_ports.chain(other)
    }

    fn has_port(&self, number: i32) -> bool {
        self.ports().any(|port| port == number)
    }
}

/// Whose addresses and ports are handed out.
struct Claimant<'a> {
    namespace: &'a str,
    name: &'a str,
    held: &'a Holdings,
    is_new: bool,
    /// Nothing is kept.
    dry_run: bool,
}

impl Services {
    pub(crate) fn handles(&self, row: &Row) -> bool {
        row.is("", "services")
    }

    /// The server's own ranges.
    pub(crate) fn cidrs(&self) -> impl Iterator<Item = Cidr> {
        std::iter::once(self.cidr).chain(self.second_cidr)
    }

    /// Fills in what a new Service is to have.
    pub(crate) async fn on_create(
        &self,
        registry: &Registry,
        object: &mut dyn Object,
        dry_run: bool,
    ) -> Result<Vec<Write>> {
        if let Some(service) = object.downcast_mut::<Service>()
            && let Some(spec) = &mut service.spec
            && ips(spec).is_empty()
        {
            // Who knows the one address alone means it.
            let only = spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
            spec.cluster_ips = only.map(|ip| vec![ip]);
        }
        let none = Holdings::default();
        self.allocate(registry, object, None, &none, dry_run).await
    }

    /// Keeps what a Service has, fills in what it now needs, and gives up what it needs no more.
    pub(crate) async fn on_update(
        &self,
        registry: &Registry,
        new: &mut dyn Object,
        old: &dyn Object,
        dry_run: bool,
    ) -> Result<Vec<Write>> {
        let (Some(service), Some(old)) =
            (new.downcast_mut::<Service>(), old.downcast_ref::<Service>())
        else {
            return Ok(Vec::new());
        };
        keep(service, old);
        let held = old.spec.as_ref().map(holdings).unwrap_or_default();
        self.allocate(registry, new, Some(old), &held, dry_run)
            .await
    }

    /// Gives up what a Service had.
    pub(crate) async fn on_delete(
        &self,
        registry: &Registry,
        object: &dyn Object,
    ) -> Result<Vec<Write>> {
        let held = object
            .downcast_ref::<Service>()
            .and_then(|s| s.spec.as_ref())
            .map(holdings)
            .unwrap_or_default();
        let meta = object.metadata();
        let of = Claimant {
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
            held: &held,
            is_new: false,
            dry_run: false,
        };
        release(registry, &of, &Holdings::default()).await
    }

    /// Where it is counted what the claimant gets.
    fn counted(&self, of: &Claimant<'_>) -> Option<&Allocations> {
        (!of.dry_run).then_some(&*self.allocations)
    }

    async fn allocate(
        &self,
        registry: &Registry,
        object: &mut dyn Object,
        old: Option<&Service>,
        held: &Holdings,
        dry_run: bool,
    ) -> Result<Vec<Write>> {
        let Some(service) = object.downcast_mut::<Service>() else {
            return Ok(Vec::new());
        };
        let name = service.metadata.name.clone().unwrap_or_default();
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let wrong = families::fill(service, old, self.families());
        if !wrong.is_empty() {
            return Err(Error::invalid_kind("", "Service", &name, &wrong));
        }
        let Some(spec) = service.spec.as_mut() else {
            return Ok(Vec::new());
        };
        let of = Claimant {
            namespace: &namespace,
            name: &name,
            held,
            is_new: old.is_none(),
            dry_run,
        };
        let mut writes = Vec::new();
        let old = old.and_then(|old| old.spec.as_ref());
        self.addresses(registry, spec, old, &of, &mut writes)
            .await?;
        self.ports(registry, spec, &of, &mut writes).await?;
        let now = holdings(spec);
        writes.extend(release(registry, &of, &now).await?);
        Ok(writes)
    }

    /// What may be handed out.
    fn families(&self) -> Families {
        Families {
            default: self.cidr.family(),
            are_both: self.second_cidr.is_some(),
        }
    }

    /// Gives a Service the addresses that it has none of, of its families. Upstream's `updateClusterIPs`.
    async fn addresses(
        &self,
        registry: &Registry,
        spec: &mut ServiceSpec,
        old: Option<&ServiceSpec>,
        of: &Claimant<'_>,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let is_headless = ips(spec).first().is_some_and(|first| first == "None");
        if !has_cluster_ip(spec) || is_headless || families::stay(spec, old) {
            return Ok(());
        }
        // An update hands out the second address where a second family came, all where there was none, and else nothing:
        // what changes otherwise is for validation to refuse.
        let from = match old.filter(|old| has_cluster_ip(old)) {
            None => 0,
            Some(old) if ips(old).first().is_some_and(|first| first == "None") => return Ok(()),
            Some(old) if families(old).len() == 1 && families(spec).len() == 2 => 1,
            Some(_) => return Ok(()),
        };
        let wanted: Vec<Family> = (families(spec).iter())
            .filter_map(|family| Family::parse(family))
            .collect();
        let mut chosen = ips(spec).to_vec();
        chosen.resize(chosen.len().max(wanted.len()), String::new());
        for (at, family) in wanted.into_iter().enumerate().skip(from) {
            let address = if chosen[at].is_empty() {
                let free = addresses::free(registry, self, of, family).await?;
                let address = free.ok_or_else(|| {
                    Error::internal("failed to allocate a serviceIP: range is full")
                })?;
                chosen[at] = address.to_string();
                address
            } else {
                // That it is one, of that family, was found before.
                let address: IpAddr = chosen[at].parse().map_err(Error::internal)?;
                if let Some(text) = addresses::refusal(registry, self, of, address).await? {
                    let path = Path::new("spec").child("clusterIPs");
                    let text = format!("failed to allocate IP {}: {text}", chosen[at]);
                    let findings = vec![field::invalid(path, chosen, text)];
                    return Err(Error::invalid_kind("", "Service", of.name, &findings));
                }
                address
            };
            let Claimant {
                namespace, name, ..
            } = of;
            writes.push(addresses::claim(registry, address, namespace, name)?);
        }
        spec.cluster_ip = chosen.first().cloned();
        spec.cluster_ips = Some(chosen);
        Ok(())
    }

    async fn ports(
        &self,
        registry: &Registry,
        spec: &mut ServiceSpec,
        of: &Claimant<'_>,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let wants = needs_node_ports(spec);
        let mut claimed: Vec<i32> = Vec::new();
        // Chosen numbers first, so that none of them is handed out to another port.
        if wants_any_node_port(spec.type_.as_deref()) {
            let mut seen = BTreeSet::new();
            for (i, number) in chosen(spec, of.is_new) {
                if !of.is_new && !seen.insert((protocol(spec, i), number)) {
                    let text = format!("duplicate nodePort: {{{} {number}}}", protocol(spec, i));
                    return Err(Error::unknown(text));
                }
                let own = claimed.contains(&number);
                let is_kept = of.held.node_ports.contains(&number);
                // Another protocol may have the number of a port that was there, and of an update's new one.
                if is_kept || (own && !of.is_new) {
                    continue;
                }
                if let Some(text) = self.refusal(registry, of, number, own).await? {
                    let path = Path::new("spec").child("ports").index(i).child("nodePort");
                    let findings = vec![field::invalid(path, number, text)];
                    return Err(Error::invalid_kind("", "Service", of.name, &findings));
                }
                claimed.push(number);
                writes.push(claim(port_key(number), of));
            }
        }
        let reserved = spec.health_check_node_port.unwrap_or(0);
        let ports = spec.ports.as_deref_mut().unwrap_or_default();
        if wants {
            self.fill(registry, ports, of, reserved, &mut claimed, writes)
                .await?;
        }
        self.health_check_port(registry, spec, of, &claimed, writes)
            .await
    }

    /// Gives a node port to each that has none, but not the one that is chosen for something else.
    async fn fill(
        &self,
        registry: &Registry,
        ports: &mut [ServicePort],
        of: &Claimant<'_>,
        reserved: i32,
        claimed: &mut Vec<i32>,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let has_none = |port: &ServicePort| port.node_port.unwrap_or(0) == 0;
        let mut all: Option<BTreeSet<String>> = None;
        for i in 0..ports.len() {
            if !has_none(&ports[i]) {
                continue;
            }
            // One number over several protocols is one port of the nodes, too, where a Service is new.
            let same = ports
                .iter()
                .find(|other| other.port == ports[i].port && !has_none(other));
            if let Some(number) = same.filter(|_| of.is_new).and_then(|other| other.node_port) {
                ports[i].node_port = Some(number);
                continue;
            }
            let taken = match all.take() {
                Some(all) => all,
                None => taken(registry).await?,
            };
            let free = |n: i32| {
                !taken.contains(&n.to_string())
                    && !claimed.contains(&n)
                    && !of.held.has_port(n)
                    && n != reserved
            };
            let number = self.pick(registry, of, free);
            let number = number
                .ok_or_else(|| Error::internal("failed to allocate a nodePort: range is full"))?;
            all = Some(taken);
            claimed.push(number);
            writes.push(claim(port_key(number), of));
            ports[i].node_port = Some(number);
        }
        Ok(())
    }

    /// A port that is free, if there is one.
    fn pick(
        &self,
        registry: &Registry,
        of: &Claimant<'_>,
        free: impl Fn(i32) -> bool,
    ) -> Option<i32> {
        let picked = self.node_ports.pick(&mut registry.fork_random(), free);
        if let Some(counted) = self.counted(of) {
            counted.port(Scope::Dynamic, picked.is_some());
        }
        picked
    }

    /// Why somebody cannot have the port that they chose, if so: it may be their own already, for something else.
    async fn refusal(
        &self,
        registry: &Registry,
        of: &Claimant<'_>,
        number: i32,
        own: bool,
    ) -> Result<Option<String>> {
        let refusal = self.objection(registry, number).await?;
        let refusal = refusal.or_else(|| own.then(|| ALLOCATED.to_owned()));
        if let Some(counted) = self.counted(of) {
            counted.port(Scope::Static, refusal.is_none());
        }
        Ok(refusal)
    }

    async fn objection(&self, registry: &Registry, number: i32) -> Result<Option<String>> {
        if !self.node_ports.contains(number) {
            return Ok(Some(format!(
                "provided port is not in the valid range. The range of valid ports is {}",
                self.node_ports
            )));
        }
        let taken = registry.store.get(port_key(number).as_ref(), None).await?;
        Ok(taken.map(|_| ALLOCATED.to_owned()))
    }

    async fn health_check_port(
        &self,
        registry: &Registry,
        spec: &mut ServiceSpec,
        of: &Claimant<'_>,
        claimed: &[i32],
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        // One that is there stays: validation refuses another.
        if !needs_health_check(spec) || of.held.health_check.is_some() {
            return Ok(());
        }
        let number = spec.health_check_node_port.unwrap_or(0);
        let number = if number != 0 {
            // Its other ports, those from before and new ones, are taken as well.
            let own = of.held.has_port(number) || claimed.contains(&number);
            if let Some(text) = self.refusal(registry, of, number, own).await? {
                let asked = "failed to allocate requested HealthCheck NodePort";
                return Err(Error::internal(format_args!("{asked} {number}: {text}")));
            }
            number
        } else {
            let taken = taken(registry).await?;
            let free = |n: i32| !taken.contains(&n.to_string()) && !claimed.contains(&n);
            let number = self.pick(registry, of, free);
            number.ok_or_else(|| {
                let text = "failed to allocate a HealthCheck NodePort 0: range is full";
                Error::internal(text)
            })?
        };
        spec.health_check_node_port = Some(number);
        writes.push(claim(port_key(number), of));
        Ok(())
    }
}

fn protocol(spec: &ServiceSpec, port: usize) -> &str {
    let port = spec.ports.iter().flatten().nth(port);
    port.and_then(|port| port.protocol.as_deref())
        .unwrap_or("TCP")
}

fn has_cluster_ip(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName")
}

fn wants_any_node_port(kind: Option<&str>) -> bool {
    matches!(kind, Some("NodePort" | "LoadBalancer"))
}

fn needs_node_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn holdings(spec: &ServiceSpec) -> Holdings {
    // A Service of old may say the one and not the other.
    let all = match ips(spec) {
        [] => spec.cluster_ip.as_slice(),
        all => all,
    };
    let addresses = (all.iter())
        .filter(|_| has_cluster_ip(spec))
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let mut node_ports: Vec<i32> = Vec::new();
    let mut health_check = None;
    if wants_any_node_port(spec.type_.as_deref()) {
        health_check = spec.health_check_node_port.filter(|port| *port != 0);
        let numbers = spec.ports.iter().flatten().filter_map(|p| p.node_port);
        node_ports = numbers.filter(|number| *number != 0).collect();
        node_ports.sort_unstable();
        node_ports.dedup();
    }
    Holdings {
        addresses,
        node_ports,
        health_check,
    }
}

fn port_key(port: i32) -> Bytes {
    Bytes::from(format!("{PORTS}{port}"))
}

/// Whose a port is: its value says so to who looks.
fn claim(key: Bytes, of: &Claimant<'_>) -> Write {
    Write {
        key,
        expect: Expect::Absent,
        op: Op::Put {
            value: Bytes::from(format!("{}/{}", of.namespace, of.name)),
            ttl: None,
        },
    }
}

/// Gives up what the claimant held and has no more.
async fn release(registry: &Registry, of: &Claimant<'_>, now: &Holdings) -> Result<Vec<Write>> {
    let mut writes: Vec<Write> = (of.held.ports())
        .filter(|port| !now.has_port(*port))
        .map(|port| Write {
            key: port_key(port),
            expect: Expect::Any,
            op: Op::Delete,
        })
        .collect();
    for address in &of.held.addresses {
        if !now.addresses.contains(address) {
            writes.extend(addresses::release(registry, *address, of.namespace, of.name).await?);
        }
    }
    Ok(writes)
}

/// The ports that are taken.
async fn taken(registry: &Registry) -> Result<BTreeSet<String>> {
    let list = k8s_store::List {
        prefix: Bytes::from_static(PORTS.as_bytes()),
        ..Default::default()
    };
    let page = registry.store.list(list).await?;
    Ok(page
        .entries
        .iter()
        .map(|e| String::from_utf8_lossy(&e.key[PORTS.len()..]).into_owned())
        .collect())
}

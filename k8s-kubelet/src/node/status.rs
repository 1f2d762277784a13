//! The node's status.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
        NodeStatus, Taint,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::machine;
use crate::{context::Context, events::Kind, time::whole_second};

/// How often the status is looked at, and how often it is written though nothing changed.
pub(crate) const LOOK: Duration = Duration::from_secs(10);
pub(crate) const REPORT_SECONDS: i64 = 300;
/// Upstream shows this many images, and this many names of each.
pub(crate) const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;
/// Upstream's default threshold for hard eviction.
const LEAST_MEMORY_BYTES: u64 = 100 << 20;
/// Upstream says 10 %. On a large disk that is a lot, and nothing here frees space by evicting
/// pods; so it must also be little in absolute terms before the node closes itself to new ones.
const LEAST_DISK_PERCENT: u64 = 10;
const LEAST_DISK_BYTES: u64 = 512 << 20;

/// How the node presents itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeConfig {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) capacity: BTreeMap<String, Quantity>,
    /// The port of the kubelet's own server, if it has one.
    pub(crate) port: Option<u16>,
    pub(crate) root_dir: std::path::PathBuf,
    /// The simulated runtime uses nothing of the machine, which can't get under pressure then.
    pub(crate) watch_pressure: bool,
}

/// The status as it is now. Conditions keep their transition time from `old`.
pub(crate) async fn node_status(
    cx: &Context,
    config: &NodeConfig,
    old: Option<&NodeStatus>,
) -> NodeStatus {
    let facts = cx.facts();
    let mut addresses: Vec<NodeAddress> = facts
        .ips
        .iter()
        .map(|ip| NodeAddress {
            type_: "InternalIP".to_owned(),
            address: ip.to_string(),
        })
        .collect();
    addresses.push(NodeAddress {
        type_: "Hostname".to_owned(),
        address: cx.settings.node_name.clone(),
    });
    let version = cx.runtime.version().await;
    let ready = version
        .as_ref()
        .map(|_| ())
        .map_err(|e| format!("container runtime is down: {e}"));
    let info = machine::system_info(cx.runtime.name(), version.as_deref().unwrap_or_default());
    let mut status = NodeStatus {
        addresses: Some(addresses),
        capacity: Some(config.capacity.clone()),
        allocatable: Some(allocatable(&config.capacity, old)),
        conditions: Some(conditions(cx, config, ready, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(config.port.unwrap_or(10250)),
            }),
        }),
        images: Some(images(cx).await),
        node_info: Some(info),
        ..Default::default()
    };
    declare(&mut status);
    status
}

k8s_openapi::k8s_if_ge_1_35! {
    /// Says what others may count on (KEP-5328): WebSockets of exec, attach and port-forward need not be translated
    /// to SPDY.
    fn declare(status: &mut NodeStatus) {
        status.declared_features = Some(vec!["ExtendWebSocketsToKubelet".to_owned()]);
    }
}

k8s_openapi::k8s_if_le_1_34! {
    fn declare(_status: &mut NodeStatus) {}
}

/// What pods may have: all of the node's own, and what somebody else wrote into its capacity; see
/// <https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/>.
fn allocatable(
    own: &BTreeMap<String, Quantity>,
    old: Option<&NodeStatus>,
) -> BTreeMap<String, Quantity> {
    let capacity = old.and_then(|old| old.capacity.as_ref());
    let extended = capacity
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_extended(name));
    extended
        .chain(own)
        .map(|(name, quantity)| (name.clone(), quantity.clone()))
        .collect()
}

fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.contains("kubernetes.io/")
}

/// The patch that has the API show the status. What the node has no more is taken from what pods may have.
fn patch(status: &NodeStatus, old: Option<&NodeStatus>) -> Value {
    let mut patch = json!({"status": status});
    let now = status.allocatable.as_ref();
    let before = old.and_then(|old| old.allocatable.as_ref());
    for name in before.into_iter().flat_map(BTreeMap::keys) {
        if is_extended(name) && !now.is_some_and(|now| now.contains_key(name)) {
            patch["status"]["allocatable"][name] = Value::Null;
        }
    }
    patch
}

async fn images(cx: &Context) -> Vec<ContainerImage> {
    let mut images = match cx.images.service.images().await {
        Ok(images) => images,
        Err(error) => {
            warn!(%error, "images not listed");
            Vec::new()
        }
    };
    images.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.id.cmp(&b.id))
    });
    images.truncate(MAX_IMAGES);
    let shown = |i: k8s_runtime::Image| ContainerImage {
        names: Some(
            i.repo_digests
                .into_iter()
                .chain(i.repo_tags)
                .take(MAX_NAMES)
                .collect(),
        ),
        size_bytes: i64::try_from(i.size_bytes).ok(),
    };
    images.into_iter().map(shown).collect()
}

/// Whether the node is short of something: memory, disk, process IDs.
fn pressure(config: &NodeConfig) -> [bool; 3] {
    if !config.watch_pressure {
        return [false; 3];
    }
    let memory = machine::meminfo("MemAvailable").is_some_and(|free| free < LEAST_MEMORY_BYTES);
    let disk = nix::sys::statvfs::statvfs(&config.root_dir).is_ok_and(|s| {
        let free = s.blocks_available() * s.fragment_size();
        s.blocks_available() * 100 < s.blocks() * LEAST_DISK_PERCENT && free < LEAST_DISK_BYTES
    });
    let pids = machine::pids().is_some_and(|(running, max)| running * 100 > max * 95);
    [memory, disk, pids]
}

fn conditions(
    cx: &Context,
    config: &NodeConfig,
    ready: Result<(), String>,
    old: Option<&NodeStatus>,
) -> Vec<NodeCondition> {
    let now = Time(whole_second(cx.clock.now()));
    let before = old
        .and_then(|o| o.conditions.as_deref())
        .unwrap_or_default();
    let make = |type_: &str, status: bool, reason: &str, message: String| {
        let status = if status { "True" } else { "False" };
        let same = before
            .iter()
            .find(|c| c.type_ == type_ && c.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same
                .and_then(|c| c.last_transition_time.clone())
                .or(Some(now.clone())),
        }
    };
    let [memory, disk, pids] = pressure(config);
    let short = |type_: &str, under: bool, what: &str, resource: &str| {
        let (reason, message) = if under {
            (
                format!("KubeletHas{resource}"),
                format!("kubelet has {what}"),
            )
        } else {
            (
                format!("KubeletHas{}", no_pressure(type_)),
                format!("kubelet has {}", no_pressure_text(type_)),
            )
        };
        make(type_, under, &reason, message)
    };
    vec![
        short(
            "MemoryPressure",
            memory,
            "insufficient memory available",
            "InsufficientMemory",
        ),
        short("DiskPressure", disk, "disk pressure", "DiskPressure"),
        short(
            "PIDPressure",
            pids,
            "insufficient PID available",
            "InsufficientPID",
        ),
        match ready {
            Ok(()) => make(
                "Ready",
                true,
                "KubeletReady",
                "kubelet is posting ready status".to_owned(),
            ),
            Err(message) => make("Ready", false, "KubeletNotReady", message),
        },
    ]
}

fn no_pressure(type_: &str) -> &'static str {
    match type_ {
        "MemoryPressure" => "SufficientMemory",
        "DiskPressure" => "NoDiskPressure",
        _ => "SufficientPID",
    }
}

fn no_pressure_text(type_: &str) -> &'static str {
    match type_ {
        "MemoryPressure" => "sufficient memory available",
        "DiskPressure" => "no disk pressure",
        _ => "sufficient PID available",
    }
}

/// Writes the status whenever it changes or somebody else changed its conditions (as the node
/// lifecycle controller does with those of a node that was not heard of), and every five minutes,
/// for as long as it is polled.
pub(crate) async fn keep_status(cx: Arc<Context>, config: NodeConfig) {
    let api: Api<Node> = Api::all(cx.client.clone());
    let name = cx.settings.node_name.clone();
    cx.recorder
        .node(&name, Kind::Normal, "Starting", "Starting kubelet.");
    let mut written: Option<(Value, jiff::Timestamp)> = None;
    loop {
        let node = cx.node();
        let old = node.status.as_ref();
        let status = node_status(&cx, &config, old).await;
        let was_ready = is_ready(old);
        let is_ready = is_ready(Some(&status));
        let essence = essence(&status);
        let now = cx.clock.now();
        let due = match &written {
            Some((last, at)) => {
                *last != essence
                    || !shown(&status, old)
                    || now.duration_since(*at).as_secs() >= REPORT_SECONDS
            }
            None => true,
        };
        if due {
            let patch = patch(&status, old);
            match api
                .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(node) => {
                    cx.set_node(node);
                    written = Some((essence, now));
                    if was_ready != is_ready {
                        let state = if is_ready == Some(true) {
                            "Ready"
                        } else {
                            "NotReady"
                        };
                        let message = format!("Node {name} status is now: Node{state}");
                        cx.recorder
                            .node(&name, Kind::Normal, &format!("Node{state}"), message);
                    }
                }
                Err(error) => debug!(%error, "node status not written"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = cx.node_changed() => {}
        }
    }
}

/// Whether the API shows the conditions as they are.
fn shown(status: &NodeStatus, api: Option<&NodeStatus>) -> bool {
    let there = |own: &NodeCondition| {
        let mut all = api.iter().flat_map(|s| &s.conditions).flatten();
        all.any(|c| (&c.type_, &c.status, &c.reason) == (&own.type_, &own.status, &own.reason))
    };
    status.conditions.iter().flatten().all(there)
}

fn is_ready(status: Option<&NodeStatus>) -> Option<bool> {
    let conditions = status?.conditions.as_deref()?;
    Some(conditions.iter().find(|c| c.type_ == "Ready")?.status == "True")
}

/// The status without its heartbeats.
fn essence(status: &NodeStatus) -> Value {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
        condition.last_transition_time = None;
    }
    serde_json::to_value(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantities(all: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
        let pairs = all.iter();
        pairs
            .map(|(name, quantity)| ((*name).to_owned(), Quantity((*quantity).to_owned())))
            .collect()
    }

    #[test]
    fn pods_may_have_what_others_say_that_the_node_has_until_they_take_it_back() {
        let own = quantities(&[("cpu", "2"), ("memory", "1Gi")]);
        let mut old = NodeStatus {
            capacity: Some(quantities(&[
                ("cpu", "9"),
                ("example.com/dongle", "4"),
                ("hugepages-2Mi", "1Gi"),
                ("kubernetes.io/batch", "1"),
            ])),
            ..Default::default()
        };
        let with = quantities(&[("cpu", "2"), ("example.com/dongle", "4"), ("memory", "1Gi")]);
        assert_eq!(allocatable(&own, Some(&old)), with);
        assert_eq!(allocatable(&own, None), own);

        old.capacity = None;
        old.allocatable = Some(with);
        let status = NodeStatus {
            allocatable: Some(allocatable(&own, Some(&old))),
            ..Default::default()
        };
        assert_eq!(
            patch(&status, Some(&old)),
            json!({"status": {"allocatable": {"cpu": "2", "memory": "1Gi", "example.com/dongle": null}}})
        );
    }
}

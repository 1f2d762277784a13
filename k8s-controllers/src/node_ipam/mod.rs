//! Node IPAM: gives every node a range of pod addresses out of the cluster's.
//!
//! Mirrors upstream's range allocator (`pkg/controller/nodeipam/ipam`). [`cidr`] is the pure core.

mod cidr;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

pub use self::cidr::{Cidr, ParseCidrError};
use crate::{
    Error,
    common::context::Context,
    node_lifecycle::driver::node_reference,
    runtime::{
        Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler, Requeue, WorkQueue,
    },
};

/// The cluster's range of one family, and how much of it a node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterCidr {
    /// The range of the whole cluster.
    pub range: Cidr,
    /// The prefix length of a node's part; upstream's default is 24 for IPv4 and 64 for IPv6.
    pub node_mask: u8,
}

pub(crate) struct NodeIpam {
    client: Client,
    ranges: Vec<ClusterCidr>,
    nodes: Informer<Node>,
    /// What was given out and the informer does not show yet.
    given: Arc<Mutex<HashMap<ObjectKey, Vec<Cidr>>>>,
    events: EventRecorder,
}

/// The controller, its handlers in place. A single worker, so that no range is given out twice.
pub(crate) fn controller(context: &Context, ranges: Vec<ClusterCidr>) -> Controller<NodeIpam> {
    let reconciler = NodeIpam {
        client: context.client.clone(),
        ranges,
        nodes: context.informers.informer(),
        given: Arc::default(),
        events: context.events.clone(),
    };
    let queue = WorkQueue::new();
    let (adds, given) = (queue.clone(), reconciler.given.clone());
    let waiting = reconciler.nodes.clone();
    reconciler.nodes.add_handler(move |change| {
        use crate::runtime::Change;
        let node = change.object();
        let key = ObjectKey::of(&node.metadata);
        if matches!(change, Change::Deleted(_)) || !cidrs(node).is_empty() {
            given.lock().remove(&key);
        }
        match change {
            // A range has become free.
            Change::Deleted(_) => {
                for node in waiting.list().iter().filter(|node| cidrs(node).is_empty()) {
                    adds.add(ObjectKey::of(&node.metadata));
                }
            }
            _ if cidrs(node).is_empty() => adds.add(key),
            _ => {}
        }
    });
    let ready = reconciler.nodes.synced();
    Controller::new("node-ipam-controller", reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

/// The ranges that a node has.
fn cidrs(node: &Node) -> Vec<Cidr> {
    let Some(spec) = node.spec.as_ref() else {
        return Vec::new();
    };
    let many = spec.pod_cidrs.as_deref().unwrap_or_default();
    let one = spec.pod_cidr.as_ref().filter(|_| many.is_empty());
    many.iter()
        .chain(one)
        .filter_map(|text| text.parse().ok())
        .collect()
}

impl Reconciler for NodeIpam {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(node) = self.nodes.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        if !cidrs(&node).is_empty() || node.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::OnChange);
        }
        let chosen = {
            let mut given = self.given.lock();
            if let Some(before) = given.get(&key) {
                before.clone()
            } else {
                let mut used: HashSet<Cidr> = self
                    .nodes
                    .list()
                    .iter()
                    .flat_map(|node| cidrs(node))
                    .collect();
                used.extend(given.values().flatten().copied());
                let chosen: Option<Vec<Cidr>> = self
                    .ranges
                    .iter()
                    .map(|cluster| cluster.range.first_free(cluster.node_mask, &used))
                    .collect();
                let Some(chosen) = chosen else {
                    let message = format!("Node {} status is now: CIDRNotAvailable", key.name());
                    self.events.record_ref(
                        node_reference(&node),
                        EventType::Normal,
                        "CIDRNotAvailable",
                        message,
                    );
                    return Err(Error::NotYet("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range".to_owned()));
                };
                given.insert(key.clone(), chosen.clone());
                chosen
            }
        };
        let texts: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": texts.first(), "podCIDRs": texts},
        });
        let api = Api::<Node>::all(self.client.clone());
        match api
            .patch(
                key.name(),
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
        {
            Ok(_) => Ok(Requeue::OnChange),
            Err(error) => {
                // Whether it was written is not known; the next look at the node will show.
                let message = format!("Node {} status is now: CIDRAssignmentFailed", key.name());
                self.events.record_ref(
                    node_reference(&node),
                    EventType::Normal,
                    "CIDRAssignmentFailed",
                    message,
                );
                Err(error.into())
            }
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        matches!(error, Error::Api(_)) && error.is_expected()
    }
}

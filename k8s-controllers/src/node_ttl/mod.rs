//! How long kubelets may go by what they have read of Secrets and ConfigMaps: the larger the cluster, the longer.
//!
//! Mirrors upstream's `pkg/controller/ttl`: an annotation on each node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    Error,
    common::{context::Context, owner},
    error::unless_gone,
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The controller's name, and that of its identity.
pub(crate) const NAME: &str = "ttl-controller";
/// The annotation: seconds.
const TTL: &str = "node.alpha.kubernetes.io/ttl";

/// From how many nodes, up to how many, for how many seconds. They overlap, so that a cluster at a boundary does not
/// change its mind with each node.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

/// How large the cluster is, and what follows from it.
#[derive(Debug, Default)]
struct Size {
    nodes: usize,
    step: usize,
}

impl Size {
    fn grow(&mut self) {
        self.nodes += 1;
        if self.nodes > STEPS[self.step].1 {
            self.step += 1;
        }
    }

    fn shrink(&mut self) {
        self.nodes = self.nodes.saturating_sub(1);
        if self.nodes < STEPS[self.step].0 {
            self.step -= 1;
        }
    }

    fn seconds(&self) -> u32 {
        STEPS[self.step].2
    }
}

pub(crate) struct NodeTtls {
    client: Client,
    nodes: Informer<Node>,
    size: Arc<Mutex<Size>>,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<NodeTtls> {
    let nodes = context.informers.informer::<Node>();
    let size = Arc::new(Mutex::new(Size::default()));
    let queue = WorkQueue::new();
    let (adds, seen) = (queue.clone(), size.clone());
    nodes.add_handler(move |change| {
        let wanted = {
            let mut size = seen.lock();
            match change {
                Change::Added(_) => size.grow(),
                Change::Updated { .. } => {}
                Change::Deleted(_) => return size.shrink(),
            }
            size.seconds()
        };
        // Nodes tell of themselves often enough to be caught up with when the size changes.
        if !says(change.object(), wanted) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let ready = nodes.synced();
    let reconciler = NodeTtls {
        client: context.client.clone(),
        nodes,
        size,
    };
    Controller::new(NAME, reconciler, queue).wait_for(ready)
}

/// Whether the node is annotated with so many seconds.
fn says(node: &Node, seconds: u32) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    let told = annotations.and_then(|annotations| annotations.get(TTL));
    told.and_then(|told| told.parse().ok()) == Some(seconds)
}

impl Reconciler for NodeTtls {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let wanted = self.size.lock().seconds();
        let node = self.nodes.get(&key).filter(|node| !says(node, wanted));
        let Some(node) = node else {
            return Ok(Requeue::OnChange);
        };
        let patch = json!({"metadata": {"annotations": {TTL: wanted.to_string()}}});
        let api = Api::<Node>::all(self.client.clone());
        let (name, by) = (owner::name(&node.metadata), PatchParams::default());
        unless_gone(api.patch(name, &by, &Patch::Strategic(patch)).await)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundaries_of_sizes_overlap() {
        let mut size = Size::default();
        (0..100).for_each(|_| size.grow());
        assert_eq!(size.seconds(), 0);
        size.grow();
        assert_eq!(size.seconds(), 15);
        (0..11).for_each(|_| size.shrink());
        assert_eq!((size.nodes, size.seconds()), (90, 15));
        size.shrink();
        assert_eq!(size.seconds(), 0);
        (0..3000).for_each(|_| size.grow());
        assert_eq!(size.seconds(), 300);
    }
}

//! Whether pods may be driven off a node that is not ready: not while much of its zone is not. A pure core.
//!
//! Mirrors upstream's `ComputeZoneState`, with its defaults; see
//! <https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction>.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::health;

/// Upstream's `--unhealthy-zone-threshold`, in percent.
const TOO_MANY_PERCENT: usize = 55;
/// Up to so many nodes that are not ready are no disruption.
const FEW: usize = 2;
/// Upstream's `--large-cluster-size-threshold`: in a smaller zone nobody is driven off while it is disrupted.
const LARGE: usize = 50;

/// Whether pods may be driven off a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evict {
    Yes,
    /// They may, but rarely.
    Slowly,
    /// No more than they are already.
    NoMore,
    /// Not at all.
    No,
}

fn is_ready(node: &Node) -> bool {
    health::state(node, "Ready") == "True"
}

/// A region and a zone in it.
pub(super) type Zone = [Option<String>; 2];

/// The zone of a node.
pub(super) fn of(node: &Node) -> Zone {
    zone(node).map(|name| name.cloned())
}

fn zone(node: &Node) -> [Option<&String>; 2] {
    let label = |name: &str| node.metadata.labels.as_ref()?.get(name);
    [
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone"),
    ]
}

/// Whether pods may be driven off the node, that is one of `all`. When none is ready, the fault is more likely between us
/// and them; when most of a small zone are not, it is likely with what they share.
pub(crate) fn evict(node: &Node, all: &[Arc<Node>]) -> Evict {
    if !all.iter().any(|node| is_ready(node)) {
        return Evict::No;
    }
    let of_zone = all.iter().filter(|other| zone(other) == zone(node));
    let (mut size, mut lost) = (0, 0);
    for other in of_zone {
        size += 1;
        lost += usize::from(!is_ready(other));
    }
    let is_disrupted = lost > FEW && lost < size && lost * 100 >= size * TOO_MANY_PERCENT;
    match is_disrupted {
        true if size <= LARGE => Evict::NoMore,
        true => Evict::Slowly,
        false => Evict::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::health::tests::node, *};

    fn nodes(zone: &str, ready: usize, lost: usize) -> Vec<Arc<Node>> {
        let one = |state: &str| {
            let mut node = node(Some((state, "2026-01-01T00:00:00Z")));
            let zone = ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
            node.metadata.labels = Some([zone].into());
            Arc::new(node)
        };
        let lost = (0..lost).map(|_| one("Unknown"));
        lost.chain((0..ready).map(|_| one("True"))).collect()
    }

    #[test]
    fn a_small_zone_that_is_mostly_lost_keeps_its_pods() {
        let of_one = |ready, lost| {
            let all = nodes("a", ready, lost);
            evict(&all[0], &all)
        };
        assert_eq!(of_one(0, 3), Evict::No);
        assert_eq!(of_one(1, 2), Evict::Yes, "few");
        assert_eq!(of_one(3, 3), Evict::Yes, "half");
        assert_eq!(of_one(1, 3), Evict::NoMore);
        assert_eq!(of_one(20, 30), Evict::NoMore);
        assert_eq!(of_one(20, 31), Evict::Slowly, "large");
    }

    #[test]
    fn a_zone_is_judged_by_its_own_nodes() {
        let mut all = nodes("a", 1, 3);
        all.extend(nodes("b", 9, 1));
        all.extend(nodes("c", 0, 9));
        assert_eq!(evict(&all[0], &all), Evict::NoMore);
        assert_eq!(evict(&all[4], &all), Evict::Yes);
        // A zone of which nothing is heard is taken for lost, as long as others are not.
        assert_eq!(evict(&all[14], &all), Evict::Yes);
    }
}

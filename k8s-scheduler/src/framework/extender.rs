//! [`Extender`]: somebody outside who has a say.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use crate::snapshot::{NodeInfo, PodInfo};

/// What an [`Extender`] leaves of the nodes that fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// The nodes that it lets pass, some of those that it was asked about.
    pub nodes: Vec<String>,
    /// Why other nodes do not do.
    pub failed: BTreeMap<String, String>,
    /// The same, of nodes where evicting pods would not help either.
    pub unresolvable: BTreeMap<String, String>,
}

/// The pods that would be evicted from a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Victims {
    /// The pods, the most important first.
    pub pods: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    pub violations: i64,
}

/// The same, by the pods' UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VictimIds {
    /// The UIDs.
    pub uids: Vec<String>,
    /// How many of them a disruption budget protects.
    pub violations: i64,
}

/// Has a say in where pods go without being a plugin: typically another process, see
/// [`HttpExtender`](crate::HttpExtender).
///
/// Asked after the Filter plugins, one extender after the other, each about the nodes that are left; after
/// the Score plugins; when room is made by eviction; and, one at most, for binding.
///
/// # Concurrency
///
/// Calls may block: the driver makes them on a thread that may, with the snapshot as it was
/// when the cycle began. Cycles never overlap; bindings do.
pub trait Extender: Debug + Send + Sync + 'static {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Whether it wants to be asked about a pod.
    fn is_interested(&self, _pod: &PodInfo) -> bool {
        true
    }

    /// Whether pods are scheduled without it while it fails.
    fn is_ignorable(&self) -> bool {
        false
    }

    /// Which of these nodes do.
    ///
    /// # Errors
    ///
    /// A text fails the cycle, unless the extender is ignorable.
    fn filter(&self, _pod: &PodInfo, nodes: &[&NodeInfo]) -> Result<Filtered, String> {
        let nodes = nodes.iter().map(|n| n.name().to_owned()).collect();
        Ok(Filtered {
            nodes,
            ..Filtered::default()
        })
    }

    /// How often its scores count.
    fn weight(&self) -> i64 {
        1
    }

    /// How good nodes are, 0 to 10; those that are not listed count as 0.
    ///
    /// # Errors
    ///
    /// A text means that it has no say this time.
    fn prioritize(
        &self,
        _pod: &PodInfo,
        _nodes: &[&NodeInfo],
    ) -> Result<Vec<(String, i64)>, String> {
        Ok(Vec::new())
    }

    /// Whether it has a say in evictions.
    fn preempts(&self) -> bool {
        false
    }

    /// The nodes where room may be made, with the pods to evict: some of the nodes that it was asked about. Pods
    /// must be on their node.
    ///
    /// # Errors
    ///
    /// A text means that no room is made, unless the extender is ignorable.
    fn preempt(
        &self,
        _pod: &PodInfo,
        victims: &BTreeMap<String, Victims>,
    ) -> Result<BTreeMap<String, VictimIds>, String> {
        let ids = |victims: &Victims| VictimIds {
            uids: victims.pods.iter().map(|p| p.uid().to_owned()).collect(),
            violations: victims.violations,
        };
        Ok(victims.iter().map(|(n, v)| (n.clone(), ids(v))).collect())
    }

    /// Whether it binds the pods that it is interested in, in place of the Bind plugins and the driver.
    fn binds(&self) -> bool {
        false
    }

    /// Binds a pod to a node.
    ///
    /// # Errors
    ///
    /// A text takes the placement back, and the pod is tried again.
    fn bind(&self, _pod: &PodInfo, _node: &str) -> Result<(), String> {
        Err("it does not bind".into())
    }
}

const _: fn(&dyn Extender) = |_| {};

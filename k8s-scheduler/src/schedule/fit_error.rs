//! [`FitError`]: why a pod goes nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    framework::{ABSENT, Code, FITS, Status, StatusTable},
    snapshot::Snapshot,
};

/// Which nodes were ruled out, and why. Nodes that PreFilter narrowed away are not listed.
#[derive(Clone, Debug, Default)]
pub struct NodeStatuses {
    names: Arc<Vec<Arc<str>>>,
    codes: Vec<u32>,
    table: StatusTable,
}

impl NodeStatuses {
    pub(super) fn new(snapshot: &Snapshot, codes: Vec<u32>, table: StatusTable) -> Self {
        Self {
            names: snapshot.names().clone(),
            codes,
            table,
        }
    }

    /// One status for all nodes.
    pub(super) fn all(snapshot: &Snapshot, status: Status) -> Self {
        let mut table = StatusTable::default();
        let code = table.code(status);
        let there = |node: &crate::snapshot::NodeInfo| node.is_known();
        let nodes = snapshot.slots().iter();
        let codes = nodes
            .map(|n| if there(n) { code } else { ABSENT })
            .collect();
        Self::new(snapshot, codes, table)
    }

    /// No node is ruled out yet.
    pub(crate) fn none(snapshot: &Snapshot) -> Self {
        let codes = vec![ABSENT; snapshot.slots().len()];
        Self::new(snapshot, codes, StatusTable::default())
    }

    /// Rules a node out.
    pub(crate) fn set(&mut self, slot: usize, status: Status) {
        self.codes[slot] = self.table.code(status);
    }

    /// The nodes with their statuses.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Status)> {
        let pairs = self.names.iter().zip(&self.codes);
        pairs.filter_map(|(name, code)| Some((&**name, &**self.table.get(*code)?)))
    }

    /// The status of a node.
    pub fn get(&self, node: &str) -> Option<&Status> {
        self.iter()
            .find(|(name, _)| *name == node)
            .map(|(_, status)| status)
    }

    pub(crate) fn at(&self, slot: usize) -> Option<&Status> {
        Some(&**self.table.get(*self.codes.get(slot)?)?)
    }

    /// Whether no node was ruled out.
    pub fn is_empty(&self) -> bool {
        self.codes.iter().all(|code| matches!(*code, ABSENT | FITS))
    }

    /// How many nodes have each status.
    pub fn counts(&self) -> Vec<(&Status, usize)> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for code in &self.codes {
            *counts.entry(*code).or_default() += 1;
        }
        let counts = counts.into_iter();
        counts
            .filter_map(|(code, n)| Some((&**self.table.get(code)?, n)))
            .collect()
    }

    /// The reasons, each with the number of nodes that it holds for, sorted as upstream does.
    pub fn reasons(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (status, n) in self.counts() {
            for reason in &status.reasons {
                *counts.entry(reason).or_default() += n;
            }
        }
        // With their numbers, as text.
        let phrase = |(reason, n)| format!("{n} {reason}");
        let mut phrases: Vec<String> = counts.into_iter().map(phrase).collect();
        phrases.sort();
        phrases.join(", ")
    }
}

impl PartialEq for NodeStatuses {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |s: &Self| -> BTreeMap<String, Status> {
            s.iter().map(|(n, s)| (n.to_owned(), s.clone())).collect()
        };
        sorted(self) == sorted(other)
    }
}

impl Eq for NodeStatuses {}

/// Why a pod goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// No node fits. The text is the message of the pod's condition, as upstream words it.
    #[error("{}", describe(*.nodes, .statuses, .pre_filter.as_ref()))]
    Unschedulable {
        /// How many nodes there are.
        nodes: usize,
        /// Why each was ruled out.
        statuses: NodeStatuses,
        /// The verdict of a PreFilter plugin, if one rejected the pod on all nodes.
        pre_filter: Option<Status>,
    },
    /// A plugin failed. Try again.
    #[error("running plugin {plugin:?}: {}", reasons.join(", "))]
    Plugin {
        /// The plugin.
        plugin: &'static str,
        /// What it said.
        reasons: Vec<String>,
    },
    /// An extender failed. Try again.
    #[error("{text}")]
    Extender {
        /// The extender.
        extender: String,
        /// What it said.
        text: String,
    },
}

impl FitError {
    /// The plugins that turned the pod away.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        match self {
            FitError::Unschedulable {
                statuses,
                pre_filter,
                ..
            } => {
                let counts = statuses.counts();
                let nodes = counts.iter().map(|(status, _)| status.plugin);
                nodes.chain(pre_filter.iter().map(|s| s.plugin)).collect()
            }
            FitError::Plugin { plugin, .. } => BTreeSet::from([*plugin]),
            FitError::Extender { .. } => BTreeSet::new(),
        }
    }

    pub(super) fn plugin(status: &Status) -> Self {
        FitError::Plugin {
            plugin: status.plugin,
            reasons: status
                .reasons
                .iter()
                .map(|r| r.clone().into_owned())
                .collect(),
        }
    }

    /// A PreFilter plugin's verdict, on all nodes.
    pub(super) fn pre_filter(snapshot: &Snapshot, status: Status) -> Self {
        if status.code == Code::Error {
            return Self::plugin(&status);
        }
        FitError::Unschedulable {
            nodes: snapshot.len(),
            statuses: NodeStatuses::all(snapshot, status.clone()),
            pre_filter: Some(status),
        }
    }
}

fn describe(nodes: usize, statuses: &NodeStatuses, pre_filter: Option<&Status>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let reasons = match pre_filter {
        Some(status) => status.reasons.join(", "),
        None => statuses.reasons(),
    };
    let colon = if reasons.is_empty() { "" } else { ": " };
    format!("0/{nodes} nodes are available{colon}{reasons}.")
}

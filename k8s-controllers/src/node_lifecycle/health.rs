//! Whether a node is still heard from: a pure core.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition},
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};

use crate::runtime::{since, truncate};

/// How long a node may be quiet; upstream's `--node-monitor-grace-period` as it was until 1.32.
pub(crate) const GRACE: Duration = Duration::from_secs(40);
/// The same for a node that has never reported; upstream's `--node-startup-grace-period`.
pub(crate) const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// The node's condition of that type.
pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// The state of the node's condition of that type; empty when it has none.
pub(crate) fn state<'a>(node: &'a Node, kind: &str) -> &'a str {
    condition(node, kind).map_or("", |condition| &condition.status)
}

/// What was last heard from a node, and when by this process' clock. Clocks of nodes are not
/// trusted: only that something is new counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    /// Which node it is of: another one of its name begins anew.
    uid: Option<String>,
    heard: Timestamp,
    heartbeat: Option<Time>,
    renewed: Option<MicroTime>,
    /// Whether the pods of the node, now not ready, have been told.
    pub(crate) told: bool,
}

impl Health {
    /// The first look at a node.
    pub(crate) fn first(node: &Node, renewed: Option<&MicroTime>, now: Timestamp) -> Self {
        let ready = condition(node, "Ready");
        let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
        // One that has never reported is as old as it is.
        let heard = if ready.is_none() && renewed.is_none() {
            created.unwrap_or(now)
        } else {
            now
        };
        Health {
            uid: node.metadata.uid.clone(),
            heard,
            heartbeat: ready.and_then(|ready| ready.last_heartbeat_time.clone()),
            renewed: renewed.cloned(),
            told: false,
        }
    }

    /// Whether it is of this node.
    pub(crate) fn is_of(&self, node: &Node) -> bool {
        self.uid == node.metadata.uid
    }

    /// Another look. A new heartbeat or a renewed lease is a sign of life.
    pub(crate) fn look(&mut self, node: &Node, renewed: Option<&MicroTime>, now: Timestamp) {
        let heartbeat =
            condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
        if heartbeat.is_some() && heartbeat != self.heartbeat {
            self.heard = now;
        }
        if renewed.is_some() && renewed > self.renewed.as_ref() {
            self.heard = now;
            self.renewed = renewed.cloned();
        }
        self.heartbeat = heartbeat;
    }

    /// How long until the node counts as lost; `None` when it does.
    pub(crate) fn left(&self, node: &Node, now: Timestamp) -> Option<Duration> {
        let grace = if condition(node, "Ready").is_some() {
            GRACE
        } else {
            STARTUP_GRACE
        };
        grace
            .checked_sub(since(now, self.heard))
            .filter(|left| !left.is_zero())
    }
}

/// Turns the conditions of a lost node to `Unknown`. Gives the new conditions if that changes any.
pub(crate) fn lose(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions
            .iter_mut()
            .find(|condition| condition.type_ == kind)
        {
            None => {
                conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(Time(truncate(now))),
                });
                changed = true;
            }
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(truncate(now)));
                changed = true;
            }
            Some(_) => {}
        }
    }
    changed.then_some(conditions)
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::NodeStatus;

    use super::*;
    use crate::common::fixture::time;

    pub(crate) fn node(ready: Option<(&str, &str)>) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some("n".to_owned());
        node.metadata.creation_timestamp = Some(time("2026-01-01T00:00:00Z"));
        node.status = Some(NodeStatus {
            conditions: ready.map(|(status, heartbeat)| {
                vec![NodeCondition {
                    type_: "Ready".to_owned(),
                    status: status.to_owned(),
                    last_heartbeat_time: Some(time(heartbeat)),
                    ..Default::default()
                }]
            }),
            ..Default::default()
        });
        node
    }

    fn at(seconds: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap()
            + Duration::from_secs(seconds.unsigned_abs())
    }

    #[test]
    fn a_node_is_lost_40_s_after_its_last_sign_of_life() {
        let quiet = node(Some(("True", "2020-01-01T00:00:00Z")));
        let mut health = Health::first(&quiet, None, at(0));
        assert_eq!(health.left(&quiet, at(39)), Some(Duration::from_secs(1)));
        assert_eq!(health.left(&quiet, at(40)), None);
        // A heartbeat, whatever time it claims.
        health.look(&node(Some(("True", "2019-01-01T00:00:00Z"))), None, at(40));
        assert_eq!(health.left(&quiet, at(41)), Some(Duration::from_secs(39)));
        // A renewed lease, but not the same one twice.
        let renewed = MicroTime(at(70));
        health.look(&quiet, Some(&renewed), at(70));
        assert_eq!(health.left(&quiet, at(71)), Some(Duration::from_secs(39)));
    }

    #[test]
    fn a_node_that_never_reports_is_lost_a_minute_after_its_creation() {
        let silent = node(None);
        let health = Health::first(&silent, None, at(30));
        assert_eq!(health.left(&silent, at(30)), Some(Duration::from_secs(30)));
        assert_eq!(health.left(&silent, at(60)), None);
        let conditions = lose(&silent, at(60)).unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(
            conditions
                .iter()
                .all(|c| c.reason.as_deref() == Some("NodeStatusNeverUpdated"))
        );
    }

    #[test]
    fn another_node_of_the_name_begins_anew() {
        let mut before = node(None);
        before.metadata.uid = Some("1".to_owned());
        let health = Health::first(&before, None, at(0));
        assert!(health.is_of(&before));
        let mut after = before.clone();
        after.metadata.uid = Some("2".to_owned());
        assert!(!health.is_of(&after));
    }

    #[test]
    fn a_lost_node_is_marked_once() {
        let mut quiet = node(Some(("True", "2026-01-01T00:00:00Z")));
        let conditions = lose(&quiet, at(40)).unwrap();
        assert_eq!(
            conditions[0].message.as_deref(),
            Some("Kubelet stopped posting node status.")
        );
        quiet.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(lose(&quiet, at(80)), None);
    }
}

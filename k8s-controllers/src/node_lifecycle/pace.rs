//! [`Pace`]: how fast pods are driven off nodes, one node after the other in each zone. A pure core.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use super::zones::{self, Evict, Zone};

/// One node in so long: upstream's `--node-eviction-rate`, 0.1 a second.
const USUAL: Duration = Duration::from_secs(10);
/// The same in a large zone that is mostly lost: upstream's `--secondary-node-eviction-rate`, 0.01 a second.
const SLOW: Duration = Duration::from_secs(100);

/// Whose turn it was last, by zone.
#[derive(Debug, Default)]
pub(crate) struct Pace(HashMap<Zone, Turn>);

#[derive(Debug)]
struct Turn {
    node: String,
    at: Timestamp,
}

impl Pace {
    /// Gives a node its turn to have its pods driven off; it keeps it if that fails.
    ///
    /// # Errors
    /// Says how long it has to wait.
    pub(crate) fn turn(
        &mut self,
        node: &Node,
        evict: Evict,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let every = match evict {
            Evict::Yes => USUAL,
            Evict::Slowly => SLOW,
            Evict::NoMore | Evict::No => return Ok(()),
        };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let zone = zones::of(node);
        if let Some(last) = self.0.get(&zone).filter(|last| last.node != name) {
            // A clock that was set back makes nobody wait longer.
            let since = Duration::try_from(now.duration_since(last.at)).unwrap_or(every);
            let left = every.saturating_sub(since);
            if !left.is_zero() {
                return Err(left);
            }
        }
        let node = name.to_owned();
        self.0.insert(zone, Turn { node, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        let zone = ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        node.metadata.labels = Some([zone].into());
        node
    }

    #[test]
    fn nodes_of_a_zone_have_their_turns_one_after_the_other() {
        let mut pace = Pace::default();
        let mut turn = |name: &str, zone: &str, evict: Evict, at: i64| {
            let now = Timestamp::from_second(at).unwrap();
            let turn = pace.turn(&node(name, zone), evict, now);
            turn.map_err(|left| left.as_secs())
        };
        assert_eq!(turn("1", "a", Evict::Yes, 0), Ok(()));
        assert_eq!(turn("1", "a", Evict::Yes, 0), Ok(()), "it failed");
        assert_eq!(turn("2", "a", Evict::Yes, 4), Err(6));
        assert_eq!(turn("3", "b", Evict::Yes, 4), Ok(()), "another zone");
        assert_eq!(turn("2", "a", Evict::Yes, 10), Ok(()));
        assert_eq!(turn("4", "a", Evict::Yes, 10), Err(10));
        assert_eq!(turn("4", "a", Evict::Slowly, 30), Err(80));
        assert_eq!(turn("4", "a", Evict::Slowly, 110), Ok(()));
        assert_eq!(turn("5", "a", Evict::NoMore, 110), Ok(()), "it has none");
        assert_eq!(turn("5", "a", Evict::Yes, 50), Ok(()), "set back");
    }
}

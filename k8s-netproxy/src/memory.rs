//! [`MemoryDataplane`]: rules that are only remembered.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Dataplane, Error, RuleSet};

/// Keeps the rules for others to look at: for tests, and for nodes that carry no traffic.
#[derive(Debug)]
pub struct MemoryDataplane {
    rules: watch::Sender<RuleSet>,
}

impl Default for MemoryDataplane {
    fn default() -> Self {
        Self {
            rules: watch::Sender::new(RuleSet::default()),
        }
    }
}

impl MemoryDataplane {
    /// Follows the rules: wait on it for the state that a test expects.
    pub fn subscribe(&self) -> watch::Receiver<RuleSet> {
        self.rules.subscribe()
    }
}

#[async_trait]
impl Dataplane for MemoryDataplane {
    async fn apply(&mut self, rules: &RuleSet) -> Result<(), Error> {
        self.rules.send_if_modified(|current| {
            let changed = current != rules;
            if changed {
                current.clone_from(rules);
            }
            changed
        });
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), Error> {
        self.rules.send_replace(RuleSet::default());
        Ok(())
    }
}

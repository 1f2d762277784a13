//! Who watches what.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use crate::{Change, WatchBatch};

/// The writer's end of one watch.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) sender: Sender<WatchBatch>,
    /// Tells the reader why its channel ended.
    pub(crate) lagged: Arc<AtomicBool>,
}

/// All watchers by the prefix that they watch.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    watchers: BTreeMap<Bytes, Vec<Watcher>>,
    len: usize,
    /// Look for watchers that went away once there are so many.
    sweep_at: usize,
}

impl Registry {
    pub(crate) fn add(&mut self, prefix: Bytes, watcher: Watcher) {
        if self.len >= self.sweep_at {
            self.sweep();
        }
        self.watchers.entry(prefix).or_default().push(watcher);
        self.len += 1;
    }

    /// Forgets watchers whose reader is gone. Otherwise only a change below
    /// their prefix would show that, and it may never come.
    fn sweep(&mut self) {
        self.watchers.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.sender.is_closed());
            !watchers.is_empty()
        });
        self.len = self.watchers.values().map(Vec::len).sum();
        self.sweep_at = 64.max(2 * self.len);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Hands a batch to everybody whom it concerns, without waiting for anybody.
    pub(crate) fn notify(&mut self, batch: &WatchBatch) {
        if self.len == 0 {
            return;
        }
        let mut prefixes = BTreeSet::new();
        for change in batch.changes.iter() {
            self.matches(&change.key, |prefix| {
                prefixes.insert(prefix.clone());
            });
        }
        for prefix in prefixes {
            let Some(batch) = below(batch, &prefix) else {
                continue;
            };
            let Some(watchers) = self.watchers.get_mut(&prefix) else {
                continue;
            };
            let before = watchers.len();
            watchers.retain(|watcher| match watcher.sender.try_send(batch.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    watcher.lagged.store(true, Ordering::Release);
                    false
                }
                Err(TrySendError::Closed(_)) => false,
            });
            self.len -= before - watchers.len();
            if watchers.is_empty() {
                self.watchers.remove(&prefix);
            }
        }
    }

    /// Visits every watched prefix of the key, the longest first.
    ///
    /// The greatest prefix that is not greater than the key either is a prefix
    /// of it, or all that are lie at or before what the two have in common.
    fn matches(&self, key: &[u8], mut visit: impl FnMut(&Bytes)) {
        let mut upper = Bound::Included(key);
        while let Some((prefix, _)) = self
            .watchers
            .range::<[u8], _>((Bound::Unbounded, upper))
            .next_back()
        {
            if key.starts_with(prefix) {
                visit(prefix);
                upper = Bound::Excluded(&key[..prefix.len()]);
            } else {
                let common = key.iter().zip(prefix).take_while(|(a, b)| a == b).count();
                upper = Bound::Included(&key[..common]);
            }
        }
    }
}

/// The part of a batch below a prefix, if there is any.
pub(crate) fn below(batch: &WatchBatch, prefix: &[u8]) -> Option<WatchBatch> {
    let matching = |change: &&Change| change.key.starts_with(prefix);
    let count = batch.changes.iter().filter(matching).count();
    if count == 0 {
        return None;
    }
    if count == batch.changes.len() {
        return Some(batch.clone());
    }
    Some(WatchBatch {
        revision: batch.revision,
        changes: batch.changes.iter().filter(matching).cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    fn short() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![b'a', b'b', 0xff]), 0..6)
    }

    proptest! {
        #[test]
        fn finds_every_watched_prefix_of_a_key(
            prefixes in prop::collection::btree_set(short(), 0..40),
            key in short(),
        ) {
            let mut registry = Registry::default();
            for prefix in &prefixes {
                let watcher = Watcher { sender: mpsc::channel(1).0, lagged: Arc::default() };
                registry.watchers.insert(Bytes::copy_from_slice(prefix), vec![watcher]);
            }
            let mut found = Vec::new();
            registry.matches(&key, |prefix| found.push(prefix.to_vec()));
            let wanted: Vec<_> = prefixes.iter().rev().filter(|p| key.starts_with(p)).cloned().collect();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn watchers_that_went_away_do_not_pile_up() {
        let mut registry = Registry::default();
        for n in 0..10_000u32 {
            let (sender, _) = mpsc::channel(1);
            let prefix = Bytes::copy_from_slice(&n.to_be_bytes());
            registry.add(
                prefix,
                Watcher {
                    sender,
                    lagged: Arc::default(),
                },
            );
        }
        assert!(registry.len <= 128, "{}", registry.len);
    }
}

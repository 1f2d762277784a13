//! [`Expectations`]: what a controller has asked for and not yet seen.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ObjectKey;

/// After this long an expectation no longer holds anything back; upstream's `ExpectationsTimeout`.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What a controller has asked for and its informer has not yet shown.
///
/// Between a successful create and the watch event that tells of it, the informer's view is known
/// to be stale: acting on it would create too much. A controller notes what it is about to do,
/// the informer's handlers strike it out, and until then the controller only reports status.
/// Mirrors upstream's `UIDTrackingControllerExpectations`; deletions are told apart by UID,
/// because a pod's deletion shows up twice, as an update with a deletion timestamp and as the end.
#[derive(Debug, Default)]
pub struct Expectations {
    entries: Mutex<HashMap<ObjectKey, Entry>>,
}

#[derive(Debug)]
struct Entry {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Nothing expected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `count` objects are about to be created for `key`. Replaces what was there.
    pub fn expect_creations(&self, key: &ObjectKey, count: usize) {
        let entry = Entry {
            creations: count,
            deletions: HashSet::new(),
            since: Instant::now(),
        };
        self.entries.lock().insert(key.clone(), entry);
    }

    /// Notes that the objects with these UIDs are about to be deleted for `key`. Replaces what
    /// was there.
    pub fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        let entry = Entry {
            creations: 0,
            deletions: uids.into_iter().collect(),
            since: Instant::now(),
        };
        self.entries.lock().insert(key.clone(), entry);
    }

    /// A creation for `key` has been seen, or will never be.
    pub fn creation_observed(&self, key: &ObjectKey) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.creations = entry.creations.saturating_sub(1);
        }
    }

    /// The deletion of the object with this UID has been seen, or will never be.
    pub fn deletion_observed(&self, key: &ObjectKey, uid: &str) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.deletions.remove(uid);
        }
    }

    /// Whether the controller may act on what it sees: all that was expected has been seen, or it
    /// has been waited for too long.
    pub fn satisfied(&self, key: &ObjectKey) -> bool {
        self.entries.lock().get(key).is_none_or(|entry| {
            (entry.creations == 0 && entry.deletions.is_empty()) || entry.since.elapsed() > TIMEOUT
        })
    }

    /// Forgets `key`, whose object is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.entries.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn hold_back_until_all_is_seen_or_five_minutes_have_passed() {
        let expectations = Expectations::new();
        let key = ObjectKey::new("default", "web");
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        assert!(expectations.satisfied(&key));

        expectations.expect_deletions(&key, ["u1".to_owned(), "u2".to_owned()]);
        expectations.deletion_observed(&key, "u1");
        expectations.deletion_observed(&key, "u1");
        assert!(
            !expectations.satisfied(&key),
            "one deletion seen twice is one deletion"
        );
        tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }
}

//! [`Memory`]: answers that are good for a while.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many answers of the API are remembered.
const MOST: usize = 1024;

/// What the API said, and until when it is good.
#[derive(Debug)]
pub(super) struct Memory<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock();
        let (until, value) = known.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V, good: Duration) {
        let now = Instant::now();
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| *until > now);
        }
        // All of it is fresh: somebody floods it, and asking again is what that costs.
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (now + good, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_forgotten_in_time_and_never_grows_without_bound() {
        let memory = Memory::default();
        memory.put(0, "old", Duration::from_secs(1));
        memory.put(1, "new", Duration::from_secs(9));
        assert_eq!(memory.get(&0), Some("old"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((memory.get(&0), memory.get(&1)), (None, Some("new")));
        for key in 2..=MOST {
            memory.put(key, "more", Duration::from_secs(9));
        }
        assert_eq!(memory.0.lock().len(), MOST);
        assert_eq!(memory.get(&1), Some("new"));
        memory.put(MOST + 1, "last", Duration::from_secs(9));
        assert_eq!(memory.0.lock().len(), 1);
    }
}

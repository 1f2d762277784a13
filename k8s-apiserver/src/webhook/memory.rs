//! [`Memory`]: what a webhook, or an authorizer, has said, for a while.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many answers are kept; as upstream.
const MOST: usize = 8192;

/// Answers by what was asked, each for its own time.
#[derive(Debug)]
pub(crate) struct Memory<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Eq + Hash + Clone, V: Clone> Memory<K, V> {
    pub(crate) fn new() -> Self {
        Memory(Mutex::default())
    }

    /// The answer, if it is not too old.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock();
        let (value, until) = known.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    /// Keeps an answer. When there are too many, those that are too old go; if none is, those that would be next.
    pub(crate) fn put(&self, key: K, value: V, time: Duration) {
        if time.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= MOST {
            let mut ends: Vec<Instant> = known.values().map(|(_, until)| *until).collect();
            let (_, middle, _) = ends.select_nth_unstable(MOST / 4);
            let middle = *middle;
            known.retain(|_, (_, until)| *until > middle);
        }
        known.insert(key, (value, now + time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_forgotten_in_time_and_never_too_many() {
        let memory = Memory::new();
        memory.put("a".to_owned(), 1, Duration::from_secs(10));
        memory.put("b".to_owned(), 2, Duration::ZERO);
        assert_eq!(memory.get(&"a".to_owned()), Some(1));
        assert_eq!(memory.get(&"b".to_owned()), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(memory.get(&"a".to_owned()), None);
        for n in 0..MOST * 3 {
            let time = Duration::from_millis(60_000 + n as u64);
            memory.put(n.to_string(), n as u64, time);
        }
        assert!(memory.0.lock().len() <= MOST);
        assert_eq!(
            memory.get(&(MOST * 3 - 1).to_string()),
            Some(MOST as u64 * 3 - 1)
        );
    }
}

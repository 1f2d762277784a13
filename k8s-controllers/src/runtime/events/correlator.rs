//! What client-go's `EventCorrelator` does: fold similar events, count repeated ones, hold back
//! floods.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::Duration,
};

use k8s_openapi::api::core::v1::Event;
use tokio::time::Instant;

use crate::runtime::rate_limit::Bucket;

/// Distinct messages of otherwise equal events before they are folded into one.
const MAX_SIMILAR: usize = 10;
/// How long such events count together.
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// How many keys each table keeps.
const TABLE: usize = 4096;
/// A source may send this many events about one object in a burst,
const SPAM_BURST: u32 = 25;
/// and this many per second over time.
const SPAM_PER_SECOND: f64 = 1.0 / 300.0;

#[derive(Debug)]
pub(super) enum Outcome {
    /// A new event.
    Create(Box<Event>),
    /// One more of an event that was sent before.
    Update(Box<Event>),
    /// Not to be sent.
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    similar: Table<String, Similar>,
    seen: Table<String, Seen>,
    spam: Table<String, Bucket>,
}

struct Similar {
    messages: HashSet<String>,
    last: Instant,
}

struct Seen {
    event: Event,
}

impl Correlator {
    pub(super) fn correlate(&mut self, event: Event, now: Instant) -> Outcome {
        let (event, key) = self.aggregate(event, now);
        let (event, known) = self.count(event, &key);
        let source = source_key(&event);
        let bucket = self
            .spam
            .entry(source, now, || Bucket::new(SPAM_PER_SECOND, SPAM_BURST));
        if !bucket.try_take(now) {
            return Outcome::Drop;
        }
        self.seen.insert(
            key,
            Seen {
                event: event.clone(),
            },
            now,
        );
        if known {
            Outcome::Update(Box::new(event))
        } else {
            Outcome::Create(Box::new(event))
        }
    }

    /// Remembers the name under which the server knows an event.
    pub(super) fn written(&mut self, event: &Event) {
        if let Some(seen) = self.seen.get_mut(&full_key(event)) {
            seen.event.metadata.name = event.metadata.name.clone();
        }
    }

    /// More than [`MAX_SIMILAR`] events that differ only in their message become one event.
    fn aggregate(&mut self, mut event: Event, now: Instant) -> (Event, String) {
        let similar_key = similar_key(&event);
        let message = event.message.clone().unwrap_or_default();
        let similar = self.similar.entry(similar_key.clone(), now, || Similar {
            messages: HashSet::new(),
            last: now,
        });
        if now.duration_since(similar.last) > SIMILAR_WINDOW {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() + 1 < MAX_SIMILAR || similar.messages.contains(&message) {
            similar.messages.insert(message);
            let key = full_key(&event);
            return (event, key);
        }
        event.message = Some(format!("(combined from similar events): {message}"));
        (event, similar_key)
    }

    /// An event that was sent before becomes an update of it.
    fn count(&mut self, mut event: Event, key: &str) -> (Event, bool) {
        let Some(seen) = self.seen.get(key) else {
            return (event, false);
        };
        event.metadata.name = seen.event.metadata.name.clone();
        event.first_timestamp = seen.event.first_timestamp.clone();
        event.count = Some(seen.event.count.unwrap_or(1) + 1);
        (event, true)
    }
}

fn source_key(event: &Event) -> String {
    let object = &event.involved_object;
    let source = event.source.clone().unwrap_or_default();
    [
        source.component,
        source.host,
        object.kind.clone(),
        object.namespace.clone(),
        object.name.clone(),
        object.uid.clone(),
        object.api_version.clone(),
    ]
    .map(Option::unwrap_or_default)
    .join("\u{0}")
}

fn similar_key(event: &Event) -> String {
    let parts = [
        event.involved_object.field_path.clone(),
        event.type_.clone(),
        event.reason.clone(),
        event.reporting_component.clone(),
    ];
    format!(
        "{}\u{0}{}",
        source_key(event),
        parts.map(Option::unwrap_or_default).join("\u{0}")
    )
}

fn full_key(event: &Event) -> String {
    format!(
        "{}\u{0}{}",
        similar_key(event),
        event.message.as_deref().unwrap_or_default()
    )
}

/// A map that forgets its oldest half when it is full.
struct Table<K, V> {
    entries: HashMap<K, (Instant, V)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table {
            entries: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash + Clone, V> Table<K, V> {
    fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    fn insert(&mut self, key: K, value: V, now: Instant) {
        self.make_room(&key);
        self.entries.insert(key, (now, value));
    }

    fn entry(&mut self, key: K, now: Instant, value: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        let entry = self.entries.entry(key).or_insert_with(|| (now, value()));
        entry.0 = now;
        &mut entry.1
    }

    fn make_room(&mut self, key: &K) {
        if self.entries.len() < TABLE || self.entries.contains_key(key) {
            return;
        }
        let mut times: Vec<Instant> = self.entries.values().map(|(at, _)| *at).collect();
        times.sort();
        let middle = times[times.len() / 2];
        self.entries.retain(|_, (at, _)| *at > middle);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn event(name: &str, message: &str) -> Event {
        let mut event = Event {
            involved_object: ObjectReference {
                name: Some("web".to_owned()),
                ..Default::default()
            },
            reason: Some("SuccessfulCreate".to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            ..Default::default()
        };
        event.metadata.name = Some(name.to_owned());
        event
    }

    #[test]
    fn a_repeated_event_is_counted() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        assert!(matches!(
            correlator.correlate(event("e1", "x"), now),
            Outcome::Create(_)
        ));
        let Outcome::Update(second) = correlator.correlate(event("e2", "x"), now) else {
            panic!()
        };
        assert_eq!(
            (second.count, second.metadata.name.as_deref()),
            (Some(2), Some("e1"))
        );
        let Outcome::Update(third) = correlator.correlate(event("e3", "x"), now) else {
            panic!()
        };
        assert_eq!(third.count, Some(3));
    }

    #[test]
    fn the_tenth_similar_event_is_folded() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        for i in 0..9 {
            let Outcome::Create(event) = correlator.correlate(event("e", &format!("m{i}")), now)
            else {
                panic!()
            };
            assert_eq!(event.message, Some(format!("m{i}")));
        }
        let Outcome::Create(folded) = correlator.correlate(event("e", "m9"), now) else {
            panic!()
        };
        assert_eq!(
            folded.message.as_deref(),
            Some("(combined from similar events): m9")
        );
        let Outcome::Update(folded) = correlator.correlate(event("e", "m10"), now) else {
            panic!()
        };
        assert_eq!(folded.count, Some(2));
    }

    #[test]
    fn a_flood_about_one_object_is_held_back() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        let sent = (0..100)
            .filter(|_| !matches!(correlator.correlate(event("e", "x"), now), Outcome::Drop))
            .count();
        assert_eq!(sent, 25);
        let later = now + Duration::from_secs(301);
        assert!(!matches!(
            correlator.correlate(event("e", "x"), later),
            Outcome::Drop
        ));
    }
}

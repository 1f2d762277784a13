//! Flow control: which requests are served when more come than can be.
//!
//! API Priority and Fairness (KEP-1040): FlowSchemas sort requests into priority levels; each level has some of the
//! server's seats, and queues for those who find none free. A request takes one seat or, if it lists much, up to ten
//! (fewer where its level has few), until its answer has been made; a watch until it has begun. Connections and logs are
//! not counted, and the level `exempt` has no limit. See <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>.
//!
//! What differs from upstream: a change that must be told to many watchers occupies a seat for five microseconds per
//! watcher, since it is encoded once for all of them; and the exempt level lends no seats.

mod borrow;
mod config;
mod defaults;
mod demand;
mod dropped;
mod dump;
mod in_flight;
mod queues;
mod roll;
mod rules;
mod seats;
mod shard;
mod stats;
mod upkeep;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use self::dump::Dump;
pub use self::in_flight::MaxInFlight;
use self::{
    config::{Flows, Levels, Schema, Table},
    in_flight::{Counted, InFlight},
    queues::{Entry, Refused, Seats, Want},
    roll::{Present, Stage},
};
use crate::{auth::Identity, http::RequestInfo, registry::Row};

/// How long a request waits for a seat: a quarter of what it may take in all, as upstream.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");

/// Decides about every request.
#[derive(Debug)]
pub(crate) struct FlowControl {
    in_flight: InFlight,
    /// None where there are only the plain limits.
    fairness: Option<ArcSwap<Table>>,
    levels: Mutex<Levels>,
    /// How many objects there are below a prefix, as of a minute ago at most.
    stored: ArcSwap<HashMap<String, usize>>,
}

/// A request that is being served until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    /// With the number that the request has on its roll.
    schema: Option<(Arc<Schema>, usize)>,
    since: Instant,
    _seats: Option<Seats>,
    _counted: Counted,
}

/// A request that is not served.
#[derive(Debug)]
pub(crate) struct Rejected {
    schema: Option<Arc<Schema>>,
    /// When it may come again.
    retry_after: Duration,
}

impl FlowControl {
    pub(crate) fn new(limits: MaxInFlight, fair: bool) -> Self {
        let total = limits.reading + limits.mutating;
        // Without a limit there is nothing to share out.
        let fair = fair && limits.reading > 0 && limits.mutating > 0;
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let mut levels = Levels::new(total);
        let table = levels.digest(std::iter::empty(), std::iter::empty());
        FlowControl {
            in_flight: InFlight::new(if fair {
                MaxInFlight {
                    reading: 0,
                    mutating: 0,
                }
            } else {
                limits
            }),
            fairness: fair.then(|| ArcSwap::from_pointee(table)),
            levels: Mutex::new(levels),
            stored: ArcSwap::default(),
        }
    }

    /// Whether there are priority levels, and not only limits for all.
    pub(crate) fn is_fair(&self) -> bool {
        self.fairness.is_some()
    }

    /// Lets a request in, perhaps after a while.
    pub(crate) async fn enter(
        &self,
        user: &Identity,
        info: &RequestInfo,
        parts: &Parts,
        row: Option<&Row>,
    ) -> Result<Pass, Rejected> {
        let Some(counted) = self.in_flight.enter(user, info) else {
            return Err(Rejected::without_schema());
        };
        let Some(table) = &self.fairness else {
            return Ok(Pass {
                schema: None,
                since: Instant::now(),
                _seats: None,
                _counted: counted,
            });
        };
        let Some(schema) = table.load().classify(user, info) else {
            return Err(Rejected::without_schema());
        };
        let now = Instant::now();
        let mut present = Present {
            user: user.name.as_str().into(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            arrived: now,
            seats: 1,
            linger: Duration::ZERO,
            stage: Stage::Served {
                queue: None,
                since: now,
            },
        };
        let (seats, place) = match &schema.level.queues {
            None => (None, schema.stats.roll.enter(present)),
            Some(queues) => {
                let flow = match schema.flows {
                    Flows::One => "",
                    Flows::ByUser => user.name.as_str(),
                    Flows::ByNamespace => info.namespace.as_str(),
                };
                let stored = || row.and_then(|row| self.stored.load().get(&row.prefix).copied());
                let want = Want {
                    flow: shard::flow(&schema.name, flow),
                    seats: match info.verb.as_str() {
                        "list" | "watch" => seats::seats(info, parts.uri.query(), stored()),
                        _ => 1,
                    },
                    linger: row.map_or(Duration::ZERO, |row| seats::linger(info, row.watchers())),
                };
                present.linger = want.linger;
                match queues.enter(want) {
                    Entry::Seated(seats) => {
                        schema.stats.waited.observe(0.0, &stats::BOUNDS);
                        present.seats = seats.count();
                        present.stage = Stage::Served {
                            queue: seats.queue(),
                            since: now,
                        };
                        (Some(seats), schema.stats.roll.enter(present))
                    }
                    Entry::Queued(place) => {
                        (present.seats, present.stage) = (place.seats(), place.stage());
                        match wait(&schema, place, present).await {
                            Ok((seats, place)) => (Some(seats), place),
                            Err(_) => return Err(Rejected::of(schema)),
                        }
                    }
                    Entry::Refused(reason) => {
                        schema.stats.refuse(Some(reason));
                        schema.stats.waited_in_vain.observe(0.0, &stats::BOUNDS);
                        return Err(Rejected::of(schema));
                    }
                }
            }
        };
        schema.stats.dispatched.fetch_add(1, Ordering::Relaxed);
        schema.stats.executing.fetch_add(1, Ordering::Relaxed);
        Ok(Pass {
            schema: Some((schema, place)),
            since: Instant::now(),
            _seats: seats,
            _counted: counted,
        })
    }

    /// How many requests are being served that are not long: those that only read, and all others.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        self.in_flight.now()
    }
}

/// Waits in a queue, and counts that. Says also which number the request has on its roll.
async fn wait(
    schema: &Schema,
    place: queues::Place,
    present: Present,
) -> Result<(Seats, usize), Refused> {
    struct Counting<'a> {
        schema: &'a Schema,
        /// The number of the request on its roll, until it is somebody else's to take it off.
        number: Option<usize>,
        has_ended: bool,
    }
    impl Drop for Counting<'_> {
        fn drop(&mut self) {
            let stats = &self.schema.stats;
            stats.waiting.fetch_sub(1, Ordering::Relaxed);
            if let Some(number) = self.number {
                stats.roll.leave(number);
            }
            if !self.has_ended {
                stats.refuse(None);
            }
        }
    }
    let since = Instant::now();
    schema.stats.waiting.fetch_add(1, Ordering::Relaxed);
    let number = schema.stats.roll.enter(present);
    let mut counting = Counting {
        schema,
        number: Some(number),
        has_ended: false,
    };
    let seats = place.wait(LONGEST_WAIT).await;
    counting.has_ended = true;
    let waited = since.elapsed().as_secs_f64();
    match seats {
        Ok(seats) => {
            schema.stats.waited.observe(waited, &stats::BOUNDS);
            schema.stats.roll.served(number, seats.queue());
            counting.number = None;
            Ok((seats, number))
        }
        Err(reason) => {
            schema.stats.refuse(Some(reason));
            schema.stats.waited_in_vain.observe(waited, &stats::BOUNDS);
            Err(reason)
        }
    }
}

impl Table {
    /// The first schema that fits; the last one if none does.
    fn classify(&self, user: &Identity, info: &RequestInfo) -> Option<Arc<Schema>> {
        let found = (self.schemas.iter()).find(|schema| rules::fits(&schema.spec, user, info));
        found.or(self.schemas.last()).cloned()
    }
}

impl Pass {
    /// Tells the client how its request was classified.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        mark(self.schema.as_ref().map(|(schema, _)| &**schema), headers);
    }
}

impl Rejected {
    /// By the limits that all requests share.
    fn without_schema() -> Self {
        Rejected {
            schema: None,
            retry_after: Duration::from_secs(1),
        }
    }

    fn of(schema: Arc<Schema>) -> Self {
        Rejected {
            retry_after: schema.level.dropped.count(),
            schema: Some(schema),
        }
    }

    /// Tells the client how its request was classified, and when it may come again.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let seconds = HeaderValue::from(self.retry_after.as_secs());
        headers.insert(header::RETRY_AFTER, seconds);
        mark(self.schema.as_deref(), headers);
    }
}

/// UIDs, not names: those are not everybody's business.
fn mark(schema: Option<&Schema>, headers: &mut HeaderMap) {
    let Some(schema) = schema else { return };
    for (name, uid) in [(LEVEL_UID, &schema.level.uid), (SCHEMA_UID, &schema.uid)] {
        if let Some(uid) = uid {
            headers.insert(name, uid.clone());
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((schema, number)) = &self.schema {
            schema.stats.roll.leave(*number);
            schema.stats.executing.fetch_sub(1, Ordering::Relaxed);
            let took = self.since.elapsed().as_secs_f64();
            schema.stats.took.observe(took, &stats::BOUNDS);
        }
    }
}

pub(crate) use self::upkeep::{count, make, start};

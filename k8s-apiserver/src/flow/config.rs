//! What the stored FlowSchemas and PriorityLevelConfigurations say, made ready for requests.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderValue;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, LimitResponse, LimitedPriorityLevelConfiguration,
    PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
};

use super::{
    borrow::{self, Claim},
    defaults,
    demand::Demand,
    dropped::Dropped,
    queues::{QueueSet, Queuing},
    seats,
    stats::{LevelStats, SchemaStats},
};
use crate::compat;

/// The part of a level's seats that one request may take; as upstream.
const MOST_PART: f64 = 0.15;

/// What a request is classified by: the schemas in the order in which they are tried.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) schemas: Vec<Arc<Schema>>,
}

/// A FlowSchema.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(super) name: String,
    /// The value of a header; none where there is no such object.
    pub(super) uid: Option<HeaderValue>,
    pub(super) spec: FlowSchemaSpec,
    pub(super) flows: Flows,
    pub(super) level: Arc<Level>,
    pub(super) stats: Arc<SchemaStats>,
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flows {
    #[default]
    One,
    ByUser,
    ByNamespace,
}

/// A PriorityLevelConfiguration.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) uid: Option<HeaderValue>,
    /// None where there is no limit.
    pub(super) queues: Option<Arc<QueueSet>>,
    /// What was refused.
    pub(super) dropped: Arc<Dropped>,
}

/// All priority levels, and the seats that they have.
#[derive(Debug)]
pub(super) struct Levels {
    /// The seats of the server.
    total: u32,
    limited: BTreeMap<String, Limited>,
    stats: BTreeMap<(String, String), Arc<SchemaStats>>,
    /// By how much targets were multiplied when seats were last shared out.
    pub(super) factor: f64,
}

/// A priority level with a limit.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) queues: Arc<QueueSet>,
    dropped: Arc<Dropped>,
    spec: LimitedPriorityLevelConfiguration,
    /// Whether there is such an object no more: what waits is still served.
    pub(super) leaving: bool,
    pub(super) stats: LevelStats,
    demand: Demand,
    is_new: bool,
}

fn uid(uid: Option<&String>) -> Option<HeaderValue> {
    uid.and_then(|uid| HeaderValue::from_str(uid).ok())
}

fn queuing(spec: &LimitedPriorityLevelConfiguration) -> Queuing {
    let response: Option<&LimitResponse> = compat::get(&spec.limit_response);
    let positive = |value: Option<i32>| usize::try_from(value.unwrap_or(0)).unwrap_or(0);
    match response.and_then(|response| response.queuing.as_ref()) {
        Some(queuing) => Queuing {
            queues: positive(queuing.queues),
            hand: positive(queuing.hand_size),
            length: positive(queuing.queue_length_limit),
        },
        None => Queuing {
            queues: 0,
            hand: 0,
            length: 0,
        },
    }
}

/// The most seats that a request takes of a level that has so many by its configuration: where requests queue up, what
/// one lists must leave seats to the others, so as much as a seventh of them, and what there is for each queue of a
/// flow's hand. As upstream's `finishQueueSetReconfigsLocked` reckons.
fn most_seats(nominal: f64, queuing: Queuing) -> u32 {
    if queuing.queues == 0 {
        return seats::MOST;
    }
    let each = (nominal / queuing.hand.max(1) as f64).floor();
    let most = (nominal * MOST_PART).ceil().min(each);
    // At most ten.
    most.clamp(1.0, f64::from(seats::MOST)) as u32
}

impl Levels {
    pub(super) fn new(total: u32) -> Self {
        Levels {
            total,
            limited: BTreeMap::new(),
            stats: BTreeMap::new(),
            factor: 1.0,
        }
    }

    /// The levels that have a limit.
    pub(super) fn limited(&self) -> impl Iterator<Item = (&str, &Limited)> {
        self.limited
            .iter()
            .map(|(name, level)| (name.as_str(), level))
    }

    /// The schemas that ever were, with the names of their levels.
    pub(super) fn stats(&self) -> impl Iterator<Item = (&str, &str, &SchemaStats)> {
        let all = self.stats.iter();
        all.map(|((schema, level), stats)| (schema.as_str(), level.as_str(), &**stats))
    }

    /// Takes in the objects as they are now. A mandatory object that is missing is there all the same.
    pub(super) fn digest<'a>(
        &mut self,
        levels: impl Iterator<Item = &'a PriorityLevelConfiguration>,
        schemas: impl Iterator<Item = &'a FlowSchema>,
    ) -> Table {
        let levels: Vec<&PriorityLevelConfiguration> = levels.collect();
        let schemas: Vec<&FlowSchema> = schemas.collect();
        let (own_levels, own_schemas) = (defaults::levels(), defaults::schemas());
        let is_mandatory = |name: &Option<String>| {
            (name.as_deref()).is_some_and(|name| defaults::MANDATORY.contains(&name))
        };
        let mut ready: BTreeMap<String, Arc<Level>> = BTreeMap::new();
        for limited in self.limited.values_mut() {
            limited.leaving = true;
        }
        let own = own_levels.iter().filter(|l| is_mandatory(&l.metadata.name));
        for object in levels.into_iter().chain(own) {
            let name = object.metadata.name.clone().unwrap_or_default();
            if ready.contains_key(&name) {
                continue;
            }
            let spec: Option<&PriorityLevelConfigurationSpec> = compat::get(&object.spec);
            // What does not hold together was let in by nobody.
            let (queues, dropped) = match spec.and_then(|spec| spec.limited.as_ref()) {
                Some(limited) if name != defaults::EXEMPT => {
                    let limited = self.limit(&name, limited);
                    (Some(limited.queues.clone()), limited.dropped.clone())
                }
                None if name == defaults::EXEMPT => (None, Arc::default()),
                _ => continue,
            };
            let level = Level {
                name: name.clone(),
                uid: uid(object.metadata.uid.as_ref()),
                queues,
                dropped,
            };
            ready.insert(name, Arc::new(level));
        }
        self.limited
            .retain(|_, level| !level.leaving || !level.queues.is_idle());
        self.nominate();
        self.share();

        let mut table: Vec<(i32, Arc<Schema>)> = Vec::new();
        let own = own_schemas
            .iter()
            .filter(|s| is_mandatory(&s.metadata.name));
        for object in schemas.into_iter().chain(own) {
            let name = object.metadata.name.clone().unwrap_or_default();
            let Some(spec) = compat::get::<FlowSchemaSpec>(&object.spec) else {
                continue;
            };
            let Some(level) = ready.get(&spec.priority_level_configuration.name) else {
                continue;
            };
            if table.iter().any(|(_, schema)| schema.name == name) {
                continue;
            }
            let flows = match spec.distinguisher_method.as_ref().map(|m| m.type_.as_str()) {
                Some("ByUser") => Flows::ByUser,
                Some("ByNamespace") => Flows::ByNamespace,
                _ => Flows::One,
            };
            let key = (name.clone(), level.name.clone());
            let stats = self.stats.entry(key).or_default().clone();
            *stats.flows.lock() = flows;
            let schema = Schema {
                uid: uid(object.metadata.uid.as_ref()),
                spec: spec.clone(),
                flows,
                level: level.clone(),
                stats,
                name,
            };
            table.push((spec.matching_precedence.unwrap_or(0), Arc::new(schema)));
        }
        // The catch-all catches what nothing else does, whatever the precedence of others.
        table.sort_by(|(a, one), (b, other)| {
            let last = |schema: &Schema| schema.name == defaults::CATCH_ALL;
            (last(one), a, &one.name).cmp(&(last(other), b, &other.name))
        });
        Table {
            schemas: table.into_iter().map(|(_, schema)| schema).collect(),
        }
    }

    fn limit(&mut self, name: &str, spec: &LimitedPriorityLevelConfiguration) -> &Limited {
        let queuing = queuing(spec);
        let level = self
            .limited
            .entry(name.to_owned())
            .or_insert_with(|| Limited {
                queues: QueueSet::new(queuing, 0),
                dropped: Arc::default(),
                spec: LimitedPriorityLevelConfiguration::default(),
                leaving: false,
                stats: LevelStats::default(),
                demand: Demand::default(),
                is_new: true,
            });
        level.leaving = false;
        if level.spec != *spec {
            level.spec = spec.clone();
            level.queues.configure(queuing);
        }
        level
    }

    /// Works out what each level has by its configuration.
    fn nominate(&mut self) {
        let shares =
            |level: &Limited| f64::from(level.spec.nominal_concurrency_shares.unwrap_or(0));
        let sum: f64 = self.limited.values().map(shares).sum();
        let total = f64::from(self.total);
        for level in self.limited.values_mut() {
            let nominal = (total * shares(level) / sum.max(1.0)).ceil();
            let percent =
                |value: Option<i32>| value.map(|p| (nominal * f64::from(p) / 100.0).round());
            let lendable = percent(level.spec.lendable_percent).unwrap_or(0.0);
            let borrowing = percent(level.spec.borrowing_limit_percent).unwrap_or(total);
            let stats = &mut level.stats;
            (stats.nominal, stats.least, stats.most) =
                (nominal, nominal - lendable, nominal + borrowing);
            if level.is_new {
                level.is_new = false;
                stats.current = nominal - (lendable / 2.0).floor();
            }
            level
                .queues
                .bound(most_seats(nominal, queuing(&level.spec)));
        }
    }

    /// Ends a period, and shares the seats out anew by what was asked for in it.
    pub(super) fn rebalance(&mut self) {
        for level in self.limited.values_mut() {
            level.demand = level.queues.demand(level.demand);
            level.stats.demand = level.demand;
        }
        self.limited
            .retain(|_, level| !level.leaving || !level.queues.is_idle());
        self.share();
    }

    fn share(&mut self) {
        let claims: Vec<Claim> = self
            .limited
            .values()
            .map(|level| {
                let stats = &level.stats;
                let least = stats.least.max(stats.nominal.min(level.demand.most));
                Claim {
                    least,
                    most: stats.most,
                    target: least.max(level.demand.smoothed),
                }
            })
            .collect();
        let total: f64 = self.limited.values().map(|level| level.stats.nominal).sum();
        if let Some((shares, factor)) = borrow::share(total, &claims) {
            self.factor = factor;
            for ((level, share), claim) in self.limited.values_mut().zip(shares).zip(claims) {
                level.stats.target = claim.target;
                // A level without a seat would never be served, and so never ask for one.
                level.stats.current = share.round().max(1.0);
            }
        }
        for level in self.limited.values() {
            // Shares are small numbers.
            level.queues.limit(level.stats.current as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &Table) -> Vec<&str> {
        table.schemas.iter().map(|s| s.name.as_str()).collect()
    }

    #[tokio::test]
    async fn seats_are_shared_out_by_shares_and_what_is_idle_is_lent() {
        let mut levels = Levels::new(600);
        let (all, schemas) = (defaults::levels(), defaults::schemas());
        let table = levels.digest(all.iter(), schemas.iter());
        assert_eq!(table.schemas.len(), 13);
        assert_eq!(names(&table)[..2], ["exempt", "probes"]);
        assert_eq!(names(&table)[12], "catch-all");
        let nominal: Vec<(&str, f64, f64)> = levels
            .limited()
            .map(|(name, level)| (name, level.stats.nominal, level.stats.least))
            .collect();
        // 245 shares make 600 seats.
        assert_eq!(
            nominal,
            [
                ("catch-all", 13.0, 13.0),
                ("global-default", 49.0, 24.0),
                ("leader-election", 25.0, 25.0),
                ("node-high", 98.0, 73.0),
                ("system", 74.0, 50.0),
                ("workload-high", 98.0, 49.0),
                ("workload-low", 245.0, 24.0),
            ]
        );
        let sum: f64 = levels.limited().map(|(_, l)| l.stats.current).sum();
        assert!((599.0..=606.0).contains(&sum), "{sum}");
    }

    #[tokio::test]
    async fn what_is_large_takes_a_part_of_its_level_alone() {
        use super::super::queues::{Entry, Want};
        let taken = |total, name: &str| {
            let mut levels = Levels::new(total);
            let (all, schemas) = (defaults::levels(), defaults::schemas());
            levels.digest(all.iter(), schemas.iter());
            let level = levels.limited().find(|(level, _)| *level == name);
            let queues = level.unwrap().1.queues.clone();
            let entry = queues.enter(Want {
                flow: 1,
                seats: seats::MOST,
                linger: std::time::Duration::ZERO,
            });
            assert!(matches!(entry, Entry::Seated(_)), "{name}");
            queues.seats_used()
        };
        for (total, name, expected) in [
            // A seventh of 25 seats, or what there is for each of four queues.
            (600, "leader-election", 4),
            (600, "global-default", 8),
            (600, "workload-low", 10),
            (60, "workload-low", 4),
            (10, "system", 1),
            // Without queues there is no such bound.
            (600, "catch-all", 10),
        ] {
            assert_eq!(taken(total, name), expected, "{name} of {total}");
        }
    }

    #[tokio::test]
    async fn a_level_that_is_asked_for_more_borrows_and_gives_back() {
        let mut levels = Levels::new(600);
        let (all, schemas) = (defaults::levels(), defaults::schemas());
        let table = levels.digest(all.iter(), schemas.iter());
        let low = (table.schemas.iter())
            .find(|s| s.level.name == "workload-low")
            .and_then(|s| s.level.queues.clone())
            .unwrap();
        let current = |levels: &Levels| {
            let found = levels.limited().find(|(name, _)| *name == "workload-low");
            found.unwrap().1.stats.current
        };
        let entries: Vec<_> = (0..700)
            .map(|n| {
                low.enter(super::super::queues::Want {
                    flow: super::super::shard::flow("s", &n.to_string()),
                    seats: 1,
                    linger: std::time::Duration::ZERO,
                })
            })
            .collect();
        levels.rebalance();
        let busy = current(&levels);
        assert!(busy > 245.0, "{busy}");
        drop(entries);
        for _ in 0..300 {
            levels.rebalance();
        }
        assert!(current(&levels) < busy);
    }

    #[tokio::test]
    async fn mandatory_ones_are_there_without_objects_and_dangling_schemas_are_not() {
        let mut levels = Levels::new(600);
        let mut dangling = defaults::schemas().remove(5);
        dangling.metadata.name = Some("dangling".into());
        let table = levels.digest(std::iter::empty(), std::iter::once(&dangling));
        assert_eq!(names(&table), ["exempt", "catch-all"]);
        assert!(table.schemas[0].level.queues.is_none());
        let catch_all = levels.limited().next().unwrap();
        assert_eq!(
            (catch_all.0, catch_all.1.stats.current),
            ("catch-all", 600.0)
        );
    }

    #[tokio::test]
    async fn a_level_that_is_deleted_serves_those_who_wait_and_then_goes() {
        let mut levels = Levels::new(10);
        let (all, schemas) = (defaults::levels(), defaults::schemas());
        let table = levels.digest(all.iter(), schemas.iter());
        let queues = (table.schemas.iter())
            .find_map(|s| (s.level.name == "system").then(|| s.level.queues.clone()))
            .flatten()
            .unwrap();
        let seat = queues.enter(super::super::queues::Want {
            flow: 1,
            seats: 1,
            linger: std::time::Duration::ZERO,
        });
        let rest: Vec<_> = (all.iter())
            .filter(|l| l.metadata.name.as_deref() != Some("system"))
            .collect();
        let table = levels.digest(rest.iter().copied(), schemas.iter());
        assert!(!names(&table).contains(&"system-nodes"));
        assert!(levels.limited().any(|(name, _)| name == "system"));
        drop(seat);
        levels.rebalance();
        assert!(levels.limited().all(|(name, _)| name != "system"));
    }
}

//! [`Search`]: what is asked for, made ready to be looked for on many nodes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{allocator::Run, books::consumed};
use crate::snapshot::{
    NodeInfo,
    devices::{
        Counters, DeviceClass, DeviceId, Devices, Expression, Pools, ResourceClaim, Taken,
        wire::{Allocation, Selector, Wanted},
    },
};

/// How many devices a claim can have (upstream's limit).
pub(super) const MOST_DEVICES: usize = 32;
/// How many devices may be looked at for one node, and for all together, before a pod's turn is over. Upstream gives up
/// after ten seconds.
const STEPS_ON_NODE: u64 = 200_000;
const STEPS: u64 = 5_000_000;

/// Why there are no devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// On this node.
    Node(String),
    /// On no node: the claim or a class makes no sense.
    Claim(String),
}

/// The claims of a pod that have no devices yet.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) pools: Arc<Pools>,
    pub(super) claims: Vec<Sought>,
    /// Those that the requests name.
    pub(super) classes: HashMap<String, Arc<DeviceClass>>,
    /// What the API shows as taken.
    taken: Arc<Taken>,
    /// What is taken and not shown yet.
    in_flight: Taken,
    /// What is left of the counters of pools.
    counters: Mutex<HashMap<usize, Arc<Counters>>>,
    steps: AtomicU64,
}

/// A claim and what its requests go by.
#[derive(Debug)]
pub(super) struct Sought {
    pub(super) claim: Arc<ResourceClaim>,
    /// By request and alternative.
    requests: Vec<Vec<Selection>>,
}

/// What devices must be like.
#[derive(Debug)]
struct Selection {
    class: Vec<Arc<Expression>>,
    own: Vec<Arc<Expression>>,
}

impl Search {
    /// # Errors
    ///
    /// If one of the claims makes no sense.
    pub(super) fn new(
        claims: Vec<Arc<ResourceClaim>>,
        devices: &Devices,
        in_flight: Taken,
    ) -> Result<Self, String> {
        let pools = devices.pools().clone();
        let (mut sought, mut classes) = (Vec::new(), HashMap::new());
        for claim in claims {
            let mut requests = Vec::new();
            for request in &claim.spec.devices.requests {
                let alternatives = request.alternatives().iter();
                let selections = alternatives.map(|wanted| {
                    let name = wanted.device_class_name.as_str();
                    let class = devices.class(name);
                    classes.extend(class.map(|class| (name.to_owned(), class.clone())));
                    let class = class.map_or(&[][..], |class| &class.spec.selectors);
                    let own = format!("claim {}", claim.key());
                    Ok(Selection {
                        class: expressions(class, &pools, &format!("class {name}"))?,
                        own: expressions(&wanted.selectors, &pools, &own)?,
                    })
                });
                requests.push(selections.collect::<Result<_, String>>()?);
            }
            sought.push(Sought { claim, requests });
        }
        Ok(Self {
            pools,
            claims: sought,
            classes,
            taken: devices.taken().clone(),
            in_flight,
            counters: Mutex::default(),
            steps: AtomicU64::new(STEPS),
        })
    }

    /// Whether there are devices for each claim, for use on a node.
    ///
    /// # Errors
    ///
    /// [`Failure`] says why there are none.
    pub(super) fn check(&self, node: &NodeInfo) -> Result<(), Failure> {
        self.run(node).map(drop)
    }

    /// The devices for each claim, for use on a node.
    ///
    /// # Errors
    ///
    /// [`Failure`] says why there are none.
    pub(super) fn allocate(&self, node: &NodeInfo) -> Result<Vec<Allocation>, Failure> {
        // What was found before is found again, whatever other nodes have cost.
        Run::find(self, node, STEPS_ON_NODE).0?.allocations(node)
    }

    /// Whether a request has a list of alternatives.
    pub(super) fn has_lists(&self) -> bool {
        let mut claims = self.claims.iter();
        claims.any(|sought| {
            let mut requests = sought.claim.spec.devices.requests.iter();
            requests.any(|request| request.exactly.is_none())
        })
    }

    /// How good the alternatives are that can be had on a node: the earlier in their lists, the better.
    pub(super) fn score(&self, node: &NodeInfo) -> i64 {
        self.run(node).map_or(0, |run| run.score())
    }

    fn run(&self, node: &NodeInfo) -> Result<Run<'_>, Failure> {
        let steps = self.steps.load(Ordering::Relaxed).min(STEPS_ON_NODE);
        let (run, left) = Run::find(self, node, steps);
        let spent = steps.saturating_sub(left);
        let keep = |all: u64| Some(all.saturating_sub(spent));
        let _ = self
            .steps
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, keep);
        run
    }

    /// Whether a claim has the device for itself.
    pub(super) fn is_taken(&self, id: &DeviceId) -> bool {
        self.taken.has_whole(id) || self.in_flight.has_whole(id)
    }

    /// Whether a claim has the device or a part of it.
    pub(super) fn is_used(&self, id: &DeviceId) -> bool {
        self.taken.has(id) || self.in_flight.has(id)
    }

    /// How much of a capacity of a device is used.
    pub(super) fn used(&self, id: &DeviceId, capacity: &str) -> k8s_model::quantity::Amount {
        self.taken.used(id, capacity) + self.in_flight.used(id, capacity)
    }

    /// What is left of the counters of a pool.
    pub(super) fn counters(&self, pool: usize) -> Arc<Counters> {
        let known = self.counters.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let left = known.entry(pool).or_insert_with(|| {
            let mut left = self.pools.counters(pool).clone();
            for device in self.pools.devices_of(pool) {
                if self.is_used(self.pools.id(device)) {
                    for (key, amount) in consumed(self.pools.device(device)) {
                        if let Some(left) = left.get_mut(&key) {
                            *left -= amount;
                        }
                    }
                }
            }
            Arc::new(left)
        });
        left.clone()
    }

    /// Whether a device is as a request wants it.
    ///
    /// # Errors
    ///
    /// If an expression has no value for it.
    pub(super) fn selects(
        &self,
        (claim, request, alternative): (usize, usize, usize),
        device: usize,
    ) -> Result<bool, Failure> {
        let sought = &self.claims[claim];
        let selection = &sought.requests[request][alternative];
        let id = self.pools.id(device);
        let asked = [(true, &selection.class), (false, &selection.own)];
        for (is_class, expressions) in asked {
            for (i, expression) in expressions.iter().enumerate() {
                match expression.selects(device, &id.driver, self.pools.device(device)) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(error) => {
                        let wanted = self.wanted(claim, request, alternative);
                        let whose = match is_class {
                            true => format!("class {}", wanted.device_class_name),
                            false => format!("claim {}", sought.claim.key()),
                        };
                        let text = format!("{whose}: selector #{i} on device {id}: {error}");
                        return Err(Failure::Claim(text));
                    }
                }
            }
        }
        Ok(true)
    }

    /// What one of the alternatives of a request asks for.
    pub(super) fn wanted(&self, claim: usize, request: usize, alternative: usize) -> &Wanted {
        let requests = &self.claims[claim].claim.spec.devices.requests;
        &requests[request].alternatives()[alternative]
    }
}

fn expressions(
    selectors: &[Selector],
    pools: &Pools,
    whose: &str,
) -> Result<Vec<Arc<Expression>>, String> {
    let parsed = selectors.iter().enumerate().map(|(i, selector)| {
        let Some(cel) = &selector.cel else {
            let text = "CEL expression empty (unsupported selector type?)";
            return Err(format!("{whose}, selector #{i}: {text}"));
        };
        let expression = pools.expression(&cel.expression);
        match expression.check() {
            Ok(()) => Ok(expression),
            Err(error) => Err(format!("{whose}: selector #{i}: {error}")),
        }
    });
    parsed.collect()
}

//! [`Run`]: the search for devices on one node.
//!
//! All combinations are tried, one device after the other, until the first one that holds: pools, slices and devices in
//! the order of their names, alternatives in the order of their list. Devices of one request are
//! never tried in two orders. The way is kept on a list, not on the stack: it may be long.

use super::{
    books::Books,
    capacity::Used,
    constraint::Constraint,
    search::{Failure, MOST_DEVICES, Search},
};
use crate::snapshot::{NodeInfo, devices::wire::Wanted};

/// A device for a request.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub(super) claim: usize,
    pub(super) request: usize,
    pub(super) alternative: usize,
    pub(super) device: usize,
    /// What it uses of a device that is shared.
    pub(super) used: Option<Used>,
}

/// What is to be found next.
#[derive(Clone, Copy, Debug)]
enum Goal {
    Request {
        claim: usize,
        request: usize,
    },
    Device {
        claim: usize,
        request: usize,
        alternative: usize,
        /// How many the request has.
        index: usize,
        /// Where to go on among the node's devices.
        from: usize,
    },
}

/// A step on the way.
#[derive(Debug)]
enum Step {
    Choice {
        claim: usize,
        request: usize,
        alternative: usize,
    },
    Device {
        index: usize,
        /// Its place among the node's devices.
        place: usize,
        has_counters: bool,
        pick: Pick,
    },
}

/// How many devices an alternative of a request asks for.
#[derive(Debug)]
enum Count {
    Exactly(usize),
    /// These, by position.
    All(Vec<usize>),
}

impl Count {
    fn len(&self) -> usize {
        match self {
            Count::Exactly(count) => *count,
            Count::All(devices) => devices.len(),
        }
    }
}

/// The search for devices on one node.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) search: &'a Search,
    /// The devices of the node, by position.
    devices: Vec<usize>,
    /// By claim, request and alternative.
    counts: Vec<Vec<Vec<Count>>>,
    constraints: Vec<Vec<Constraint<'a>>>,
    way: Vec<Step>,
    /// How many devices each claim has.
    given: Vec<usize>,
    books: Books<'a>,
    steps: u64,
}

impl<'a> Run<'a> {
    /// Searches, in at most so many steps; and how many of them are left.
    pub(super) fn find(
        search: &'a Search,
        node: &NodeInfo,
        steps: u64,
    ) -> (Result<Self, Failure>, u64) {
        let pools = search.pools.on(node);
        let mut run = Self {
            search,
            devices: pools.devices,
            counts: Vec::new(),
            constraints: Vec::new(),
            way: Vec::new(),
            given: vec![0; search.claims.len()],
            books: Books::new(search),
            steps,
        };
        let found = run
            .prepare(pools.incomplete.as_deref(), pools.invalid.as_deref())
            .and_then(|()| run.walk());
        let left = run.steps;
        let result = match found {
            Ok(true) => Ok(run),
            Ok(false) if pools.invalid.is_some() => Err(Failure::Node(
                "invalid resource pools were encountered".to_owned(),
            )),
            Ok(false) => Err(Failure::Node("cannot allocate all claims".to_owned())),
            Err(failure) => Err(failure),
        };
        (result, left)
    }

    /// The devices that were found, in order.
    pub(super) fn picks(&self, claim: usize) -> impl Iterator<Item = &Pick> {
        self.way.iter().filter_map(move |step| match step {
            Step::Device { pick, .. } if pick.claim == claim => Some(pick),
            _ => None,
        })
    }

    /// The alternative that was chosen for each request of a claim.
    pub(super) fn choices(&self, of: usize) -> impl Iterator<Item = usize> {
        self.way.iter().filter_map(move |step| match step {
            Step::Choice {
                claim, alternative, ..
            } if *claim == of => Some(*alternative),
            _ => None,
        })
    }

    /// The sum over lists of alternatives: 8 for the first of a list, 7 for the second and so on.
    pub(super) fn score(&self) -> i64 {
        let mut sum = 0;
        for (claim, sought) in self.search.claims.iter().enumerate() {
            let requests = sought.claim.spec.devices.requests.iter();
            for (request, chosen) in requests.zip(self.choices(claim)) {
                if request.exactly.is_none() {
                    sum += 8 - i64::try_from(chosen).unwrap_or(8).min(8);
                }
            }
        }
        sum
    }

    fn wanted(&self, claim: usize, request: usize, alternative: usize) -> &'a Wanted {
        self.search.wanted(claim, request, alternative)
    }

    /// Finds out how many devices each request wants.
    fn prepare(&mut self, incomplete: Option<&str>, invalid: Option<&str>) -> Result<(), Failure> {
        for (c, sought) in self.search.claims.iter().enumerate() {
            let claim = &sought.claim;
            let mut least = 0_usize;
            let mut counts = Vec::new();
            for (r, request) in claim.spec.devices.requests.iter().enumerate() {
                let mut alternatives = Vec::new();
                for (a, wanted) in request.alternatives().iter().enumerate() {
                    let name = match &request.exactly {
                        Some(_) => &request.name,
                        None => &wanted.name,
                    };
                    let whose = || format!("claim {}, request {name}", claim.key());
                    let count = match wanted.allocation_mode.as_str() {
                        "ExactCount" | "" => Count::Exactly(
                            usize::try_from(wanted.count.max(0)).unwrap_or(usize::MAX),
                        ),
                        "All" => {
                            let asks = || format!("{}: asks for all devices", whose());
                            if let Some(pool) = incomplete {
                                let text = "is currently being updated";
                                let text = format!("{}, but resource pool {pool} {text}", asks());
                                return Err(Failure::Claim(text));
                            }
                            if let Some(pool) = invalid {
                                let text = "is currently invalid";
                                let text = format!("{}, but resource pool {pool} {text}", asks());
                                return Err(Failure::Claim(text));
                            }
                            Count::All(self.all((c, r, a), wanted)?)
                        }
                        mode => {
                            let text = format!("{}: unsupported count mode {mode}", whose());
                            return Err(Failure::Claim(text));
                        }
                    };
                    alternatives.push(count);
                }
                let fewest = alternatives.iter().map(Count::len).min();
                least = least.saturating_add(fewest.unwrap_or(0));
                counts.push(alternatives);
            }
            if least > MOST_DEVICES {
                return Err(Failure::Claim(format!(
                    "claim {}: number of requested devices {least} exceeds the claim limit of {MOST_DEVICES}",
                    claim.key()
                )));
            }
            self.counts.push(counts);
            let constraints = claim.spec.devices.constraints.iter().enumerate();
            let constraints = constraints.map(|(i, constraint)| {
                let text = "empty constraint (unsupported constraint type?)";
                Constraint::new(constraint).ok_or_else(|| {
                    Failure::Claim(format!("claim {}, constraint #{i}: {text}", claim.key()))
                })
            });
            self.constraints
                .push(constraints.collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// All devices that a request selects.
    fn all(&mut self, at: (usize, usize, usize), wanted: &Wanted) -> Result<Vec<usize>, Failure> {
        let mut found = Vec::new();
        for place in 0..self.devices.len() {
            self.spend()?;
            let device = self.devices[place];
            if self.search.selects(at, device)? && self.books.room(wanted, device).is_some() {
                found.push(device);
            }
        }
        Ok(found)
    }

    fn spend(&mut self) -> Result<(), Failure> {
        self.steps = self
            .steps
            .checked_sub(1)
            .ok_or_else(|| Failure::Node("timed out trying to allocate devices".to_owned()))?;
        Ok(())
    }

    /// Goes on until all have their devices, or no combination is left.
    fn walk(&mut self) -> Result<bool, Failure> {
        let mut goal = Goal::Request {
            claim: 0,
            request: 0,
        };
        loop {
            let next = match goal {
                Goal::Request { claim, .. } if claim == self.counts.len() => return Ok(true),
                Goal::Request { claim, request } if request == self.counts[claim].len() => {
                    Some(Goal::Request {
                        claim: claim + 1,
                        request: 0,
                    })
                }
                Goal::Request { claim, request } => self.choose(claim, request, 0),
                Goal::Device {
                    claim,
                    request,
                    alternative,
                    index,
                    ..
                } if index == self.counts[claim][request][alternative].len() => {
                    Some(Goal::Request {
                        claim,
                        request: request + 1,
                    })
                }
                Goal::Device { .. } => self.take_one(goal)?,
            };
            goal = match next {
                Some(goal) => goal,
                None => match self.back()? {
                    Some(goal) => goal,
                    None => return Ok(false),
                },
            };
        }
    }

    /// Chooses an alternative of a request, from one on.
    fn choose(&mut self, claim: usize, request: usize, from: usize) -> Option<Goal> {
        let alternatives = &self.counts[claim][request];
        let alternative = (from..alternatives.len()).find(|a| {
            let count = &alternatives[*a];
            let is_none = matches!(count, Count::All(devices) if devices.is_empty());
            !is_none && self.given[claim].saturating_add(count.len()) <= MOST_DEVICES
        })?;
        self.way.push(Step::Choice {
            claim,
            request,
            alternative,
        });
        Some(Goal::Device {
            claim,
            request,
            alternative,
            index: 0,
            from: 0,
        })
    }

    /// Takes the next device that does.
    fn take_one(&mut self, goal: Goal) -> Result<Option<Goal>, Failure> {
        let Goal::Device {
            claim,
            request,
            alternative,
            index,
            from,
        } = goal
        else {
            return Ok(Some(goal));
        };
        let at = (claim, request, alternative);
        let only = match &self.counts[claim][request][alternative] {
            Count::All(devices) => devices.get(index).copied(),
            Count::Exactly(_) => None,
        };
        let places = match only {
            // Whichever comes first: all of them must do.
            Some(_) => from..from + usize::from(from == 0),
            None => from..self.devices.len(),
        };
        let wanted = self.wanted(claim, request, alternative);
        for place in places {
            self.spend()?;
            let device = only.unwrap_or_else(|| self.devices[place]);
            if self.books.is_in_use(claim, wanted, device)
                || (only.is_none() && !self.search.selects(at, device)?)
                || !self.allocate(at, device, (index, place), only.is_some())?
            {
                continue;
            }
            return Ok(Some(Goal::Device {
                claim,
                request,
                alternative,
                index: index + 1,
                from: if only.is_some() { 0 } else { place + 1 },
            }));
        }
        Ok(None)
    }

    /// Takes steps back until there is another way on.
    fn back(&mut self) -> Result<Option<Goal>, Failure> {
        while let Some(step) = self.way.pop() {
            let next = match step {
                Step::Choice {
                    claim,
                    request,
                    alternative,
                } => self.choose(claim, request, alternative + 1),
                Step::Device {
                    index,
                    place,
                    has_counters,
                    pick,
                } => {
                    self.undo(&pick, has_counters);
                    let goal = Goal::Device {
                        claim: pick.claim,
                        request: pick.request,
                        alternative: pick.alternative,
                        index,
                        from: place + 1,
                    };
                    self.take_one(goal)?
                }
            };
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Takes a device, if it can be had and all constraints hold with it.
    fn allocate(
        &mut self,
        (claim, request, alternative): (usize, usize, usize),
        device: usize,
        (index, place): (usize, usize),
        must: bool,
    ) -> Result<bool, Failure> {
        let wanted = self.wanted(claim, request, alternative);
        let pools = &self.search.pools;
        let (id, info) = (pools.id(device), pools.device(device));
        let Some(used) = self.books.room(wanted, device) else {
            return Ok(false);
        };
        let is_shared = info.allow_multiple_allocations == Some(true);
        let stops = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
        let mut taints = pools.taints(device).filter(|taint| stops(&taint.effect));
        if taints.any(|taint| !wanted.tolerations.iter().any(|t| t.tolerates(taint))) {
            return Ok(false);
        }
        let has_counters = self.books.has_counters(device);
        if has_counters && !self.books.consume(device) {
            return Ok(false);
        }
        let (base, part) = self.names(claim, request, alternative);
        for i in 0..self.constraints[claim].len() {
            if self.constraints[claim][i].add(base, part, id, info) {
                continue;
            }
            for constraint in &mut self.constraints[claim][..i] {
                constraint.remove(base, part);
            }
            if has_counters {
                self.books.restore(device);
            }
            if must {
                let name = part.unwrap_or(base);
                return Err(Failure::Claim(format!(
                    "claim {}, request {name}: cannot add device {id} because a claim constraint would not be satisfied",
                    self.search.claims[claim].claim.key()
                )));
            }
            return Ok(false);
        }
        let used = is_shared.then_some(used);
        self.books.take(claim, device, used.as_ref());
        self.given[claim] += 1;
        self.way.push(Step::Device {
            index,
            place,
            has_counters,
            pick: Pick {
                claim,
                request,
                alternative,
                device,
                used,
            },
        });
        Ok(true)
    }

    fn undo(&mut self, pick: &Pick, has_counters: bool) {
        let (base, part) = self.names(pick.claim, pick.request, pick.alternative);
        for constraint in &mut self.constraints[pick.claim] {
            constraint.remove(base, part);
        }
        if has_counters {
            self.books.restore(pick.device);
        }
        // Steps are taken back in the order in which they were made.
        self.books.give_back(pick.device, pick.used.is_some());
        self.given[pick.claim] -= 1;
    }

    /// The name of a request, and that of the alternative where there are several.
    fn names(
        &self,
        claim: usize,
        request: usize,
        alternative: usize,
    ) -> (&'a str, Option<&'a str>) {
        let request = &self.search.claims[claim].claim.spec.devices.requests[request];
        let part = request.first_available.get(alternative);
        let part = part.filter(|_| request.exactly.is_none());
        (&request.name, part.map(|part| part.name.as_str()))
    }
}

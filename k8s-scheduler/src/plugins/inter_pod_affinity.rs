//! [`InterPodAffinity`].

use std::sync::Arc;

use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Feasible, Filter, MAX_NODE_SCORE, Normalization,
        Plugin, PreFilter, PreFilterResult, PreScore, Score, Status, Verdicts,
    },
    snapshot::{AffinityTerm, By, NodeInfo, Object, PodInfo, Snapshot, Tally, TallyKey},
};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// `spec.affinity.podAffinity` and `podAntiAffinity`, of the pod and of those that are there already.
#[derive(Clone, Debug)]
pub struct InterPodAffinity {
    hard_weight: i64,
    ignores_preferences_of_others: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self {
            hard_weight: 1,
            ignores_preferences_of_others: false,
        }
    }
}

impl InterPodAffinity {
    /// With the weight that the required affinity of other pods to this one has in scores, 0 to 100
    /// (`hardPodAffinityWeight`), and with whether the preferences of other pods count only for
    /// pods that have some themselves (`ignorePreferredTermsOfExistingPods`).
    pub fn new(hard_weight: i64, ignores_preferences_of_others: bool) -> Self {
        Self {
            hard_weight,
            ignores_preferences_of_others,
        }
    }

    /// What is counted for scores.
    fn preferences<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = (&'a Arc<str>, Tally)> + use<'a> {
        let shape = pod.shape();
        let own = shape.preferred.iter().map(|(_, term)| &term.topology_key);
        let others = snapshot.affinity_keys();
        let applies = !(self.ignores_preferences_of_others && shape.preferred.is_empty());
        let mut keys: Vec<_> = own.chain(others).filter(|_| applies).collect();
        keys.sort();
        keys.dedup();
        let hard_weight = self.hard_weight;
        keys.into_iter()
            .map(move |key| {
                let tally = snapshot.tally(TallyKey {
                    topology: Some(key.clone()),
                    by: By::Preferring(shape.clone(), hard_weight),
                });
                (key, tally)
            })
            .filter(|(_, tally)| !tally.is_empty())
    }
}

/// Whether another pod may be one that all of a pod's required affinity terms ask for.
fn is_company(pod: &PodInfo, other: &PodInfo) -> bool {
    let terms = &pod.shape().affinity;
    let matches = |term: &AffinityTerm| {
        // The namespace's labels are not at hand: a selector of namespaces may match.
        let in_namespace =
            term.namespaces.contains(other.namespace()) || !term.namespace_selector.is_nothing();
        in_namespace && term.selector.matches(other.labels())
    };
    !terms.is_empty() && terms.iter().all(matches)
}

/// What PreFilter counted.
#[derive(Clone, Debug)]
struct Counted {
    /// By required affinity term: the pods that match all terms.
    affinity: Vec<(TallyKey, Tally)>,
    /// Whether the pod itself matches its required affinity, so that it may be the first.
    matches_itself: bool,
    /// By required anti-affinity term: the pods that match it.
    anti_affinity: Vec<(TallyKey, Tally)>,
    /// By topology key: the required anti-affinity terms of others that match the pod.
    refusals: Vec<(TallyKey, Tally)>,
}

impl Counted {
    /// Whether the pod may be the first of its kind: nothing matches its affinity but itself.
    fn is_first(&self) -> bool {
        self.matches_itself && self.affinity.iter().all(|(_, tally)| tally.is_empty())
    }

    fn lacks_company(&self, slot: usize, is_first: bool) -> bool {
        self.affinity.iter().any(|(_, tally)| match tally.at(slot) {
            None => true,
            Some(count) => count <= 0 && !is_first,
        })
    }

    fn add(&mut self, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, sign: i64) {
        let tallies = self.affinity.iter_mut();
        let tallies = tallies
            .chain(&mut self.anti_affinity)
            .chain(&mut self.refusals);
        for (key, tally) in tallies {
            let weight = key.weight_of(other.shape(), other.is_terminating(), snapshot.objects());
            tally.add(node.slot(), sign * weight);
        }
    }
}

fn is_crowded(tallies: &[(TallyKey, Tally)], slot: usize) -> bool {
    tallies
        .iter()
        .any(|(_, tally)| tally.at(slot).is_some_and(|n| n > 0))
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn topologies(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<Vec<Arc<str>>> {
        let counted = state.get::<Counted>().into_iter();
        let counted =
            counted.flat_map(|c| c.affinity.iter().chain(&c.anti_affinity).chain(&c.refusals));
        let keys = counted.filter_map(|(key, _)| key.topology.clone());
        let preferred = self.preferences(pod, snapshot);
        Some(keys.chain(preferred.map(|(key, _)| key.clone())).collect())
    }

    fn is_about_own_pods(&self, pod: &PodInfo) -> bool {
        // Whether a pod may be the first of its kind is a matter of the whole cluster.
        pod.shape().affinity.is_empty()
    }

    fn watches(&self, kind: EventKind) -> bool {
        !matches!(kind, EventKind::Storage | EventKind::Permit)
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        let shape = pod.shape();
        match event {
            // Company that comes helps.
            ClusterEvent::AssignedPodAdd(other) | ClusterEvent::AssignedPodUpdate(other) => {
                is_company(pod, other)
            }
            // The last one that goes lets a pod be the first of its kind.
            ClusterEvent::AssignedPodDelete(other) => {
                !shape.anti_affinity.is_empty()
                    || !other.shape().anti_affinity.is_empty()
                    || is_company(pod, other)
            }
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => {
                let mut keys = shape.affinity.iter().map(|t| &t.topology_key);
                keys.all(|key| node.label(key).is_some())
            }
            ClusterEvent::Object(object) | ClusterEvent::ObjectDelete(object) => {
                matches!(object, Object::Namespace(_))
            }
            _ => true,
        }
    }
}

impl PreFilter for InterPodAffinity {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let shape = pod.shape();
        if let Some(text) = &shape.invalid {
            return Err(Status::unresolvable(format!("parsing pod: {text}")));
        }
        let count = |topology: &Arc<str>, by: By| {
            let key = TallyKey {
                topology: Some(topology.clone()),
                by,
            };
            let tally = snapshot.tally(key.clone());
            (key, tally)
        };
        let keys = snapshot.anti_affinity_keys();
        let refusals: Vec<_> = keys
            .map(|key| count(key, By::Refusing(shape.clone())))
            .filter(|(_, tally)| !tally.is_empty())
            .collect();
        if shape.affinity.is_empty() && shape.anti_affinity.is_empty() && refusals.is_empty() {
            return Ok(PreFilterResult::skip());
        }
        let labels = snapshot.objects().namespace_labels(pod.namespace());
        let matching = By::Matching(shape.affinity.clone());
        state.put(Counted {
            affinity: shape
                .affinity
                .iter()
                .map(|term| count(&term.topology_key, matching.clone()))
                .collect(),
            matches_itself: shape
                .affinity
                .iter()
                .all(|term| term.matches(pod.namespace(), pod.labels(), labels)),
            anti_affinity: shape
                .anti_affinity
                .iter()
                .map(|term| count(&term[0].topology_key, By::Matching(term.clone())))
                .collect(),
            refusals,
        });
        Ok(PreFilterResult::all())
    }

    fn add_pod(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        added: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) {
        if let Some(counted) = state.get_mut::<Counted>() {
            counted.add(added, node, snapshot, 1);
        }
    }

    fn remove_pod(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        removed: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) {
        if let Some(counted) = state.get_mut::<Counted>() {
            counted.add(removed, node, snapshot, -1);
        }
    }
}

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let Some(counted) = state.get::<Counted>() else {
            return Ok(());
        };
        let slot = node.slot();
        if counted.lacks_company(slot, counted.is_first()) {
            Err(Status::unresolvable(AFFINITY))
        } else if is_crowded(&counted.anti_affinity, slot) {
            Err(Status::unschedulable(ANTI_AFFINITY))
        } else if is_crowded(&counted.refusals, slot) {
            Err(Status::unschedulable(EXISTING))
        } else {
            Ok(())
        }
    }

    fn filter_many(&self, state: &CycleState, _: &PodInfo, nodes: &mut Verdicts<'_>) {
        let Some(counted) = state.get::<Counted>() else {
            return;
        };
        if !counted.affinity.is_empty() {
            let is_first = counted.is_first();
            nodes.reject(Status::unresolvable(AFFINITY), |slot| {
                counted.lacks_company(slot, is_first)
            });
        }
        for (reason, tallies) in [
            (ANTI_AFFINITY, &counted.anti_affinity),
            (EXISTING, &counted.refusals),
        ] {
            for (_, tally) in tallies.iter().filter(|(_, tally)| !tally.is_empty()) {
                nodes.reject(Status::unschedulable(reason), |slot| {
                    tally.at(slot).is_some_and(|n| n > 0)
                });
            }
        }
    }
}

/// What PreScore counted, by topology key.
#[derive(Clone, Debug)]
struct Preferences(Vec<Tally>);

impl PreScore for InterPodAffinity {
    fn applies(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        self.preferences(pod, snapshot).next().is_some()
    }

    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Feasible<'_>,
    ) -> Result<bool, Status> {
        let tallies = self.preferences(pod, nodes.snapshot());
        let tallies: Vec<Tally> = tallies.map(|(_, tally)| tally).collect();
        let applies = !tallies.is_empty();
        state.put(Preferences(tallies));
        Ok(applies)
    }
}

impl Score for InterPodAffinity {
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Preferences(tallies)) = state.get() else {
            return 0;
        };
        tallies.iter().filter_map(|t| t.at(node.slot())).sum()
    }

    fn score_many(
        &self,
        state: &CycleState,
        _: &PodInfo,
        nodes: &Feasible<'_>,
        scores: &mut Vec<i64>,
    ) {
        let Some(Preferences(tallies)) = state.get() else {
            return scores.extend(nodes.slots().map(|_| 0));
        };
        let start = scores.len();
        scores.resize(start + nodes.len(), 0);
        for tally in tallies {
            for (score, slot) in scores[start..].iter_mut().zip(nodes.slots()) {
                *score += tally.at(slot).unwrap_or(0);
            }
        }
    }

    fn normalization(&self) -> Normalization {
        Normalization::Custom
    }

    fn normalize(&self, _: &CycleState, _: &Feasible<'_>, scores: &mut [i64]) {
        let lowest = scores.iter().copied().min().unwrap_or(0);
        let highest = scores.iter().copied().max().unwrap_or(0);
        let span = (highest - lowest) as f64;
        for score in scores {
            *score = if highest > lowest {
                (MAX_NODE_SCORE as f64 * ((*score - lowest) as f64 / span)) as i64
            } else {
                0
            };
        }
    }
}

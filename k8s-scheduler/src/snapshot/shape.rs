//! What of a pod matters for scheduling: [`PodShape`], shared by all pods that are alike.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use k8s_model::labels::SelectorError;
use k8s_openapi::api::core::v1::{
    NodeSelector, Pod, PodAffinityTerm, PreferredSchedulingTerm, Toleration,
};

use super::{
    Interned, Resources,
    resources::{non_zero, requests},
    terms::{AffinityTerm, Spread, SpreadConstraint},
    volumes::PodVolume,
};

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods can't both have theirs.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0")
    }
}

/// What a pod asks of a node, seen by itself: all that plugins with
/// [`Scope::Node`](crate::framework::Scope::Node) go by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeShape {
    /// What it requests: containers together, or the largest init container, plus overhead.
    pub requests: Resources,
    /// Its CPU request in millicores, 100 where a container has none.
    pub non_zero_milli_cpu: i64,
    /// Its memory request in bytes, 200 MB where a container has none.
    pub non_zero_memory: i64,
    /// The ports that it takes on its node.
    pub host_ports: Vec<HostPort>,
    /// The taints that it tolerates.
    pub tolerations: Vec<Toleration>,
    /// The labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// What else its node must be like.
    pub required_node_affinity: Option<NodeSelector>,
    /// What its node should be like.
    pub preferred_node_affinity: Vec<PreferredSchedulingTerm>,
    /// The image of each container, init containers too.
    pub images: Vec<String>,
}

impl Eq for NodeShape {}

impl Hash for NodeShape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.requests.hash(state);
        self.host_ports.hash(state);
        self.node_selector.hash(state);
        self.images.hash(state);
        for toleration in &self.tolerations {
            toleration.key.hash(state);
        }
        let required = self.required_node_affinity.iter();
        let terms = required.flat_map(|r| &r.node_selector_terms);
        for term in terms.chain(self.preferred_node_affinity.iter().map(|p| &p.preference)) {
            let requirements = term.match_expressions.iter().chain(&term.match_fields);
            for requirement in requirements.flatten() {
                requirement.key.hash(state);
                requirement.values.hash(state);
            }
        }
    }
}

/// The owner that manages a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    /// Its group and version, such as `apps/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Terms that must all match one pod.
pub type Terms = Vec<AffinityTerm>;

/// All of a pod that matters for where it and others may go. Pods of one workload share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodShape {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The scheduler that is to place it.
    pub scheduler_name: String,
    /// Its priority.
    pub priority: i32,
    /// Whether it may make room for itself; false for `preemptionPolicy: Never`.
    pub may_preempt: bool,
    /// What it asks of a node.
    pub node: Interned<NodeShape>,
    /// Required pod affinity: all terms.
    pub affinity: Interned<Terms>,
    /// Required pod anti-affinity: each term by itself.
    pub anti_affinity: Vec<Interned<Terms>>,
    /// Preferred pod affinity (positive weights) and anti-affinity (negative weights).
    pub preferred: Vec<(i64, AffinityTerm)>,
    /// The spread constraints that must hold.
    pub hard_spread: Interned<Spread>,
    /// The spread constraints that should hold.
    pub soft_spread: Interned<Spread>,
    /// Its controller.
    pub controller: Option<Controller>,
    /// The volumes that bear on where it can run.
    pub volumes: Vec<PodVolume>,
    /// Why its terms can't be understood.
    pub invalid: Option<String>,
}

impl Hash for PodShape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace.hash(state);
        self.labels.hash(state);
        self.priority.hash(state);
        self.node.hash(state);
        self.affinity.hash(state);
        self.anti_affinity.hash(state);
        self.controller.hash(state);
        self.preferred.len().hash(state);
    }
}

impl PodShape {
    /// Whether it says anything of other pods that could concern them.
    pub(super) fn has_terms(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferred.is_empty())
    }

    /// The shape of a pod.
    pub(super) fn of(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let namespace = metadata
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let labels = metadata.labels.clone().unwrap_or_default();
        let node = Interned::from(node_shape(pod));
        let (terms, invalid) = match parse(pod, &namespace, &labels) {
            Ok(terms) => (terms, None),
            Err(error) => (Parsed::default(), Some(error.to_string())),
        };
        let (hard, soft) = terms.spread.into_iter().partition(|c| c.is_hard);
        let spread = |constraints: Vec<SpreadConstraint>| {
            Interned::from(Spread {
                constraints,
                requires_all_keys: true,
                namespace: namespace.clone(),
                node: node.clone(),
            })
        };
        let spec = pod.spec.as_ref();
        let owners = metadata.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|o| o.controller == Some(true));
        Self {
            scheduler_name: spec
                .and_then(|s| s.scheduler_name.clone())
                .unwrap_or_else(|| crate::DEFAULT_SCHEDULER_NAME.into()),
            priority: spec.and_then(|s| s.priority).unwrap_or(0),
            may_preempt: spec.and_then(|s| s.preemption_policy.as_deref()) != Some("Never"),
            affinity: terms.affinity.into(),
            anti_affinity: terms
                .anti_affinity
                .into_iter()
                .map(|t| vec![t].into())
                .collect(),
            preferred: terms.preferred,
            hard_spread: spread(hard),
            soft_spread: spread(soft),
            controller: controller.map(|o| Controller {
                api_version: o.api_version.clone(),
                kind: o.kind.clone(),
                name: o.name.clone(),
            }),
            volumes: spec
                .iter()
                .flat_map(|s| s.volumes.iter().flatten())
                .filter_map(PodVolume::of)
                .collect(),
            invalid,
            node,
            namespace,
            labels,
        }
    }

    /// Whether the pod itself has spread constraints.
    pub(crate) fn spreads(&self) -> bool {
        !(self.hard_spread.constraints.is_empty() && self.soft_spread.constraints.is_empty())
    }
}

#[derive(Default)]
struct Parsed {
    affinity: Vec<AffinityTerm>,
    anti_affinity: Vec<AffinityTerm>,
    preferred: Vec<(i64, AffinityTerm)>,
    spread: Vec<SpreadConstraint>,
}

fn parse(
    pod: &Pod,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Parsed, SelectorError> {
    let mut parsed = Parsed::default();
    let Some(spec) = &pod.spec else {
        return Ok(parsed);
    };
    let one = |term: &PodAffinityTerm| AffinityTerm::parse(term, namespace, labels);
    let affinity = spec.affinity.as_ref();
    if let Some(terms) = affinity.and_then(|a| a.pod_affinity.as_ref()) {
        for term in terms
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
        {
            parsed.affinity.push(one(term)?);
        }
        for term in terms
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
        {
            parsed
                .preferred
                .push((i64::from(term.weight), one(&term.pod_affinity_term)?));
        }
    }
    if let Some(terms) = affinity.and_then(|a| a.pod_anti_affinity.as_ref()) {
        for term in terms
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
        {
            parsed.anti_affinity.push(one(term)?);
        }
        for term in terms
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
        {
            parsed
                .preferred
                .push((-i64::from(term.weight), one(&term.pod_affinity_term)?));
        }
    }
    for constraint in spec.topology_spread_constraints.iter().flatten() {
        parsed
            .spread
            .push(SpreadConstraint::parse(constraint, labels)?);
    }
    Ok(parsed)
}

fn node_shape(pod: &Pod) -> NodeShape {
    let Some(spec) = &pod.spec else {
        return NodeShape::default();
    };
    let (non_zero_milli_cpu, non_zero_memory) = non_zero(spec);
    let init = || spec.init_containers.iter().flatten();
    let sidecars = init().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    NodeShape {
        requests: requests(spec, pod.status.as_ref()),
        non_zero_milli_cpu,
        non_zero_memory,
        host_ports: ports
            .filter_map(|p| {
                let ip = p.host_ip.as_deref().filter(|ip| !ip.is_empty());
                Some(HostPort {
                    ip: ip.unwrap_or("0.0.0.0").into(),
                    protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                    port: p.host_port.filter(|p| *p > 0)?,
                })
            })
            .collect(),
        tolerations: spec.tolerations.clone().unwrap_or_default(),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        required_node_affinity: affinity.and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .clone()
        }),
        preferred_node_affinity: affinity
            .and_then(|a| {
                a.preferred_during_scheduling_ignored_during_execution
                    .clone()
            })
            .unwrap_or_default(),
        images: spec
            .containers
            .iter()
            .chain(init())
            .filter_map(|c| c.image.clone())
            .collect(),
    }
}

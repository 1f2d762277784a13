//! Upstream's workloads, from their descriptions.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const IMAGE: &str = "registry.k8s.io/pause:3.10";

/// What goes on besides placing the pods that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// A fifth as many pods as nodes are there before.
    Usual,
    /// Nodes are full of pods of lower priority.
    Full,
    /// There are pods before that fit nowhere.
    Stuck,
    /// The pods before are in other namespaces, ten of them.
    Namespaces,
    /// A node, a Service and a pod that fits nowhere come and go all the time.
    Churn,
}

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// The kinds of pods that are there before, as many of one as of the other.
    pub(crate) base: &'static [fn() -> Value],
    /// The pods that are measured.
    pub(crate) spec: fn() -> Value,
    pub(crate) setting: Setting,
}

impl Workload {
    const fn alike(name: &'static str, spec: &'static [fn() -> Value; 1]) -> Self {
        Self {
            name,
            base: spec,
            spec: spec[0],
            setting: Setting::Usual,
        }
    }

    const fn among(
        name: &'static str,
        base: &'static [fn() -> Value],
        spec: fn() -> Value,
    ) -> Self {
        Self {
            name,
            base,
            spec,
            setting: Setting::Usual,
        }
    }

    const fn with(self, setting: Setting) -> Self {
        Self { setting, ..self }
    }
}

fn plain() -> Value {
    json!({})
}

/// A required or preferred term of (anti-)affinity to pods like itself; in all namespaces of a team if asked for.
fn affinity(kind: &str, key: &str, required: bool, by_team: bool) -> Value {
    let mut term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key});
    if by_team {
        term["namespaceSelector"] = json!({"matchLabels": {"team": "devops"}});
    }
    let terms = if required {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
    } else {
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]})
    };
    json!({"affinity": {kind: terms}})
}

fn near() -> Value {
    affinity("podAffinity", ZONE, true, false)
}

fn apart() -> Value {
    affinity("podAntiAffinity", HOST, true, false)
}

fn rather_near() -> Value {
    affinity("podAffinity", HOST, false, false)
}

fn rather_apart() -> Value {
    affinity("podAntiAffinity", HOST, false, false)
}

fn on_two_zones() -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone-1", "zone-2"]}]}]}}}})
}

fn spread(when: &str) -> Value {
    json!({"topologySpreadConstraints": [{
        "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}}]})
}

/// A container that takes so much.
pub(crate) fn taking(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "image": IMAGE,
        "resources": {"requests": {"cpu": cpu, "memory": "500Mi"}}}]})
}

fn huge() -> Value {
    taking("100")
}

fn urgent() -> Value {
    let mut spec = taking("3000m");
    spec["priorityClassName"] = "high".into();
    spec
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload::alike("SchedulingBasic", &[plain]),
    Workload::alike("SchedulingPodAffinity", &[near]),
    Workload::alike("SchedulingPodAntiAffinity", &[apart]),
    Workload::alike("SchedulingPreferredPodAffinity", &[rather_near]),
    Workload::alike("SchedulingPreferredPodAntiAffinity", &[rather_apart]),
    Workload::alike(
        "SchedulingRequiredPodAffinityWithNSSelector",
        &[|| affinity("podAffinity", ZONE, true, true)],
    )
    .with(Setting::Namespaces),
    Workload::alike(
        "SchedulingRequiredPodAntiAffinityWithNSSelector",
        &[|| affinity("podAntiAffinity", HOST, true, true)],
    )
    .with(Setting::Namespaces),
    Workload::alike(
        "SchedulingPreferredAffinityWithNSSelector",
        &[|| affinity("podAffinity", HOST, false, true)],
    )
    .with(Setting::Namespaces),
    Workload::alike(
        "SchedulingPreferredAntiAffinityWithNSSelector",
        &[|| affinity("podAntiAffinity", HOST, false, true)],
    )
    .with(Setting::Namespaces),
    Workload::alike("SchedulingNodeAffinity", &[on_two_zones]),
    Workload::alike("TopologySpreading", &[|| spread("DoNotSchedule")]),
    Workload::alike("PreferredTopologySpreading", &[|| spread("ScheduleAnyway")]),
    Workload::among(
        "MixedSchedulingBasePod",
        &[plain, near, apart, rather_near, rather_apart],
        plain,
    ),
    Workload::among("Unschedulable", &[huge], plain).with(Setting::Stuck),
    Workload::among("SchedulingWithMixedChurn", &[plain], plain).with(Setting::Churn),
    Workload::among("PreemptionBasic", &[|| taking("900m")], urgent).with(Setting::Full),
];

pub(crate) fn node(name: &str, zone: usize) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {HOST: name, ZONE: format!("zone-{}", zone % 10)}},
        "status": {
            "capacity": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .expect("a node")
}

pub(crate) fn pod(name: String, spec: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0},
    });
    let usual = taking("100m");
    for (key, value) in usual
        .as_object()
        .into_iter()
        .chain(spec.as_object())
        .flatten()
    {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

//! The arguments of the bundled plugins.

use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    plugins::{
        DefaultConstraints, DefaultPreemption, InterPodAffinity, NodeAffinity,
        NodeResourcesBalancedAllocation, NodeResourcesFit, PodTopologySpread, ScoringStrategy,
        UtilizationPoint,
    },
    snapshot::SpreadConstraint,
};

fn read<T: DeserializeOwned>(arguments: &Value) -> Result<T, String> {
    let mut arguments = arguments.clone();
    if let Some(object) = arguments.as_object_mut() {
        object.remove("apiVersion");
        object.remove("kind");
    }
    serde_json::from_value(arguments).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodeAffinityArgs {
    added_affinity: Option<core::NodeAffinity>,
}

pub(super) fn node_affinity(arguments: &Value) -> Result<NodeAffinity, String> {
    let arguments: NodeAffinityArgs = read(arguments)?;
    Ok(arguments
        .added_affinity
        .map_or_else(NodeAffinity::default, NodeAffinity::with_added))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resource {
    name: String,
    weight: Option<i64>,
}

impl Resource {
    fn weight(&self) -> Result<i64, String> {
        let weight = self.weight.filter(|w| *w != 0).unwrap_or(1);
        if (1..=100).contains(&weight) {
            Ok(weight)
        } else {
            Err(format!(
                "resource weight of {} not in valid range [1, 100]",
                self.name
            ))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Point {
    utilization: i64,
    score: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ratio {
    shape: Vec<Point>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Strategy {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    resources: Vec<Resource>,
    requested_to_capacity_ratio: Option<Ratio>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FitArgs {
    #[serde(default)]
    ignored_resources: Vec<String>,
    #[serde(default)]
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<Strategy>,
}

fn curve(ratio: Option<Ratio>) -> Result<Vec<UtilizationPoint>, String> {
    let shape = ratio.map(|r| r.shape).unwrap_or_default();
    if shape.is_empty() {
        return Err("requestedToCapacityRatio: at least one point must be specified".into());
    }
    if !shape.is_sorted_by(|a, b| a.utilization < b.utilization) {
        return Err(
            "requestedToCapacityRatio: utilization values must be sorted in increasing order"
                .into(),
        );
    }
    let is_fine = |p: &Point| (0..=100).contains(&p.utilization) && (0..=10).contains(&p.score);
    if !shape.iter().all(is_fine) {
        return Err(
            "requestedToCapacityRatio: utilization not in [0, 100] or score not in [0, 10]".into(),
        );
    }
    let point = |p: Point| UtilizationPoint {
        utilization: p.utilization,
        score: p.score,
    };
    Ok(shape.into_iter().map(point).collect())
}

pub(super) fn fit(arguments: &Value) -> Result<NodeResourcesFit, String> {
    let arguments: FitArgs = read(arguments)?;
    let mut resources = Vec::new();
    let strategy = match arguments.scoring_strategy {
        None => ScoringStrategy::LeastAllocated,
        Some(strategy) => {
            for resource in &strategy.resources {
                resources.push((resource.name.clone(), resource.weight()?));
            }
            match strategy.kind.as_deref().unwrap_or("LeastAllocated") {
                "LeastAllocated" => ScoringStrategy::LeastAllocated,
                "MostAllocated" => ScoringStrategy::MostAllocated,
                "RequestedToCapacityRatio" => {
                    let curve = curve(strategy.requested_to_capacity_ratio)?;
                    ScoringStrategy::RequestedToCapacityRatio(curve)
                }
                other => {
                    return Err(format!(
                        "scoringStrategy.type: Unsupported value: {other:?}"
                    ));
                }
            }
        }
    };
    let mut plugin = NodeResourcesFit::new(strategy).ignoring(
        arguments.ignored_resources,
        arguments.ignored_resource_groups,
    );
    if !resources.is_empty() {
        plugin = plugin.with_resources(resources);
    }
    Ok(plugin)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BalancedArgs {
    #[serde(default)]
    resources: Vec<Resource>,
}

pub(super) fn balanced(arguments: &Value) -> Result<NodeResourcesBalancedAllocation, String> {
    let arguments: BalancedArgs = read(arguments)?;
    if arguments.resources.is_empty() {
        return Ok(NodeResourcesBalancedAllocation::default());
    }
    if arguments
        .resources
        .iter()
        .any(|r| r.weight.is_some_and(|w| w > 1))
    {
        return Err("resources: resource weight not in valid range [1, 1]".into());
    }
    let names = arguments.resources.into_iter().map(|r| r.name);
    Ok(NodeResourcesBalancedAllocation::new(names))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InterPodAffinityArgs {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: Option<bool>,
}

pub(super) fn inter_pod_affinity(arguments: &Value) -> Result<InterPodAffinity, String> {
    let arguments: InterPodAffinityArgs = read(arguments)?;
    let weight = arguments.hard_pod_affinity_weight.unwrap_or(1);
    if !(0..=100).contains(&weight) {
        return Err("hardPodAffinityWeight: not in valid range [0, 100]".into());
    }
    let ignores = arguments
        .ignore_preferred_terms_of_existing_pods
        .unwrap_or(false);
    Ok(InterPodAffinity::new(weight, ignores))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpreadArgs {
    #[serde(default)]
    default_constraints: Vec<core::TopologySpreadConstraint>,
    defaulting_type: Option<String>,
}

pub(super) fn spread(arguments: &Value) -> Result<PodTopologySpread, String> {
    let arguments: SpreadArgs = read(arguments)?;
    let mut list = Vec::new();
    for constraint in &arguments.default_constraints {
        if constraint.label_selector.is_some() {
            return Err("defaultConstraints.labelSelector: constraint must not define a selector, as they are deduced for each pod".into());
        }
        if constraint.max_skew <= 0 || constraint.topology_key.is_empty() {
            return Err("defaultConstraints: maxSkew must be positive and topologyKey set".into());
        }
        let parsed = SpreadConstraint::try_from(constraint).map_err(|e| e.to_string())?;
        list.push(parsed);
    }
    let defaults = match arguments.defaulting_type.as_deref().unwrap_or("System") {
        "List" => DefaultConstraints::List(list),
        "System" if list.is_empty() => DefaultConstraints::System,
        "System" => {
            return Err("defaultConstraints: when .defaultingType is System".into());
        }
        other => return Err(format!("defaultingType: Unsupported value: {other:?}")),
    };
    Ok(PodTopologySpread::new(defaults))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PreemptionArgs {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

pub(super) fn preemption(arguments: &Value) -> Result<DefaultPreemption, String> {
    let arguments: PreemptionArgs = read(arguments)?;
    let percent = arguments.min_candidate_nodes_percentage.unwrap_or(10);
    let absolute = arguments.min_candidate_nodes_absolute.unwrap_or(100);
    if !(0..=100).contains(&percent) {
        return Err("minCandidateNodesPercentage: not in valid range [0, 100]".into());
    }
    if absolute < 0 || (percent == 0 && absolute == 0) {
        return Err(
            "minCandidateNodesPercentage and minCandidateNodesAbsolute: both can't be zero".into(),
        );
    }
    let size = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok(DefaultPreemption::new(size(percent), size(absolute)))
}

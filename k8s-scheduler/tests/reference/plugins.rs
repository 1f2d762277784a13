//! What upstream's plugins say, written down as plainly as possible: over JSON, with loops over everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::Cluster;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or("0");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

fn on<'a>(cluster: &'a Cluster, node: &Value) -> Vec<&'a Value> {
    let name = &node["metadata"]["name"];
    cluster
        .pods
        .iter()
        .filter(|p| &p["spec"]["nodeName"] == name)
        .collect()
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

fn satisfies(requirement: &Value, value: Option<&str>) -> bool {
    let has = list(&requirement["values"])
        .iter()
        .any(|v| v.as_str() == value);
    match requirement["operator"].as_str().unwrap() {
        "In" => value.is_some() && has,
        "NotIn" => value.is_none() || !has,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        other => panic!("{other}"),
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    let pairs = selector["matchLabels"].as_object();
    pairs
        .into_iter()
        .flatten()
        .all(|(key, value)| &labels[key] == value)
        && list(&selector["matchExpressions"])
            .iter()
            .all(|r| satisfies(r, labels[r["key"].as_str().unwrap()].as_str()))
}

/// Whether a term of `owner` speaks of `pod`.
fn term_matches(cluster: &Cluster, term: &Value, owner: &Value, pod: &Value) -> bool {
    let namespace = &pod["metadata"]["namespace"];
    let named = list(&term["namespaces"]);
    let by_name = if named.is_empty() && term["namespaceSelector"].is_null() {
        namespace == &owner["metadata"]["namespace"]
    } else {
        named.contains(namespace)
    };
    let of = cluster
        .namespaces
        .iter()
        .find(|n| &n["metadata"]["name"] == namespace);
    let by_labels =
        of.is_some_and(|n| selects(&term["namespaceSelector"], &n["metadata"]["labels"]));
    let own = list(&term["matchLabelKeys"]).iter().all(|key| {
        let key = key.as_str().unwrap();
        label(owner, key).is_none() || label(owner, key) == label(pod, key)
    });
    (by_name || by_labels) && own && selects(&term["labelSelector"], &pod["metadata"]["labels"])
}

fn required<'a>(pod: &'a Value, kind: &str) -> &'a [Value] {
    list(&pod["spec"]["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"])
}

fn preferred<'a>(pod: &'a Value, kind: &str) -> &'a [Value] {
    list(&pod["spec"]["affinity"][kind]["preferredDuringSchedulingIgnoredDuringExecution"])
}

fn tolerates(pod: &Value, taint: &Value) -> bool {
    list(&pod["spec"]["tolerations"])
        .iter()
        .any(|t| t["key"] == taint["key"] && t["value"] == taint["value"])
}

fn untolerated(pod: &Value, node: &Value) -> bool {
    let hard = |t: &&Value| t["effect"] != "PreferNoSchedule";
    list(&node["spec"]["taints"])
        .iter()
        .filter(hard)
        .any(|t| !tolerates(pod, t))
}

fn node_term(term: &Value, node: &Value) -> bool {
    list(&term["matchExpressions"])
        .iter()
        .all(|r| satisfies(r, label(node, r["key"].as_str().unwrap())))
}

fn node_affinity(pod: &Value, node: &Value) -> bool {
    let selector = pod["spec"]["nodeSelector"].as_object();
    let wanted =
        &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    selector
        .into_iter()
        .flatten()
        .all(|(k, v)| label(node, k) == v.as_str())
        && (wanted.is_null()
            || list(&wanted["nodeSelectorTerms"])
                .iter()
                .any(|t| node_term(t, node)))
}

fn request(pod: &Value, resource: &str) -> i64 {
    number(&pod["spec"]["containers"][0]["resources"]["requests"][resource])
}

/// With upstream's allowance for containers that request nothing.
fn non_zero(pod: &Value, resource: &str) -> i64 {
    let requests = &pod["spec"]["containers"][0]["resources"]["requests"];
    match (resource, requests[resource].is_null()) {
        ("cpu", true) => 100,
        ("memory", true) => 200,
        _ => request(pod, resource),
    }
}

fn fits(cluster: &Cluster, pod: &Value, node: &Value) -> bool {
    let has = &node["status"]["allocatable"];
    let pods = on(cluster, node);
    let enough = |resource: &str| {
        let taken: i64 = pods.iter().map(|p| request(p, resource)).sum();
        request(pod, resource) == 0 || request(pod, resource) + taken <= number(&has[resource])
    };
    (pods.len() as i64) < number(&has["pods"])
        && ["cpu", "memory", "example.com/gpu"].into_iter().all(enough)
}

fn port(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["ports"][0]["hostPort"]
}

/// The constraints of one kind with their selectors as JSON, and whether all keys are required.
fn constraints(cluster: &Cluster, pod: &Value, when: &str) -> (Vec<Value>, bool) {
    let own = list(&pod["spec"]["topologySpreadConstraints"]);
    if !own.is_empty() {
        let of_kind = own.iter().filter(|c| c["whenUnsatisfiable"] == when);
        return (of_kind.cloned().collect(), true);
    }
    let namespace = &pod["metadata"]["namespace"];
    let mut labels = json!({});
    for service in cluster
        .services
        .iter()
        .filter(|s| &s["metadata"]["namespace"] == namespace)
    {
        let selector = service["spec"]["selector"].as_object().unwrap();
        if selector.iter().all(|(k, v)| label(pod, k) == v.as_str()) {
            for (key, value) in selector {
                labels[key] = value.clone();
            }
        }
    }
    if when == "DoNotSchedule" || labels == json!({}) {
        return (Vec::new(), true);
    }
    let default = |key: &str, skew: i64| json!({"topologyKey": key, "maxSkew": skew, "labelSelector": {"matchLabels": labels}});
    (vec![default(HOSTNAME, 3), default(ZONE, 5)], false)
}

fn counts(constraint: &Value, pod: &Value, other: &Value) -> bool {
    let own = list(&constraint["matchLabelKeys"]).iter().all(|key| {
        let key = key.as_str().unwrap();
        label(pod, key).is_none() || label(pod, key) == label(other, key)
    });
    other["metadata"]["deletionTimestamp"].is_null()
        && other["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && own
        && selects(&constraint["labelSelector"], &other["metadata"]["labels"])
}

fn included(
    constraint: &Value,
    all: &[Value],
    requires_all: bool,
    pod: &Value,
    node: &Value,
) -> bool {
    let key = |c: &Value| c["topologyKey"].as_str().unwrap().to_owned();
    (!requires_all || all.iter().all(|c| label(node, &key(c)).is_some()))
        && (constraint["nodeAffinityPolicy"] == "Ignore" || node_affinity(pod, node))
        && (constraint["nodeTaintsPolicy"] != "Honor" || !untolerated(pod, node))
}

fn spreads(cluster: &Cluster, pod: &Value, node: &Value) -> bool {
    let (all, requires_all) = constraints(cluster, pod, "DoNotSchedule");
    all.iter().all(|constraint| {
        let key = constraint["topologyKey"].as_str().unwrap();
        let Some(value) = label(node, key) else {
            return false;
        };
        let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
        for node in &cluster.nodes {
            if included(constraint, &all, requires_all, pod, node) {
                let matching = on(cluster, node)
                    .into_iter()
                    .filter(|p| counts(constraint, pod, p));
                *domains.entry(label(node, key).unwrap()).or_default() += matching.count() as i64;
            }
        }
        let fewest = if (domains.len() as i64) < constraint["minDomains"].as_i64().unwrap_or(1) {
            0
        } else {
            domains.values().copied().min().unwrap_or(0)
        };
        let mut itself = pod.clone();
        itself["metadata"]["deletionTimestamp"] = Value::Null;
        let own = i64::from(counts(constraint, pod, &itself));
        domains.get(value).copied().unwrap_or(0) + own - fewest
            <= constraint["maxSkew"].as_i64().unwrap()
    })
}

/// Pods with the nodes that they are on.
fn placed(cluster: &Cluster) -> impl Iterator<Item = (&Value, &Value)> {
    cluster
        .nodes
        .iter()
        .flat_map(|n| on(cluster, n).into_iter().map(move |p| (p, n)))
}

fn same_domain(term: &Value, a: &Value, b: &Value) -> bool {
    let key = term["topologyKey"].as_str().unwrap();
    label(a, key).is_some() && label(a, key) == label(b, key)
}

fn has_company(cluster: &Cluster, pod: &Value, node: &Value) -> bool {
    let terms = required(pod, "podAffinity");
    let matches_all = |other: &Value| terms.iter().all(|t| term_matches(cluster, t, pod, other));
    let has_key = |t: &Value| label(node, t["topologyKey"].as_str().unwrap()).is_some();
    if !terms.iter().all(has_key) {
        return false;
    }
    let near = |t: &Value| placed(cluster).any(|(p, n)| matches_all(p) && same_domain(t, n, node));
    let anywhere = placed(cluster).any(|(p, n)| {
        matches_all(p)
            && terms
                .iter()
                .any(|t| label(n, t["topologyKey"].as_str().unwrap()).is_some())
    });
    terms.iter().all(near) || (!anywhere && matches_all(pod))
}

fn is_alone(cluster: &Cluster, pod: &Value, node: &Value) -> bool {
    let ours = required(pod, "podAntiAffinity").iter().all(|t| {
        !placed(cluster).any(|(p, n)| term_matches(cluster, t, pod, p) && same_domain(t, n, node))
    });
    let theirs = placed(cluster).all(|(p, n)| {
        !required(p, "podAntiAffinity")
            .iter()
            .any(|t| term_matches(cluster, t, p, pod) && same_domain(t, n, node))
    });
    ours && theirs
}

/// The first plugin that turns the pod away from the node.
pub(crate) fn rejected_by(cluster: &Cluster, pod: &Value, node: &Value) -> Option<&'static str> {
    let ports = |p: &&Value| !port(pod).is_null() && port(p) == port(pod);
    let checks: [(&'static str, bool); 7] = [
        ("NodeUnschedulable", node["spec"]["unschedulable"] != true),
        ("TaintToleration", !untolerated(pod, node)),
        ("NodeAffinity", node_affinity(pod, node)),
        ("NodePorts", !on(cluster, node).iter().any(ports)),
        ("NodeResourcesFit", fits(cluster, pod, node)),
        ("PodTopologySpread", spreads(cluster, pod, node)),
        (
            "InterPodAffinity",
            has_company(cluster, pod, node) && is_alone(cluster, pod, node),
        ),
    ];
    checks
        .into_iter()
        .find(|(_, fits)| !fits)
        .map(|(name, _)| name)
}

fn filled(
    cluster: &Cluster,
    pod: &Value,
    node: &Value,
    resource: &str,
    of: fn(&Value, &str) -> i64,
) -> (i64, i64) {
    let taken: i64 = on(cluster, node).into_iter().map(|p| of(p, resource)).sum();
    (
        number(&node["status"]["allocatable"][resource]),
        taken + of(pod, resource),
    )
}

fn least_allocated(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let mebi = 1024 * 1024;
    let score = |resource, unit: i64| {
        let (has, taken) = filled(cluster, pod, node, resource, non_zero);
        if taken > has {
            0
        } else {
            (has - taken) * unit * 100 / (has * unit)
        }
    };
    (score("cpu", 1) + score("memory", mebi)) / 2
}

fn balanced(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let mebi = 1024.0 * 1024.0;
    let fraction = |resource, unit: f64| {
        let (has, taken) = filled(cluster, pod, node, resource, request);
        ((taken as f64 * unit) / (has as f64 * unit)).min(1.0)
    };
    let deviation = (fraction("cpu", 1.0) - fraction("memory", mebi)).abs() / 2.0;
    ((1.0 - deviation) * 100.0) as i64
}

fn image_locality(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
    let image = if image.contains(':') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    };
    let size = |node: &Value| {
        let held = list(&node["status"]["images"])
            .iter()
            .find(|i| i["names"][0] == image.as_str());
        held.map(|i| i["sizeBytes"].as_i64().unwrap())
    };
    let with = cluster.nodes.iter().filter(|n| size(n).is_some()).count();
    let share = with as f64 / cluster.nodes.len() as f64;
    let (low, high) = (23 * 1024 * 1024, 1000 * 1024 * 1024);
    let scaled = (size(node).unwrap_or(0) as f64 * share) as i64;
    100 * (scaled.clamp(low, high) - low) / (high - low)
}

fn company_score(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let mut score = 0;
    for (other, at) in placed(cluster) {
        for (kind, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
            for (a, b) in [(pod, other), (other, pod)] {
                for preference in preferred(a, kind) {
                    let term = &preference["podAffinityTerm"];
                    if term_matches(cluster, term, a, b) && same_domain(term, at, node) {
                        score += sign * preference["weight"].as_i64().unwrap();
                    }
                }
            }
        }
        for term in required(other, "podAffinity") {
            if term_matches(cluster, term, other, pod) && same_domain(term, at, node) {
                score += 1;
            }
        }
    }
    score
}

fn spread_scores(cluster: &Cluster, pod: &Value, nodes: &[&Value]) -> Vec<Option<i64>> {
    let (all, requires_all) = constraints(cluster, pod, "ScheduleAnyway");
    let key = |c: &Value| c["topologyKey"].as_str().unwrap().to_owned();
    let ignored = |n: &Value| requires_all && !all.iter().all(|c| label(n, &key(c)).is_some());
    let counted: Vec<&&Value> = nodes.iter().filter(|n| !ignored(n)).collect();
    let score = |node: &Value| {
        let mut sum = 0.0;
        for constraint in &all {
            let key = key(constraint);
            let Some(value) = label(node, &key) else {
                continue;
            };
            let matching = |n: &Value| {
                on(cluster, n)
                    .into_iter()
                    .filter(|p| counts(constraint, pod, p))
                    .count()
            };
            let (count, size) = if key == HOSTNAME {
                (matching(node), counted.len())
            } else {
                let here = |n: &&Value| {
                    label(n, &key) == Some(value)
                        && included(constraint, &all, requires_all, pod, n)
                };
                let domains: BTreeSet<_> = counted.iter().map(|n| label(n, &key)).collect();
                (
                    cluster.nodes.iter().filter(here).map(matching).sum(),
                    domains.len(),
                )
            };
            let skew = constraint["maxSkew"].as_i64().unwrap() - 1;
            sum += count as f64 * ((size + 2) as f64).ln() + skew as f64;
        }
        sum.round() as i64
    };
    nodes
        .iter()
        .map(|n| (!ignored(n)).then(|| score(n)))
        .collect()
}

fn stretched(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let stretch = |s: i64| if highest == 0 { 0 } else { s * 100 / highest };
    scores
        .into_iter()
        .map(|s| {
            if reverse {
                100 - stretch(s)
            } else {
                stretch(s)
            }
        })
        .collect()
}

/// The weighted sum of all plugins' scores, for the nodes that fit.
pub(crate) fn totals(cluster: &Cluster, pod: &Value, nodes: &[&Value]) -> Vec<i64> {
    let each =
        |score: &dyn Fn(&Value) -> i64| -> Vec<i64> { nodes.iter().map(|n| score(n)).collect() };
    let soft = |n: &Value| {
        let taints = list(&n["spec"]["taints"]).iter();
        taints
            .filter(|t| t["effect"] == "PreferNoSchedule" && !tolerates(pod, t))
            .count() as i64
    };
    let wanted = |n: &Value| {
        let terms = preferred(pod, "nodeAffinity").iter();
        let met = terms.filter(|t| node_term(&t["preference"], n));
        met.map(|t| t["weight"].as_i64().unwrap()).sum()
    };
    let company = each(&|n| company_score(cluster, pod, n));
    let (low, high) = (
        company.iter().min().copied().unwrap_or(0),
        company.iter().max().copied().unwrap_or(0),
    );
    let near = |s: i64| match high - low {
        0 => 0,
        span => (100.0 * ((s - low) as f64 / span as f64)) as i64,
    };
    let spread = spread_scores(cluster, pod, nodes);
    let high = spread.iter().flatten().max().copied().unwrap_or(0);
    let low = spread.iter().flatten().min().copied().unwrap_or(0);
    let apart = |s: Option<i64>| match s {
        None => 0,
        Some(_) if high == 0 => 100,
        Some(s) => 100 * (high + low - s) / high,
    };
    let has_soft = !constraints(cluster, pod, "ScheduleAnyway").0.is_empty();
    let has_wanted = !preferred(pod, "nodeAffinity").is_empty();
    let columns: Vec<(i64, Vec<i64>)> = vec![
        (3, stretched(each(&soft), true)),
        (2 * i64::from(has_wanted), stretched(each(&wanted), false)),
        (1, each(&|n| least_allocated(cluster, pod, n))),
        (
            2 * i64::from(has_soft),
            spread.into_iter().map(apart).collect(),
        ),
        (2, company.into_iter().map(near).collect()),
        (1, each(&|n| balanced(cluster, pod, n))),
        (1, each(&|n| image_locality(cluster, pod, n))),
    ];
    (0..nodes.len())
        .map(|i| {
            columns
                .iter()
                .map(|(weight, column)| weight * column[i])
                .sum()
        })
        .collect()
}

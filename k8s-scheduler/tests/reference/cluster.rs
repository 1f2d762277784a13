//! Random clusters, as plain JSON.

use fastrand::Rng;
use serde_json::{Value, json};

/// Nodes and pods, as they would come from the API. Pods on a node have `spec.nodeName`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Value>,
    pub(crate) pods: Vec<Value>,
    pub(crate) namespaces: Vec<Value>,
    pub(crate) services: Vec<Value>,
    pub(crate) budgets: Vec<Value>,
}

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

pub(crate) fn node(rng: &mut Rng, name: &str) -> Value {
    let mut labels = json!({"kubernetes.io/hostname": name});
    if rng.u8(..8) > 0 {
        labels["topology.kubernetes.io/zone"] = pick(rng, &["a", "b", "c"]).into();
    }
    if rng.bool() {
        labels["disk"] = pick(rng, &["ssd", "hdd"]).into();
    }
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": {
            "cpu": format!("{}m", rng.i64(5..40) * 100), "memory": format!("{}Mi", rng.i64(5..40) * 100),
            "pods": rng.i64(1..8).to_string()}},
    });
    if rng.u8(..3) == 0 {
        node["status"]["allocatable"]["example.com/gpu"] = rng.i64(1..4).to_string().into();
    }
    if rng.u8(..3) == 0 {
        node["status"]["images"] = json!([{"names": [pick(rng, &["web:latest", "db:1"])],
            "sizeBytes": rng.i64(1..900) * 1024 * 1024}]);
    }
    if rng.u8(..4) == 0 {
        node["spec"]["taints"] = json!([{"key": "dedicated", "value": pick(rng, &["x", "y"]),
            "effect": pick(rng, &["NoSchedule", "PreferNoSchedule", "NoExecute"])}]);
    }
    if rng.u8(..10) == 0 {
        node["spec"]["unschedulable"] = true.into();
    }
    node
}

fn selector(rng: &mut Rng) -> Value {
    match rng.u8(..5) {
        0 => {
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]})
        }
        1 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
        2 => {
            json!({"matchExpressions": [{"key": "tier", "operator": pick(rng, &["Exists", "DoesNotExist"])}]})
        }
        _ => json!({"matchLabels": {"app": pick(rng, &["web", "db", "cache"])}}),
    }
}

fn term(rng: &mut Rng) -> Value {
    let key = pick(
        rng,
        &[
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
            "disk",
        ],
    );
    let mut term = json!({"labelSelector": selector(rng), "topologyKey": key});
    match rng.u8(..6) {
        0 => term["namespaces"] = json!([pick(rng, &["one", "two"])]),
        1 => {
            term["namespaceSelector"] =
                json!({"matchLabels": {"team": pick(rng, &["red", "blue"])}})
        }
        2 => term["namespaceSelector"] = json!({}),
        3 => term["matchLabelKeys"] = json!(["tier"]),
        _ => {}
    }
    term
}

fn terms(rng: &mut Rng) -> Value {
    let mut terms = json!({});
    if rng.bool() {
        terms["requiredDuringSchedulingIgnoredDuringExecution"] =
            (0..rng.usize(1..3)).map(|_| term(rng)).collect();
    }
    if rng.bool() {
        terms["preferredDuringSchedulingIgnoredDuringExecution"] = (0..rng.usize(1..3))
            .map(|_| json!({"weight": rng.i64(1..101), "podAffinityTerm": term(rng)}))
            .collect();
    }
    terms
}

fn node_terms(rng: &mut Rng) -> Value {
    json!({"matchExpressions": [{"key": "disk", "operator": pick(rng, &["In", "NotIn"]),
        "values": [pick(rng, &["ssd", "hdd"])]}]})
}

pub(crate) fn pod(rng: &mut Rng, name: &str, node: Option<&str>) -> Value {
    let mut labels = json!({"app": pick(rng, &["web", "db", "cache"])});
    if rng.bool() {
        labels["tier"] = pick(rng, &["front", "back"]).into();
    }
    let mut requests = json!({});
    if rng.u8(..4) > 0 {
        requests["cpu"] = format!("{}m", rng.i64(1..12) * 100).into();
    }
    if rng.u8(..4) > 0 {
        requests["memory"] = format!("{}Mi", rng.i64(1..12) * 100).into();
    }
    if rng.u8(..8) == 0 {
        requests["example.com/gpu"] = rng.i64(1..3).to_string().into();
    }
    let image = pick(rng, &["web", "db:1", "cache:2"]);
    let mut container = json!({"name": "c", "image": image, "resources": {"requests": requests}});
    if rng.u8(..6) == 0 {
        container["ports"] = json!([{"containerPort": 80, "hostPort": rng.i64(8080..8083)}]);
    }
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": name, "labels": labels, "namespace": pick(rng, &["one", "two"])},
        "spec": {"containers": [container], "priority": rng.i64(0..4) * 10},
        "status": {"startTime": format!("2026-01-01T00:00:{:02}Z", rng.u8(..60))},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
        if rng.u8(..10) == 0 {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
    }
    if rng.u8(..3) == 0 {
        pod["spec"]["affinity"]["podAffinity"] = terms(rng);
    }
    if rng.u8(..3) == 0 {
        pod["spec"]["affinity"]["podAntiAffinity"] = terms(rng);
    }
    if rng.u8(..6) == 0 {
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": [node_terms(rng)]});
    }
    if rng.u8(..4) == 0 {
        pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
            json!([{"weight": rng.i64(1..50), "preference": node_terms(rng)}]);
    }
    if rng.u8(..8) == 0 {
        pod["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    }
    if rng.u8(..3) == 0 {
        pod["spec"]["tolerations"] =
            json!([{"key": "dedicated", "operator": "Equal", "value": "x"}]);
    }
    if rng.u8(..3) == 0 {
        let constraint = |key: &str, rng: &mut Rng| {
            let mut constraint = json!({"maxSkew": rng.i64(1..3), "topologyKey": key,
                "whenUnsatisfiable": pick(rng, &["DoNotSchedule", "ScheduleAnyway"]),
                "labelSelector": selector(rng)});
            if rng.u8(..4) == 0 && constraint["whenUnsatisfiable"] == "DoNotSchedule" {
                constraint["minDomains"] = rng.i64(1..5).into();
            }
            if rng.u8(..4) == 0 {
                constraint["nodeAffinityPolicy"] = "Ignore".into();
            }
            if rng.u8(..4) == 0 {
                constraint["nodeTaintsPolicy"] = "Honor".into();
            }
            if rng.u8(..4) == 0 {
                constraint["matchLabelKeys"] = json!(["tier"]);
            }
            constraint
        };
        let mut constraints = vec![constraint("topology.kubernetes.io/zone", rng)];
        if rng.bool() {
            constraints.push(constraint("kubernetes.io/hostname", rng));
        }
        pod["spec"]["topologySpreadConstraints"] = constraints.into();
    }
    pod
}

impl Cluster {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let nodes: Vec<Value> = (0..rng.usize(1..12))
            .map(|n| node(rng, &format!("node-{n}")))
            .collect();
        let place = |rng: &mut Rng, n: usize| {
            let node = format!("node-{}", rng.usize(..nodes.len()));
            pod(rng, &format!("pod-{n}"), Some(&node))
        };
        let pods = (0..rng.usize(..30)).map(|n| place(rng, n)).collect();
        let metadata = |name: &str| json!({"name": name, "namespace": "one"});
        Self {
            pods,
            namespaces: vec![
                json!({"metadata": {"name": "one", "labels": {"team": "red"}}}),
                json!({"metadata": {"name": "two", "labels": {"team": "blue"}}}),
            ],
            services: vec![
                json!({"metadata": metadata("s"), "spec": {"selector": {"app": "web"}}}),
            ],
            budgets: vec![json!({"metadata": metadata("b"),
                "spec": {"selector": {"matchLabels": {"app": pick(rng, &["web", "db"])}}},
                "status": {"disruptionsAllowed": rng.i64(0..2), "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}})],
            nodes,
        }
    }
}

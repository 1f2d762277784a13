use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::*;

fn node(name: &str, extra: serde_json::Value) -> Node {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"zone": "a"}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3"}},
    });
    json_patch::merge(&mut node, &extra);
    serde_json::from_value(node).unwrap()
}

fn pod(name: &str, spec: serde_json::Value) -> PodInfo {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]},
    });
    json_patch::merge(&mut pod["spec"], &spec);
    serde_json::from_value::<Pod>(pod).unwrap().into()
}

fn place(snapshot: &Snapshot, pod: &PodInfo) -> Result<String, String> {
    let scheduler = Scheduler::new(Profile::default());
    scheduler
        .schedule(snapshot, pod, 7)
        .map(|p| p.node)
        .map_err(|e| e.to_string())
}

#[test]
fn the_emptier_node_is_preferred() {
    let busy = pod("busy", json!({"nodeName": "a"}));
    let snapshot = Snapshot::new([node("a", json!({})), node("b", json!({}))], [busy]);
    assert_eq!(place(&snapshot, &pod("p", json!({}))).unwrap(), "b");
}

#[test]
fn reasons_are_counted_and_worded_as_upstream_does() {
    let nodes = [
        node("a", json!({"spec": {"unschedulable": true}})),
        node(
            "b",
            json!({"spec": {"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]}}),
        ),
        node(
            "c",
            json!({"status": {"allocatable": {"cpu": "100m", "memory": "10Mi"}}}),
        ),
    ];
    let error = place(&Snapshot::new(nodes, []), &pod("p", json!({}))).unwrap_err();
    assert_eq!(
        error,
        "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint \
         {dedicated: db}, 1 node(s) were unschedulable."
    );
}

#[test]
fn without_nodes_the_message_says_so() {
    let error = place(&Snapshot::default(), &pod("p", json!({}))).unwrap_err();
    assert_eq!(error, "no nodes available to schedule pods");
}

#[test]
fn a_full_node_takes_no_more_pods() {
    let pods =
        ["x", "y", "z"].map(|n| pod(n, json!({"nodeName": "a", "containers": [{"name": "c"}]})));
    let error = place(
        &Snapshot::new([node("a", json!({}))], pods),
        &pod("p", json!({})),
    )
    .unwrap_err();
    assert_eq!(error, "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn node_selectors_and_affinity_operators_hold() {
    let snapshot = Snapshot::new(
        [node(
            "a",
            json!({"metadata": {"labels": {"disk": "ssd", "cores": "8"}}}),
        )],
        [],
    );
    let affinity = |key: &str, operator: &str, values: serde_json::Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
    };
    for (spec, fits) in [
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (json!({"nodeSelector": {"disk": "hdd"}}), false),
        (affinity("disk", "In", json!(["ssd", "nvme"])), true),
        (affinity("disk", "NotIn", json!(["ssd"])), false),
        (affinity("gpu", "NotIn", json!(["x"])), true),
        (affinity("gpu", "DoesNotExist", json!(null)), true),
        (affinity("gpu", "Exists", json!(null)), false),
        (affinity("cores", "Gt", json!(["4"])), true),
        (affinity("cores", "Lt", json!(["4"])), false),
        (affinity("cores", "Gt", json!(["many"])), false),
        (affinity("disk", "Fits", json!(["ssd"])), false),
    ] {
        assert_eq!(
            place(&snapshot, &pod("p", spec.clone())).is_ok(),
            fits,
            "{spec}"
        );
    }
}

#[test]
fn host_ports_do_not_collide() {
    let with_port = |name: &str, ip: &str, node: &str| {
        let ports = json!([{"containerPort": 80, "hostPort": 8080, "hostIP": ip}]);
        pod(
            name,
            json!({"nodeName": node, "containers": [{"name": "c", "ports": ports}]}),
        )
    };
    let snapshot = Snapshot::new([node("a", json!({}))], [with_port("x", "127.0.0.1", "a")]);
    assert!(
        place(&snapshot, &with_port("p", "", ""))
            .unwrap_err()
            .contains("free ports")
    );
    assert!(place(&snapshot, &with_port("p", "10.0.0.1", "")).is_ok());
}

#[test]
fn an_absurd_request_fits_nowhere_and_overflows_nothing() {
    let huge = json!({"containers": [
        {"name": "a", "resources": {"requests": {"cpu": "9223372036854775807", "memory": "9Ei"}}},
        {"name": "b", "resources": {"requests": {"cpu": "9223372036854775807", "memory": "9Ei"}}},
    ]});
    let snapshot = Snapshot::new([node("a", json!({}))], []);
    assert!(
        place(&snapshot, &pod("p", huge))
            .unwrap_err()
            .contains("Insufficient cpu")
    );
}

#[test]
fn init_containers_count_by_the_largest_beside_sidecars() {
    let request = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let info = pod(
        "p",
        json!({
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": request("100m")},
                {"name": "init", "resources": request("900m")},
            ],
            "containers": [{"name": "c", "resources": request("500m")}],
            "overhead": {"cpu": "50m"},
        }),
    );
    assert_eq!(info.requests().milli_cpu, 1050);
}

#[test]
fn equal_arguments_give_equal_results_and_the_seed_spreads() {
    let nodes = ["a", "b", "c", "d"].map(|n| node(n, json!({})));
    let snapshot = Snapshot::new(nodes, []);
    let scheduler = Scheduler::new(Profile::default());
    let pod = pod("p", json!({}));
    let chosen = |seed| scheduler.schedule(&snapshot, &pod, seed).unwrap().node;
    assert_eq!(chosen(1), chosen(1));
    let all: BTreeSet<String> = (0..64).map(chosen).collect();
    assert_eq!(all.len(), 4);
}

/// A pod with labels.
fn labelled(name: &str, app: &str, spec: serde_json::Value) -> PodInfo {
    let whole = Pod::clone(pod(name, spec).pod().unwrap());
    let labels = std::collections::BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let mut whole = whole;
    whole.metadata.labels = Some(labels);
    whole.into()
}

fn affinity(kind: &str, app: &str, key: &str) -> serde_json::Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}]}}})
}

fn zones() -> [Node; 4] {
    [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")].map(|(name, zone)| {
        node(
            name,
            json!({"metadata": {"labels": {"zone": zone, "host": name}}}),
        )
    })
}

#[test]
fn affinity_follows_pods_into_their_domain() {
    let web = labelled("web", "web", json!({"nodeName": "b1"}));
    let snapshot = Snapshot::new(zones(), [web]);
    let wants = labelled("p", "db", affinity("podAffinity", "web", "zone"));
    assert!(place(&snapshot, &wants).unwrap().starts_with('b'));
    let lonely = labelled("p", "db", affinity("podAffinity", "cache", "zone"));
    assert_eq!(
        place(&snapshot, &lonely).unwrap_err(),
        "0/4 nodes are available: 4 node(s) didn't match pod affinity rules."
    );
    let first = labelled("p", "cache", affinity("podAffinity", "cache", "zone"));
    assert!(
        place(&snapshot, &first).is_ok(),
        "the first of its kind goes anywhere"
    );
}

#[test]
fn anti_affinity_is_symmetric() {
    let shy = affinity("podAntiAffinity", "web", "zone");
    let mut there = shy.clone();
    there["nodeName"] = "a1".into();
    let snapshot = Snapshot::new(zones(), [labelled("x", "db", there)]);
    assert!(
        place(&snapshot, &labelled("p", "web", json!({})))
            .unwrap()
            .starts_with('b')
    );
    let web = labelled("x", "web", json!({"nodeName": "b1"}));
    let snapshot = Snapshot::new(zones(), [web]);
    assert!(
        place(&snapshot, &labelled("p", "db", shy))
            .unwrap()
            .starts_with('a')
    );
}

#[test]
fn hard_spreading_keeps_the_skew() {
    let spread = |name: &str, at: &str| {
        labelled(
            name,
            "web",
            json!({"nodeName": at, "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}]}),
        )
    };
    let mut snapshot = Snapshot::new(zones(), [spread("x", "a1")]);
    let next = spread("p", "");
    assert!(place(&snapshot, &next).unwrap().starts_with('b'));
    snapshot.place(std::sync::Arc::new(spread("y", "")), "b1");
    assert!(place(&snapshot, &next).is_ok());
    for (name, at) in [("1", "b1"), ("2", "b2"), ("3", "b2")] {
        snapshot.place(std::sync::Arc::new(spread(name, "")), at);
    }
    assert!(
        place(&snapshot, &next).unwrap().starts_with('a'),
        "the tally follows"
    );
    snapshot.remove_node("a1");
    snapshot.remove_node("a2");
    assert!(
        place(&snapshot, &next).is_ok(),
        "a domain that is gone is not the emptiest"
    );
}

#[test]
fn a_snapshot_that_was_used_decides_like_a_new_one() {
    let mut snapshot = Snapshot::new(zones(), []);
    let scheduler = Scheduler::new(Profile::default());
    for n in 0..8u64 {
        let pod = labelled(
            &format!("p{n}"),
            "web",
            affinity("podAntiAffinity", "none", "zone"),
        );
        let fresh = snapshot.clone();
        let chosen = scheduler.schedule(&snapshot, &pod, n).unwrap();
        let again = scheduler.schedule(&fresh, &pod, n).unwrap();
        assert_eq!((&chosen.node, chosen.score), (&again.node, again.score));
        snapshot.place(std::sync::Arc::new(pod), &chosen.node);
    }
}

#[test]
fn a_topology_key_with_a_value_for_each_of_very_many_nodes_is_taken() {
    let count = 100_000;
    let nodes = (0..count).map(|n| {
        let mut node = Node::default();
        node.metadata.name = Some(format!("node-{n}"));
        node.metadata.labels = Some([("host".to_owned(), format!("host-{n}"))].into());
        let amounts = json!({"cpu": "2", "memory": "4Gi", "pods": "3"});
        node.status.get_or_insert_default().allocatable = serde_json::from_value(amounts).unwrap();
        node
    });
    let mut snapshot = Snapshot::new(nodes, []);
    let scheduler = Scheduler::new(Profile::default());
    let selector = json!({"matchLabels": {"app": "web"}});
    let spec = json!({
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": selector, "topologyKey": "host"}]}},
    });
    let mut taken = BTreeSet::new();
    for n in 0..5 {
        let bare = pod(&format!("web-{n}"), spec.clone());
        let mut labelled = Pod::clone(bare.pod().unwrap());
        labelled.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        let pod = Arc::new(PodInfo::from(labelled));
        let placement = scheduler.schedule(&snapshot, &pod, n).unwrap();
        assert_eq!(placement.feasible, count - taken.len());
        snapshot.place(pod, &placement.node);
        assert!(taken.insert(placement.node));
    }
}

#[test]
fn zones_are_decided_by_one_node_of_each() {
    // More nodes than one block has, in three zones and none.
    let zone = |n: usize| match n % 4 {
        3 => json!({"metadata": {"labels": {"zone": null}}}),
        n => json!({"metadata": {"labels": {"zone": format!("zone-{n}")}}}),
    };
    let nodes = (0..400).map(|n| node(&format!("node-{n}"), zone(n)));
    let mut snapshot = Snapshot::new(nodes, []);
    let scheduler = Scheduler::new(Profile::default());
    let mut places = std::collections::BTreeMap::new();
    for n in 0..300 {
        let spec = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]});
        let pod = Arc::new(pod(&format!("p-{n}"), spec));
        let placement = scheduler.schedule(&snapshot, &pod, n).unwrap();
        let explained = scheduler.explain(&snapshot, &pod).unwrap();
        assert_eq!(placement.feasible, explained.scores.len());
        assert_eq!(placement.score, explained.scores[0].total);
        let zone = snapshot.node(&placement.node).unwrap().label("zone");
        *places.entry(zone.unwrap().to_owned()).or_insert(0) += 1;
        snapshot.place(pod, &placement.node);
    }
    assert!(places.values().all(|n| *n == 100), "{places:?}");
}

//! The entries of upstream's conformance suite about objects that scheduling goes by, and about preemption
//! among ReplicaSets.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{LimitRange, Node, Pod},
    scheduling::v1::PriorityClass,
};
use k8s_testing::TestCluster;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};

use crate::cluster::from;

async fn cluster() -> TestCluster {
    TestCluster::start().await.expect("a cluster")
}

fn limits(name: &str, value: &str) -> LimitRange {
    let amounts = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": "200Gi"});
    from(json!({
        "metadata": {"name": name, "labels": {"time": value}},
        "spec": {"limits": [{"type": "Container",
            "min": amounts("50m", "100Mi"), "max": amounts("500m", "500Mi"),
            "default": amounts("500m", "500Mi"), "defaultRequest": amounts("100m", "200Mi")}]},
    }))
}

fn with_resources(name: &str, resources: Value) -> Pod {
    from(json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "pause", "image": "example.com/pause", "resources": resources}]}}))
}

/// "LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied"
#[tokio::test]
async fn a_limit_range_gives_defaults_and_turns_away_what_is_outside() {
    let cluster = cluster().await;
    let (client, params) = (cluster.client(), PostParams::default());
    let ranges = Api::<LimitRange>::default_namespaced(client.clone());
    let pods = Api::<Pod>::default_namespaced(client);
    ranges
        .create(&params, &limits("limits", "1"))
        .await
        .expect("limits");
    let resources = |pod: &Pod| {
        let spec = pod.spec.clone().expect("a spec");
        json!(spec.containers[0].resources)
    };
    // What the server admits by follows the range.
    let plain = with_resources("plain", json!({}));
    let made = loop {
        let made = pods.create(&params, &plain).await.expect("a pod");
        if resources(&made)["requests"]["cpu"] == "100m" {
            break made;
        }
        pods.delete("plain", &DeleteParams::default().grace_period(0))
            .await
            .expect("it goes");
    };
    let amounts = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": "200Gi"});
    assert_eq!(resources(&made)["requests"], amounts("100m", "200Mi"));
    assert_eq!(resources(&made)["limits"], amounts("500m", "500Mi"));
    let partial = with_resources(
        "partial",
        json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "300m"}}),
    );
    let made = pods.create(&params, &partial).await.expect("a pod");
    assert_eq!(resources(&made)["limits"]["cpu"], "300m");
    assert_eq!(resources(&made)["limits"]["memory"], "500Mi");
    assert_eq!(resources(&made)["requests"]["memory"], "100Mi");
    for (name, requests) in [
        ("too-little", json!({"cpu": "10m", "memory": "50Mi"})),
        ("too-much", json!({"cpu": "600m", "memory": "600Mi"})),
    ] {
        let pod = with_resources(name, json!({"requests": requests, "limits": requests}));
        let refused = pods.create(&params, &pod).await;
        let kube::Error::Api(status) = refused.expect_err("it is outside") else {
            panic!("a refusal");
        };
        assert_eq!(status.code, 403, "{status:?}");
    }
    // Less than before is allowed from now on.
    let mut lower = json!(limits("limits", "1"));
    lower["spec"]["limits"][0]["min"] = json!({"cpu": "9m", "memory": "49Mi"});
    let patch = Patch::Merge(json!({"spec": lower["spec"]}));
    ranges
        .patch("limits", &PatchParams::default(), &patch)
        .await
        .expect("lower limits");
    let little = json!({"cpu": "10m", "memory": "50Mi"});
    let pod = with_resources("little", json!({"requests": little}));
    let made = async {
        while pods.create(&params, &pod).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), made)
        .await
        .expect("it is admitted by the new limits");
    ranges
        .delete("limits", &DeleteParams::default())
        .await
        .expect("it goes");
    let pod = with_resources(
        "much",
        json!({"requests": {"cpu": "600m", "memory": "600Mi"}}),
    );
    let made = async {
        while pods.create(&params, &pod).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), made)
        .await
        .expect("no limits any more");
}

/// "LimitRange should list, patch and delete a LimitRange by collection"
#[tokio::test]
async fn limit_ranges_are_listed_patched_and_deleted_by_label() {
    let cluster = cluster().await;
    cluster.namespace("other").await.expect("a namespace");
    let client = cluster.client();
    let here = Api::<LimitRange>::default_namespaced(client.clone());
    let there = Api::<LimitRange>::namespaced(client.clone(), "other");
    for ranges in [&here, &there] {
        ranges
            .create(&PostParams::default(), &limits("limits", "t"))
            .await
            .expect("limits");
    }
    let selected = ListParams::default().labels("time=t");
    let all = Api::<LimitRange>::all(client);
    assert_eq!(all.list(&selected).await.expect("a list").items.len(), 2);
    let patch = json!({"metadata": {"labels": {"limits": "patched"}},
                       "spec": {"limits": [{"type": "Container", "default": {"cpu": "400m"}}]}});
    let patched = here
        .patch("limits", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .expect("a patch");
    assert_eq!(patched.labels()["limits"], "patched");
    let spec = json!(patched.spec);
    assert_eq!(spec["limits"][0]["default"]["cpu"], "400m");
    let patched = ListParams::default().labels("limits=patched");
    here.delete_collection(&DeleteParams::default(), &patched)
        .await
        .expect("they go");
    let left = all.list(&selected).await.expect("a list").items;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].namespace().as_deref(), Some("other"));
}

/// "PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods"
#[tokio::test]
async fn of_a_priority_class_all_but_its_value_can_be_changed() {
    let cluster = cluster().await;
    let classes = Api::<PriorityClass>::all(cluster.client());
    for (name, value) in [("p1", 1), ("p2", 2)] {
        let class = from(json!({"metadata": {"name": name}, "value": value}));
        classes
            .create(&PostParams::default(), &class)
            .await
            .expect("a class");
    }
    let list = classes.list(&ListParams::default()).await.expect("a list");
    assert!(
        list.items
            .iter()
            .filter(|c| c.name_any().starts_with('p'))
            .count()
            >= 2
    );
    for name in ["p1", "p2"] {
        let mut class = classes.get(name).await.expect("it is there");
        class.description = Some("updated".into());
        let replaced = classes
            .replace(name, &PostParams::default(), &class)
            .await
            .expect("a description may change");
        assert_eq!(replaced.description.as_deref(), Some("updated"));
        let patch = Patch::Strategic(json!({"description": "patched"}));
        let patched = classes
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("a description may change");
        assert_eq!(patched.description.as_deref(), Some("patched"));
        let mut class = patched;
        class.value = class.value.map(|value| value * 10);
        let refused = classes
            .replace(name, &PostParams::default(), &class)
            .await
            .expect_err("its value is for ever");
        assert!(
            refused
                .to_string()
                .contains("may not be changed in an update"),
            "{refused}"
        );
        let patch = Patch::Strategic(json!({"value": class.value}));
        let refused = classes.patch(name, &PatchParams::default(), &patch).await;
        assert!(refused.is_err());
    }
}

/// "PreemptionExecutionPath runs ReplicaSets to verify preemption running path"
#[tokio::test]
async fn replica_sets_of_four_priorities_preempt_in_order() {
    let cluster = cluster().await;
    let client = cluster.client();
    let nodes = Api::<Node>::all(client.clone());
    let node = nodes
        .list(&ListParams::default())
        .await
        .expect("nodes")
        .items
        .remove(0);
    // A resource that nobody else takes.
    let status = json!({"status": {"capacity": {"example.com/fakecpu": "1k"}, "allocatable": {"example.com/fakecpu": "1k"}}});
    nodes
        .patch_status(
            &node.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(status),
        )
        .await
        .expect("a resource");
    let classes = Api::<PriorityClass>::all(client.clone());
    let sets = Api::<ReplicaSet>::default_namespaced(client.clone());
    let pods = Api::<Pod>::default_namespaced(client.clone());
    for n in 1..=4 {
        let class = from(json!({"metadata": {"name": format!("p{n}")}, "value": n}));
        classes
            .create(&PostParams::default(), &class)
            .await
            .expect("a class");
    }
    let set = |n: usize, replicas: usize, amount: &str| -> ReplicaSet {
        let label = format!("pod{n}");
        from(json!({
            "metadata": {"name": format!("rs-{label}")},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"name": label}}, "template": {
                "metadata": {"labels": {"name": label}},
                "spec": {"terminationGracePeriodSeconds": 0, "priorityClassName": format!("p{n}"), "containers": [{
                    "name": label, "image": "example.com/pause", "resources": {
                        "requests": {"example.com/fakecpu": amount}, "limits": {"example.com/fakecpu": amount}}}]}}},
        }))
    };
    for (n, replicas, amount) in [(1, 5, "40"), (2, 4, "50"), (3, 4, "95")] {
        let set = set(n, replicas, amount);
        sets.create(&PostParams::default(), &set)
            .await
            .expect("a set");
        let ready = move |set: Option<&ReplicaSet>| {
            let status = set.and_then(|s| s.status.as_ref());
            status.and_then(|s| s.ready_replicas) == i32::try_from(replicas).ok()
        };
        let name = format!("rs-pod{n}");
        let waiting = await_condition(sets.clone(), &name, ready);
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .expect("in time")
            .expect("a watch");
    }
    // 200 + 200 + 380 of 1000 are taken; 400 more take those of the lowest priority along.
    let fourth = set(4, 1, "400");
    sets.create(&PostParams::default(), &fourth)
        .await
        .expect("a set");
    let placed = async {
        loop {
            let list = pods
                .list(&ListParams::default().labels("name=pod4"))
                .await
                .expect("pods");
            let mut nodes = list
                .items
                .iter()
                .filter_map(|p| p.spec.as_ref()?.node_name.as_ref());
            if nodes.next().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), placed)
        .await
        .expect("it gets its place");
    for (n, count) in [(2, 4), (3, 4)] {
        let list = pods
            .list(&ListParams::default().labels(&format!("name=pod{n}")))
            .await
            .expect("pods");
        let running = list
            .items
            .iter()
            .filter(|p| p.metadata.deletion_timestamp.is_none());
        assert_eq!(running.count(), count, "pods of priority {n} stay");
    }
    cluster.stop().await;
}

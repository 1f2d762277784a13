//! What upstream's conformance suite says of scheduling.

use std::time::Duration;

use k8s_openapi::api::{
    core::v1::{Event, Node, Pod},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::cluster::{Cluster, cpu, from, node_of};

#[tokio::test]
async fn pods_that_request_more_than_there_is_wait_and_say_so() {
    let cluster = Cluster::up().await;
    for name in ["a", "b"] {
        cluster.pod(name, json!({"containers": cpu("1500m")})).await;
    }
    let (a, b) = (cluster.place_of("a").await, cluster.place_of("b").await);
    assert_ne!(a, b);
    cluster.pod("c", json!({"containers": cpu("1")})).await;
    assert_eq!(
        cluster.refusal_of("c").await,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
         2 No preemption victims found for incoming pod."
    );
    let events = Api::<Event>::default_namespaced(cluster.client.clone());
    let said = async {
        loop {
            let list = events.list(&ListParams::default()).await.expect("events");
            let mut reasons = list.items.iter().filter_map(|e| e.reason.as_deref());
            if reasons.any(|r| r == "FailedScheduling") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), said)
        .await
        .expect("an event");
    // Room helps.
    cluster
        .pods()
        .delete("a", &Default::default())
        .await
        .expect("it goes");
    assert_eq!(cluster.place_of("c").await, a);
}

#[tokio::test]
async fn a_node_selector_is_respected() {
    let cluster = Cluster::up().await;
    let selector = json!({"nodeSelector": {"example.com/colour": "green"}});
    cluster.pod("green", selector).await;
    let said = cluster.refusal_of("green").await;
    assert!(
        said.starts_with(
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
        ),
        "{said}"
    );
    assert!(
        said.ends_with("2 Preemption is not helpful for scheduling."),
        "{said}"
    );
    let patch = json!({"metadata": {"labels": {"example.com/colour": "green"}}});
    let nodes = Api::<Node>::all(cluster.client.clone());
    nodes
        .patch("two", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .expect("a label");
    assert_eq!(cluster.place_of("green").await, "two");
}

#[tokio::test]
async fn a_host_port_on_all_addresses_conflicts_with_one_on_one_address() {
    let cluster = Cluster::up().await;
    let with_port = |ip: &str| {
        json!({"nodeSelector": {"kubernetes.io/hostname": "one"}, "containers": [{"name": "c",
            "image": "example.com/pause", "ports": [{"containerPort": 80, "hostPort": 54322, "hostIP": ip}]}]})
    };
    cluster.pod("all", with_port("0.0.0.0")).await;
    assert_eq!(cluster.place_of("all").await, "one");
    cluster.pod("local", with_port("127.0.0.1")).await;
    let said = cluster.refusal_of("local").await;
    assert!(
        said.contains("1 node(s) didn't have free ports for the requested pod ports"),
        "{said}"
    );
}

#[tokio::test]
async fn a_pod_of_higher_priority_takes_the_place_of_one_of_lower() {
    let cluster = Cluster::up().await;
    let classes = Api::<PriorityClass>::all(cluster.client.clone());
    for (name, value) in [("low", 1), ("high", 1000)] {
        let class = from(json!({"metadata": {"name": name}, "value": value}));
        classes
            .create(&PostParams::default(), &class)
            .await
            .expect("a class");
    }
    let spec =
        |class: &str, amount: &str| json!({"priorityClassName": class, "containers": cpu(amount)});
    for name in ["low-1", "low-2"] {
        cluster.pod(name, spec("low", "1500m")).await;
        cluster.place_of(name).await;
    }
    cluster.pod("high", spec("high", "1500m")).await;
    let node = cluster.place_of("high").await;
    assert!(["one", "two"].contains(&node.as_str()));
    let left = cluster
        .pods()
        .list(&ListParams::default())
        .await
        .expect("pods");
    let mut names: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
    names.sort();
    assert_eq!(names.len(), 2, "one went: {names:?}");
    assert_eq!(names[0], "high");
    // A critical pod goes before all.
    cluster
        .pod("critical", spec("system-cluster-critical", "1800m"))
        .await;
    cluster.place_of("critical").await;
}

#[tokio::test]
async fn a_victim_says_that_it_was_preempted() {
    let cluster = Cluster::up().await;
    let classes = Api::<PriorityClass>::all(cluster.client.clone());
    let class = from(json!({"metadata": {"name": "high"}, "value": 1000}));
    classes
        .create(&PostParams::default(), &class)
        .await
        .expect("a class");
    let graceful = json!({"containers": cpu("2"), "terminationGracePeriodSeconds": 30});
    for name in ["low-1", "low-2"] {
        cluster.pod(name, graceful.clone()).await;
        cluster.place_of(name).await;
    }
    cluster
        .pod(
            "high",
            json!({"priorityClassName": "high", "containers": cpu("2")}),
        )
        .await;
    let nominated = |pod: Option<&Pod>| {
        pod.and_then(|p| p.status.as_ref())
            .is_some_and(|s| s.nominated_node_name.is_some())
    };
    let pod = cluster.wait("high", nominated).await.expect("it is there");
    let node = pod
        .status
        .and_then(|s| s.nominated_node_name)
        .expect("a node");
    let pods = cluster
        .pods()
        .list(&ListParams::default())
        .await
        .expect("pods");
    let victim = pods
        .items
        .iter()
        .find(|p| node_of(Some(p)).as_ref() == Some(&node))
        .expect("a victim");
    let victim = victim.name_any();
    let told = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|p| p.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|c| {
            c.iter().any(|c| {
                c.type_ == "DisruptionTarget"
                    && c.reason.as_deref() == Some("PreemptionByScheduler")
            })
        })
    };
    let victim = cluster.wait(&victim, told).await.expect("it is there");
    assert!(victim.metadata.deletion_timestamp.is_some() || node_of(Some(&victim)).is_some());
}

#[tokio::test]
async fn a_gang_gets_its_places_all_together() {
    let cluster = Cluster::up().await;
    let member = json!({
        "labels": {"pod-group.scheduling.sigs.k8s.io/name": "g", "pod-group.scheduling.sigs.k8s.io/min-available": "2"},
        "containers": cpu("1500m")});
    cluster.pod("g-1", member.clone()).await;
    cluster.pod("alone", json!({})).await;
    cluster.place_of("alone").await;
    let first = cluster.pods().get("g-1").await.expect("it is there");
    assert_eq!(node_of(Some(&first)), None, "it waits for the other");
    cluster.pod("g-2", member).await;
    assert_ne!(cluster.place_of("g-1").await, cluster.place_of("g-2").await);
}

#[tokio::test]
async fn scheduling_gates_hold_a_pod_back_until_they_are_gone() {
    let cluster = Cluster::up().await;
    cluster
        .pod(
            "gated",
            json!({"schedulingGates": [{"name": "example.com/wait"}]}),
        )
        .await;
    let said = cluster.refusal_of("gated").await;
    assert!(said.contains("example.com/wait"), "{said}");
    let patch = json!({"spec": {"schedulingGates": null}});
    let pods = cluster.pods();
    pods.patch("gated", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .expect("no gates");
    cluster.place_of("gated").await;
}

#[tokio::test]
async fn what_the_scheduler_does_is_counted_under_upstreams_names() {
    let cluster = Cluster::up().await;
    cluster.pod("fits", json!({})).await;
    cluster.place_of("fits").await;
    cluster
        .pod("does-not", json!({"containers": cpu("100")}))
        .await;
    cluster.refusal_of("does-not").await;
    let expected = [
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"unschedulable\"} 1",
        "scheduler_pending_pods{queue=\"unschedulable\"} 1",
        "scheduler_pending_pods{queue=\"active\"} 0",
        "scheduler_unschedulable_pods{plugin=\"NodeResourcesFit\",profile=\"default-scheduler\"} 1",
        "scheduler_queue_incoming_pods_total{event=\"UnschedulablePodAdd\",queue=\"active\"} 2",
        "scheduler_preemption_attempts_total 1",
        "scheduler_cache_size{type=\"nodes\"} 2",
        "scheduler_cache_size{type=\"pods\"} 1",
        "scheduler_pod_scheduling_attempts_count 1",
        "scheduler_scheduling_algorithm_duration_seconds_count 2",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Bind\",profile=\"default-scheduler\",status=\"Success\"} 1",
    ];
    let counted = async {
        loop {
            let page = cluster.metrics.render();
            let is_there = |line: &&str| page.lines().any(|l| l == *line);
            match expected.iter().find(|line| !is_there(line)) {
                None => return,
                Some(_) => tokio::task::yield_now().await,
            }
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(30), counted).await;
    assert!(counted.is_ok(), "{}", cluster.metrics.render());
}

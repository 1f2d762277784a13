//! What a cluster inside a test does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cluster/devices.rs"]
mod devices;
#[path = "cluster/operators.rs"]
mod operators;
#[path = "cluster/resources.rs"]
mod resources;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod},
};
use k8s_testing::{Faults, Identity, SimExec, TestCluster};
use kube::{
    Api, CustomResource, CustomResourceExt, Resource,
    api::{AttachParams, DeleteParams, ListParams, LogParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

/// Fails a test that waits in vain.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, what)
        .await
        .expect("waited in vain")
}

#[tokio::test]
async fn pods_run_and_end_as_their_annotations_say() {
    let cluster = TestCluster::start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "once", "annotations": {"sim.k8s-runtime/exit-after": "10ms"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        phase == Some("Succeeded")
    };
    let pod = in_time(await_condition(pods, "once", ended)).await.unwrap();
    let node = pod.unwrap().spec.unwrap().node_name;
    assert_eq!(node.as_deref(), Some("node-1"));
    cluster.stop().await;
}

#[tokio::test]
async fn pods_are_spread_over_the_nodes() {
    let whole = TestCluster::builder().controllers().scheduler().nodes(2);
    let cluster = whole.start().await.unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    let web = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "c", "image": "i", "resources": {"requests": {"cpu": "1500m"}},
                }]},
            },
        },
    }))
    .unwrap();
    deployments
        .create(&PostParams::default(), &web)
        .await
        .unwrap();
    let all =
        |d: Option<&Deployment>| d.and_then(|d| d.status.as_ref()?.available_replicas) == Some(4);
    in_time(await_condition(deployments, "web", all))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let on = |node: &str| ListParams::default().fields(&format!("spec.nodeName={node}"));
    for node in ["node-1", "node-2"] {
        assert_eq!(pods.list(&on(node)).await.unwrap().items.len(), 2, "{node}");
    }
}

#[tokio::test]
async fn a_namespace_terminates_with_all_that_is_in_it() {
    let cluster = TestCluster::builder().controllers().start().await.unwrap();
    let made = cluster.namespace("short").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "short");
    maps.create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces
        .delete("short", &DeleteParams::default())
        .await
        .unwrap();
    let uid = made.metadata.uid.unwrap();
    let gone = await_condition(namespaces, "short", conditions::is_deleted(&uid));
    in_time(gone).await.unwrap();
    assert!(
        maps.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn an_identity_may_do_what_its_roles_say() {
    let cluster = TestCluster::builder().start().await.unwrap();
    let alice: Api<ConfigMap> = Api::default_namespaced(cluster.client_as(Identity::user("alice")));
    let refused = alice.list(&ListParams::default()).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("User \"alice\" cannot list resource \"configmaps\""),
        "{refused}"
    );
}

#[tokio::test]
async fn a_cluster_without_nodes_takes_pods_and_lets_them_wait() {
    let cluster = TestCluster::builder().start().await.unwrap();
    cluster.namespace("own").await.unwrap();
    for namespace in ["default", "own"] {
        let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "x"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clusters_run_at_once_and_share_nothing() {
    let clusters = (0..8).map(|number| async move {
        let whole = TestCluster::builder().controllers().scheduler().nodes(1);
        let cluster = whole.start().await.unwrap();
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        let name = format!("only-{number}");
        maps.create(&PostParams::default(), &config_map(&name))
            .await
            .unwrap();
        let all = maps.list(&ListParams::default()).await.unwrap();
        let names: Vec<String> = all
            .into_iter()
            .filter_map(|map| map.metadata.name)
            .filter(|name| name.starts_with("only-"))
            .collect();
        assert_eq!(names, [name]);
        cluster.stop().await;
    });
    in_time(futures::future::join_all(clusters)).await;
}

#[tokio::test]
async fn a_restart_keeps_what_there_is_and_clients_go_on() {
    let cluster = TestCluster::start().await.unwrap();
    let client = cluster.client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let before = maps
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    cluster.restart().await.unwrap();
    let after = maps.get("x").await.unwrap();
    assert_eq!(after, before);
    // Scheduler and node have found their way back.
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "late"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    in_time(await_condition(pods, "late", conditions::is_pod_running()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_seed_gives_no_uid_twice_over_restarts() {
    let cluster = TestCluster::builder().seed(7).start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let mut uids = Vec::new();
    for round in 0..3 {
        cluster.restart().await.unwrap();
        for n in 0..4 {
            let map = config_map(&format!("x-{round}-{n}"));
            let made = maps.create(&PostParams::default(), &map).await.unwrap();
            uids.push(made.metadata.uid.unwrap());
        }
    }
    let different: std::collections::HashSet<_> = uids.iter().collect();
    assert_eq!(different.len(), uids.len(), "{uids:?}");
}

#[tokio::test]
async fn clones_of_a_builder_start_clusters_of_their_own() {
    let builder = TestCluster::builder();
    let one = builder.clone().start().await.unwrap();
    let other = builder.start().await.unwrap();
    let maps = |cluster: &TestCluster| Api::<ConfigMap>::default_namespaced(cluster.client());
    let params = PostParams::default();
    maps(&one).create(&params, &config_map("x")).await.unwrap();
    assert!(maps(&other).get_opt("x").await.unwrap().is_none());
}

#[tokio::test]
async fn a_fork_is_started_with_the_nodes_that_are_in_it() {
    let store = Arc::new(k8s_store::MemoryStore::new());
    let first = TestCluster::builder().controllers().nodes(1);
    let first = first.store(store.clone());
    first.start().await.unwrap().stop().await;
    let fork = Arc::new(store.fork());
    let again = TestCluster::builder().controllers().nodes(1).store(fork);
    let again = again.start().await.unwrap();
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(again.client());
    let there = nodes.list(&ListParams::default()).await.unwrap();
    assert_eq!(there.items.len(), 1);
    again.stop().await;
}

#[tokio::test]
async fn nothing_is_left_when_a_cluster_is_dropped() {
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = alive();
    let cluster = TestCluster::start().await.unwrap();
    assert!(alive() > before);
    let folder = cluster.folder().to_owned();
    assert!(folder.exists());
    let client = cluster.client();
    drop(cluster);
    // The client outlives it, and reaches nobody.
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    assert!(maps.get_opt("x").await.is_err());
    drop(maps);
    in_time(async {
        while alive() > before || folder.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Greeting", namespaced)]
struct GreetingSpec {
    whom: String,
}

#[tokio::test]
async fn what_a_custom_resource_owns_goes_with_it() {
    let cluster = TestCluster::builder().controllers().start().await.unwrap();
    cluster.define([Greeting::crd()]).await.unwrap();
    let greetings: Api<Greeting> = Api::default_namespaced(cluster.client());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    for round in 0..3 {
        let name = format!("morning-{round}");
        let spec = GreetingSpec {
            whom: "world".to_owned(),
        };
        let made = Greeting::new(&name, spec);
        let made = greetings
            .create(&PostParams::default(), &made)
            .await
            .unwrap();
        let mut owned = config_map(&name);
        owned.metadata.owner_references =
            Some(made.controller_owner_ref(&()).into_iter().collect());
        let owned = maps.create(&PostParams::default(), &owned).await.unwrap();
        greetings
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
        let uid = owned.metadata.uid.unwrap();
        let gone = await_condition(maps.clone(), &name, conditions::is_deleted(&uid));
        in_time(gone).await.unwrap();
    }
}

/// What the kernel knows of this process.
fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .unwrap()
        .count()
}

#[test]
fn no_thread_no_file_and_no_folder_outlives_a_cluster() {
    let used = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let folder = runtime.block_on(async {
            let cluster = TestCluster::start().await.unwrap();
            let pods: Api<Pod> = Api::default_namespaced(cluster.client());
            let pod = scripted("used");
            pods.create(&PostParams::default(), &pod).await.unwrap();
            let ready = await_condition(pods, "used", conditions::is_pod_running());
            in_time(ready).await.unwrap();
            cluster.folder().to_owned()
        });
        drop(runtime);
        folder
    };
    // What a process makes once, it makes the first time.
    used();
    let before = (count("fd"), count("task"));
    let folder = used();
    assert!(!folder.exists());
    assert_eq!((count("fd"), count("task")), before);
}

/// A pod whose log, commands and port are scripted.
fn scripted(name: &str) -> Pod {
    let commands =
        json!({"ls /": {"stdout": "bin\n"}, "rm -r /": {"stderr": "no\n", "exitCode": 3}});
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {
            "sim.k8s-runtime/log": "one\ntwo",
            "sim.k8s-runtime/exec": commands.to_string(),
            "sim.k8s-runtime/http.8080": "hello",
        }},
        "spec": {"containers": [{
            "name": "c", "image": "i",
            "readinessProbe": {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 1},
        }]},
    }))
    .unwrap()
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    let mut stream = stream.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn simulated_pods_have_logs_commands_and_ports() {
    let cluster = TestCluster::start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &scripted("web"))
        .await
        .unwrap();
    let ready = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    };
    in_time(await_condition(pods.clone(), "web", ready))
        .await
        .unwrap();
    assert_eq!(
        pods.logs("web", &LogParams::default()).await.unwrap(),
        "one\ntwo\n"
    );

    let run = |command: &'static [&'static str]| {
        let pods = pods.clone();
        async move {
            let params = AttachParams::default().stdin(false);
            let mut session = pods
                .exec("web", command.iter().copied(), &params)
                .await
                .unwrap();
            let status = session.take_status().unwrap();
            let (out, err) = (session.stdout(), session.stderr());
            let (out, err, status) = tokio::join!(read(out), read(err), status);
            let status = status.unwrap();
            (
                out,
                err,
                status.status.unwrap(),
                status.message.unwrap_or_default(),
            )
        }
    };
    let (out, err, status, _) = in_time(run(&["ls", "/"])).await;
    assert_eq!(
        (out.as_str(), err.as_str(), status.as_str()),
        ("bin\n", "", "Success")
    );
    let (_, err, status, message) = in_time(run(&["rm", "-r", "/"])).await;
    assert_eq!((err.as_str(), status.as_str()), ("no\n", "Failure"));
    assert_eq!(
        message,
        "command terminated with non-zero exit code: exit status 3"
    );
    let (out, err, _, _) = in_time(run(&["sh", "-c", "echo a; echo b >&2"])).await;
    assert_eq!((out.as_str(), err.as_str()), ("a\n", "b\n"));
    let (_, _, status, message) = in_time(run(&["frobnicate"])).await;
    assert_eq!(status, "Failure");
    assert!(
        message.contains("executable file not found in $PATH"),
        "{message}"
    );

    let mut ports = pods.portforward("web", &[8080]).await.unwrap();
    let mut stream = ports.take_stream(8080).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        .await
        .unwrap();
    let answer = in_time(read(Some(stream))).await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");

    let network = Faults::seeded(1);
    let client = cluster.client_with_faults(Identity::system_masters(), &network);
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut ports = pods.portforward("web", &[8080]).await.unwrap();
    let mut stream = ports.take_stream(8080).unwrap();
    network.cut();
    let mut rest = Vec::new();
    let read = in_time(stream.read_to_end(&mut rest)).await;
    assert!(
        matches!(read, Ok(0) | Err(_)),
        "over, one way or the other: {read:?}"
    );
}

#[tokio::test]
async fn a_function_may_say_what_commands_do() {
    let healthy = Arc::new(AtomicBool::new(false));
    let seen = healthy.clone();
    let whole = TestCluster::builder().controllers().scheduler().nodes(1);
    let cluster = whole.commands(move |pod, container, command| {
        let is_probe =
            pod.name == "web" && container.name == "c" && command == ["cat", "/tmp/healthy"];
        is_probe.then(|| SimExec {
            exit_code: i32::from(!seen.load(Ordering::SeqCst)),
            ..SimExec::default()
        })
    });
    let cluster = cluster.start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &scripted("web"))
        .await
        .unwrap();
    let is = |wanted: &'static str| {
        move |pod: Option<&Pod>| {
            let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
            let running =
                pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some("Running");
            let mut conditions = conditions.into_iter().flatten();
            running && conditions.any(|c| c.type_ == "Ready" && c.status == wanted)
        }
    };
    in_time(await_condition(pods.clone(), "web", is("False")))
        .await
        .unwrap();
    healthy.store(true, Ordering::SeqCst);
    in_time(await_condition(pods, "web", is("True")))
        .await
        .unwrap();
}

//! Pods from creation to their end, on the real API server with simulated containers.

mod common;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use common::{World, condition, container, is_ready, phase, waiting_reason};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node, Pod},
    node::v1::RuntimeClass,
};
use k8s_runtime::{ContainerRuntime, PullErrorKind};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;

#[tokio::test]
async fn the_node_registers_with_status_and_lease() -> Result<()> {
    let world = World::new().await?;
    world
        .run("p", json!({"containers": [container("busybox")]}))
        .await?;
    world.until("p", "readiness", is_ready).await?;
    let node = Api::<Node>::all(world.client.clone())
        .get(common::NODE)
        .await?;
    let status = node.status.unwrap();
    let ready = status
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.status, "True");
    assert_eq!(
        ready.message.as_deref(),
        Some("kubelet is posting ready status")
    );
    assert_eq!(status.allocatable.unwrap()["cpu"].0, "4");
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-node-lease");
    let lease = leases.get(common::NODE).await?.spec.unwrap();
    assert_eq!(lease.lease_duration_seconds, Some(40));
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_given_up_is_ready_again_as_soon_as_it_hears_of_it() -> Result<()> {
    let world = World::new().await?;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let ready = |status: &'static str| {
        move |node: Option<&Node>| {
            let conditions = node
                .and_then(|n| n.status.as_ref())
                .and_then(|s| s.conditions.as_ref());
            conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == status))
        }
    };
    let patience = std::time::Duration::from_secs(60);
    let wait = await_condition(nodes.clone(), common::NODE, ready("True"));
    tokio::time::timeout(patience, wait).await??;
    let unknown = json!({"status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"},
    ]}});
    let given_up = nodes
        .patch_status(
            common::NODE,
            &PatchParams::default(),
            &Patch::Strategic(unknown),
        )
        .await?;
    assert!(ready("Unknown")(Some(&given_up)));
    let wait = await_condition(nodes, common::NODE, ready("True"));
    tokio::time::timeout(patience, wait).await??;
    Ok(())
}

#[tokio::test]
async fn a_pod_becomes_ready_and_goes_when_deleted() -> Result<()> {
    let world = World::new().await?;
    world
        .run(
            "p",
            json!({"containers": [container("busybox:1.36")], "terminationGracePeriodSeconds": 1}),
        )
        .await?;
    let pod = world.until("p", "readiness", is_ready).await?;
    let status = pod.status.as_ref().unwrap();
    assert_eq!(phase(&pod), "Running");
    assert_eq!(status.host_ip.as_deref(), Some("192.168.7.1"));
    assert!(status.pod_ip.as_deref().unwrap().starts_with("10.1.0."));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let c = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((c.ready, c.started, c.restart_count), (true, Some(true), 0));
    assert_eq!(c.image, "docker.io/library/busybox:1.36");
    assert!(c.container_id.as_deref().unwrap().starts_with("sim://"));
    for type_ in [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&pod, type_), "True", "{type_}");
    }
    world
        .until_event("p", "Started: Started container c")
        .await?;
    let events = world.events("p").await?;
    assert_eq!(events[0], "Pulling: Pulling image \"busybox:1.36\"");
    assert!(
        events[1].starts_with("Pulled: Successfully pulled image \"busybox:1.36\" in "),
        "{events:?}"
    );
    assert_eq!(events[2], "Created: Created container c");
    world.pods().delete("p", &DeleteParams::default()).await?;
    world.until_gone("p").await?;
    assert!(world.runtime.containers().await?.is_empty());
    assert!(world.runtime.sandboxes().await?.is_empty());
    world
        .until_event("p", "Killing: Stopping container c")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_that_is_done_succeeds_or_fails_by_its_exit_code() -> Result<()> {
    let world = World::new().await?;
    for (name, code, wanted) in [("good", "0", "Succeeded"), ("bad", "3", "Failed")] {
        let annotations =
            json!({"sim.k8s-runtime/exit-after": "20ms", "sim.k8s-runtime/exit-code": code});
        let spec = json!({"restartPolicy": "Never", "containers": [container("busybox")]});
        world.run_annotated(name, spec, annotations).await?;
        let pod = world.until(name, wanted, |p| phase(p) == wanted).await?;
        let status = pod.status.as_ref().unwrap();
        let state = status.container_statuses.as_ref().unwrap()[0]
            .state
            .clone()
            .unwrap()
            .terminated
            .unwrap();
        assert_eq!(state.exit_code.to_string(), code);
        assert!(!is_ready(&pod));
        assert!(
            status.pod_ip.is_some(),
            "a finished pod still shows its address"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_crashing_container_is_restarted_and_then_backs_off() -> Result<()> {
    let world = World::new().await?;
    let annotations =
        json!({"sim.k8s-runtime/exit-after": "10ms", "sim.k8s-runtime/exit-code": "1"});
    let pod = world
        .run_annotated(
            "p",
            json!({"containers": [container("busybox")]}),
            annotations,
        )
        .await?;
    let uid = pod.metadata.uid.unwrap();
    let pod = world
        .until("p", "back-off", |p| waiting_reason(p) == "CrashLoopBackOff")
        .await?;
    let c = &pod
        .status
        .as_ref()
        .unwrap()
        .container_statuses
        .as_ref()
        .unwrap()[0];
    let waiting = c.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(
        waiting.message.as_deref(),
        Some(format!("back-off 10s restarting failed container=c pod=p_default({uid})").as_str())
    );
    assert_eq!(c.restart_count, 1);
    assert_eq!(
        c.last_state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        1
    );
    assert_eq!(phase(&pod), "Running");
    world
        .until_event(
            "p",
            &format!("BackOff: Back-off restarting failed container c in pod p_default({uid})"),
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn init_containers_run_first_and_sidecars_keep_running() -> Result<()> {
    let world = World::new().await?;
    let annotations = json!({"sim.k8s-runtime/exit-after.first": "20ms"});
    let spec = json!({
        "initContainers": [
            {"name": "first", "image": "busybox"},
            {"name": "side", "image": "busybox", "restartPolicy": "Always"},
        ],
        "containers": [container("busybox")],
    });
    world.run_annotated("p", spec, annotations).await?;
    let pod = world.until("p", "readiness", is_ready).await?;
    let init = pod.status.unwrap().init_container_statuses.unwrap();
    assert!(init[0].state.as_ref().unwrap().terminated.is_some());
    assert!(init[1].state.as_ref().unwrap().running.is_some() && init[1].ready);
    Ok(())
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_backs_off() -> Result<()> {
    let world = World::new().await?;
    world
        .runtime
        .images()
        .fail_pulls("nowhere/none", PullErrorKind::NotFound)?;
    world
        .run("p", json!({"containers": [container("nowhere/none")]}))
        .await?;
    world
        .until("p", "ErrImagePull", |p| waiting_reason(p) == "ErrImagePull")
        .await?;
    world
        .until_event("p", "Failed: Error: ErrImagePull")
        .await?;
    let pod = world
        .until("p", "back-off", |p| waiting_reason(p) == "ImagePullBackOff")
        .await?;
    let c = &pod
        .status
        .as_ref()
        .unwrap()
        .container_statuses
        .as_ref()
        .unwrap()[0];
    let waiting = c.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(
        waiting.message.as_deref(),
        Some("Back-off pulling image \"nowhere/none\"")
    );
    assert_eq!(phase(&pod), "Pending");
    Ok(())
}

#[tokio::test]
async fn a_missing_config_map_is_told_and_waited_for() -> Result<()> {
    let world = World::new().await?;
    let env =
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "k"}}}]);
    let spec = json!({"containers": [{"name": "c", "image": "busybox", "env": env}]});
    world.run("env", spec).await?;
    let pod = world
        .until("env", "an error", |p| {
            waiting_reason(p) == "CreateContainerConfigError"
        })
        .await?;
    let c = &pod
        .status
        .as_ref()
        .unwrap()
        .container_statuses
        .as_ref()
        .unwrap()[0];
    let waiting = c.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(
        waiting.message.as_deref(),
        Some("configmap \"conf\" not found")
    );
    let spec = json!({
        "containers": [{"name": "c", "image": "busybox", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "conf"}}],
    });
    world.run("volume", spec).await?;
    world
        .until_event(
            "volume",
            "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"conf\" not found",
        )
        .await?;
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "conf"}, "data": {"k": "v"}}))?;
    Api::namespaced(world.client.clone(), "default")
        .create(&PostParams::default(), &map)
        .await?;
    world.until("env", "readiness", is_ready).await?;
    world.until("volume", "readiness", is_ready).await?;
    Ok(())
}

#[tokio::test]
async fn volumes_follow_their_config_map() -> Result<()> {
    let world = World::new().await?;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "conf"}, "data": {"k": "one"}}))?;
    maps.create(&PostParams::default(), &map).await?;
    let spec = json!({
        "containers": [{"name": "c", "image": "busybox", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "conf"}}],
    });
    world.run("p", spec).await?;
    world.until("p", "readiness", is_ready).await?;
    let containers = world.runtime.containers().await?;
    let mount = containers[0]
        .config
        .mounts
        .iter()
        .find(|m| m.container_path.ends_with("v"))
        .unwrap();
    assert!(mount.read_only);
    let file = mount.host_path.join("k");
    assert_eq!(std::fs::read_to_string(&file)?, "one");
    let patch = json!({"data": {"k": "two"}});
    maps.patch("conf", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let changed = async {
        while std::fs::read_to_string(&file).ok().as_deref() != Some("two") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), changed).await?;
    Ok(())
}

#[tokio::test]
async fn a_restarted_kubelet_takes_its_containers_over() -> Result<()> {
    let mut world = World::new().await?;
    world
        .run("p", json!({"containers": [container("busybox")]}))
        .await?;
    let before = world.until("p", "readiness", is_ready).await?;
    world.stop_kubelet().await?;
    assert_eq!(world.runtime.containers().await?.len(), 1);
    world.restart_kubelet().await?;
    world
        .run("q", json!({"containers": [container("busybox")]}))
        .await?;
    world.until("q", "readiness", is_ready).await?;
    let after = world.pods().get("p").await?;
    let ids = |p: &k8s_openapi::api::core::v1::Pod| {
        let c = &p
            .status
            .as_ref()
            .unwrap()
            .container_statuses
            .as_ref()
            .unwrap()[0];
        (c.container_id.clone(), c.restart_count, c.ready)
    };
    assert_eq!(ids(&before), ids(&after));
    Ok(())
}

#[tokio::test]
async fn what_was_deleted_meanwhile_is_cleaned_up() -> Result<()> {
    let mut world = World::new().await?;
    world
        .run("p", json!({"containers": [container("busybox")]}))
        .await?;
    world.until("p", "readiness", is_ready).await?;
    world.stop_kubelet().await?;
    let force = DeleteParams {
        grace_period_seconds: Some(0),
        ..Default::default()
    };
    world.pods().delete("p", &force).await?;
    world.restart_kubelet().await?;
    let gone = async {
        while !world.runtime.sandboxes().await?.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await??;
    Ok(())
}

#[tokio::test]
async fn a_pod_too_large_for_the_node_is_refused() -> Result<()> {
    let world = World::new().await?;
    let resources = json!({"requests": {"cpu": "5"}});
    world
        .run(
            "p",
            json!({"containers": [{"name": "c", "image": "busybox", "resources": resources}]}),
        )
        .await?;
    let pod = world
        .until("p", "refusal", |p| phase(p) == "Failed")
        .await?;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(
        status.message.as_deref(),
        Some(
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000"
        )
    );
    world.pods().delete("p", &DeleteParams::default()).await?;
    world.until_gone("p").await?;
    Ok(())
}

#[tokio::test]
async fn a_deadline_ends_a_pod() -> Result<()> {
    let world = World::new().await?;
    let spec = json!({"activeDeadlineSeconds": 1, "containers": [container("busybox")]});
    world.run("p", spec).await?;
    let pod = world
        .until("p", "failure", |p| phase(p) == "Failed")
        .await?;
    assert_eq!(
        pod.status.unwrap().reason.as_deref(),
        Some("DeadlineExceeded")
    );
    Ok(())
}

#[tokio::test]
async fn a_broken_sandbox_is_made_anew() -> Result<()> {
    let world = World::new().await?;
    world
        .run("p", json!({"containers": [container("busybox")]}))
        .await?;
    let pod = world.until("p", "readiness", is_ready).await?;
    let id = |p: &k8s_openapi::api::core::v1::Pod| {
        p.status
            .as_ref()
            .unwrap()
            .container_statuses
            .as_ref()
            .unwrap()[0]
            .container_id
            .clone()
    };
    let first = id(&pod);
    let sandbox = world.runtime.sandboxes().await?[0].id.clone();
    world.runtime.break_sandbox(&sandbox)?;
    let pod = world
        .until("p", "a new container", |p| is_ready(p) && id(p) != first)
        .await?;
    assert_eq!(
        pod.status.unwrap().container_statuses.unwrap()[0].restart_count,
        1
    );
    world
        .until_event(
            "p",
            "SandboxChanged: Pod sandbox changed, it will be killed and re-created.",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_whose_worker_panics_gets_another_one() -> Result<()> {
    let mut world = World::new().await?;
    world
        .run("p", json!({"containers": [container("busybox")]}))
        .await?;
    world.until("p", "readiness", is_ready).await?;
    world.faulty.panic(1);
    let id = world.runtime.containers().await?[0].id.clone();
    // The worker looks at the container when it hears that it has ended.
    world.runtime.finish(&id, 1)?;
    let restarted = |times: i32| {
        move |p: &Pod| {
            let statuses = p
                .status
                .as_ref()
                .and_then(|s| s.container_statuses.as_ref());
            is_ready(p) && statuses.is_some_and(|s| s[0].restart_count == times)
        }
    };
    world.until("p", "a restart", restarted(1)).await?;
    assert_eq!(world.faulty.panics(), 0);
    let told = "FailedSync: The worker of the pod broke off, and is begun anew";
    world.until_event("p", told).await?;
    // The new worker is told what the old one would have been.
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("p", &now).await?;
    world.until_gone("p").await?;
    world.stop_kubelet().await
}

#[tokio::test]
async fn an_image_change_replaces_the_container() -> Result<()> {
    let world = World::new().await?;
    world
        .run(
            "p",
            json!({"containers": [container("busybox:1")], "terminationGracePeriodSeconds": 1}),
        )
        .await?;
    world.until("p", "readiness", is_ready).await?;
    let patch = json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}});
    world
        .pods()
        .patch("p", &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    let unready = AtomicBool::new(false);
    world
        .until("p", "the new image", |p| {
            let statuses = p.status.as_ref().unwrap().container_statuses.as_ref();
            unready.fetch_or(!is_ready(p), Ordering::Relaxed);
            is_ready(p) && statuses.unwrap()[0].image.ends_with(":2")
        })
        .await?;
    assert!(!unready.into_inner(), "Ready goes on, as upstream shows it");
    world
        .until_event(
            "p",
            "Killing: Container c definition changed, will be restarted",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_whose_runtime_class_names_an_unknown_handler_stays_pending() -> Result<()> {
    let world = World::new().await?;
    let classes: Api<RuntimeClass> = Api::all(world.client.clone());
    for (name, handler) in [("sandboxed", "no-such-handler"), ("plain", "runc")] {
        let class = json!({"metadata": {"name": name}, "handler": handler});
        let class = serde_json::from_value(class)?;
        classes.create(&PostParams::default(), &class).await?;
    }
    let spec =
        |class: &str| json!({"containers": [container("busybox")], "runtimeClassName": class});
    let refused = world.run("none", spec("absent")).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("pod rejected: RuntimeClass \"absent\" not found"),
        "{refused}"
    );
    world.run("p", spec("sandboxed")).await?;
    world
        .until_event(
            "p",
            "FailedCreatePodSandBox: Failed to create pod sandbox: invalid configuration: no runtime for \"no-such-handler\" is configured",
        )
        .await?;
    let pod = world
        .until("p", "a phase", |p| !phase(p).is_empty())
        .await?;
    assert_eq!(
        (phase(&pod), waiting_reason(&pod)),
        ("Pending", "ContainerCreating")
    );
    world.run("q", spec("plain")).await?;
    world.until("q", "readiness", is_ready).await?;
    classes.delete("plain", &DeleteParams::default()).await?;
    world.pods().delete("p", &DeleteParams::default()).await?;
    world.until_gone("p").await
}

#[tokio::test]
async fn a_pod_with_an_unsafe_kernel_parameter_fails_unless_the_node_allows_it() -> Result<()> {
    let world = World::with(|b| {
        b.allow_unsafe_sysctl("kernel.sem")
            .allow_unsafe_sysctl("net.*")
    })
    .await?;
    let vlan = "net/ipv4/conf/eth0.1/forwarding";
    for (name, sysctl) in [("p", "kernel.msgmax"), ("q", "kernel.sem"), ("r", vlan)] {
        let security = json!({"sysctls": [{"name": sysctl, "value": "1"}]});
        let spec = json!({"containers": [container("busybox")], "securityContext": security});
        world.run(name, spec).await?;
    }
    world.until("q", "readiness", is_ready).await?;
    world.until("r", "readiness", is_ready).await?;
    let sandboxes = world.runtime.sandboxes().await?;
    let set = sandboxes.iter().flat_map(|s| s.config.sysctls.keys());
    let set: BTreeSet<&str> = set.map(String::as_str).collect();
    let allowed = ["kernel.sem", "net.ipv4.conf.eth0/1.forwarding"];
    assert_eq!(set, BTreeSet::from(allowed));
    let pod = world
        .until("p", "a refusal", |p| phase(p) == "Failed")
        .await?;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("SysctlForbidden"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted")
    );
    Ok(())
}

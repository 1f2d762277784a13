//! What sig-node and sig-storage require of pods, where it takes several steps.

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, LogParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use serde_json::{Value, json};

use super::{
    boot,
    case::{POD, becomes, create, log, pod, prepare},
};

/// All of them, on one cluster.
#[tokio::test]
#[ignore = "needs root"]
async fn pods() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cluster, client) = boot(folder.path()).await;
    let hooks = folder.path().join("hooks");
    std::fs::create_dir(&hooks).expect("a folder");
    let results = tokio::join!(
        updates_show_in_volumes(&client),
        labels_and_annotations_show_in_volumes(&client),
        a_deadline_may_be_set_later(&client),
        a_pod_ends_gracefully(&client),
        pre_stop_hooks_run(&client, hooks.to_str().expect("a name")),
        an_ephemeral_container_joins(&client),
        a_pod_that_always_fails_can_be_deleted(&client),
    );
    let (a, b, c, d, e, f, g) = results;
    for (name, result) in [
        (
            "ConfigMap, Secret and projected updates should be reflected in volume",
            a,
        ),
        (
            "Downward API volume should update labels and annotations on modification",
            b,
        ),
        ("Pods should allow activeDeadlineSeconds to be updated", c),
        ("Pods should be submitted and removed", d),
        (
            "Container Lifecycle Hook should execute prestop exec hook properly",
            e,
        ),
        (
            "Ephemeral Containers will start an ephemeral container in an existing pod",
            f,
        ),
        (
            "Kubelet: a busybox command that always fails in a pod should be possible to delete",
            g,
        ),
    ] {
        if let Err(error) = result {
            panic!("{name}: {error:#}");
        }
    }
    cluster.stop();
}

async fn start(client: &Client, namespace: &str, spec: Value) -> anyhow::Result<Api<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &pod(spec)?).await?;
    becomes(&pods, |pod| pod["status"]["phase"] == "Running").await?;
    Ok(pods)
}

async fn updates_show_in_volumes(client: &Client) -> anyhow::Result<()> {
    let namespace = "updates";
    prepare(client, namespace).await?;
    let meta = |name: &str| json!({"name": name});
    create(
        client,
        namespace,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("map"), "data": {"a": "old"}}),
    )
    .await?;
    create(
        client,
        namespace,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("secret"), "stringData": {"a": "old"}}),
    )
    .await?;
    let script = "grep -q old /v/map/a || exit 2; echo old seen; for f in /v/map/a /v/secret/a /v/both/a /v/later/a; do \
                  until grep -q new $f 2>/dev/null; do sleep 0.2; done; done; echo all new; \
                  while test -f /v/gone/a; do sleep 0.2; done; echo gone";
    let mounts: Vec<Value> = ["map", "secret", "both", "later", "gone"]
        .iter()
        .map(|name| json!({"name": name, "mountPath": format!("/v/{name}")}))
        .collect();
    create(
        client,
        namespace,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("gone"), "data": {"a": "here"}}),
    )
    .await?;
    let spec = json!({
        "volumes": [
            {"name": "map", "configMap": {"name": "map"}},
            {"name": "secret", "secret": {"secretName": "secret"}},
            {"name": "both", "projected": {"sources": [{"configMap": {"name": "map"}}]}},
            {"name": "later", "configMap": {"name": "later", "optional": true}},
            {"name": "gone", "configMap": {"name": "gone", "optional": true}},
        ],
        "containers": [{"name": "c", "command": ["sh", "-c", script], "volumeMounts": mounts}],
    });
    let pods = start(client, namespace, spec).await?;
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut said = pods.log_stream(POD, &follow).await?.lines();
    let first = said.try_next().await?;
    anyhow::ensure!(first.as_deref() == Some("old seen"), "it says {first:?}");
    let params = PatchParams::default();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    maps.patch("map", &params, &Patch::Merge(json!({"data": {"a": "new"}})))
        .await?;
    maps.delete("gone", &DeleteParams::default()).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let new = json!({"stringData": {"a": "new"}});
    secrets.patch("secret", &params, &Patch::Merge(new)).await?;
    create(
        client,
        namespace,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("later"), "data": {"a": "new"}}),
    )
    .await?;
    becomes(&pods, |pod| pod["status"]["phase"] == "Succeeded").await?;
    Ok(())
}

async fn labels_and_annotations_show_in_volumes(client: &Client) -> anyhow::Result<()> {
    let namespace = "labels";
    prepare(client, namespace).await?;
    let script = "until grep -q 'key=\"new\"' /v/labels && grep -q 'note=\"new\"' /v/annotations; do sleep 0.2; done";
    let spec = json!({
        "volumes": [{"name": "v", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        ]}}],
        "containers": [{
            "name": "c", "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }],
    });
    let pods = start(client, namespace, spec).await?;
    let change = json!({"metadata": {"labels": {"key": "new"}, "annotations": {"note": "new"}}});
    pods.patch(POD, &PatchParams::default(), &Patch::Merge(change))
        .await?;
    becomes(&pods, |pod| pod["status"]["phase"] == "Succeeded").await?;
    Ok(())
}

fn sleeper() -> Value {
    json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]})
}

async fn a_deadline_may_be_set_later(client: &Client) -> anyhow::Result<()> {
    prepare(client, "deadline").await?;
    let pods = start(client, "deadline", sleeper()).await?;
    let change = json!({"spec": {"activeDeadlineSeconds": 1}});
    pods.patch(POD, &PatchParams::default(), &Patch::Merge(change))
        .await?;
    becomes(&pods, |pod| {
        pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "DeadlineExceeded"
    })
    .await?;
    Ok(())
}

async fn a_pod_ends_gracefully(client: &Client) -> anyhow::Result<()> {
    prepare(client, "graceful").await?;
    let script = "trap 'echo ending; sleep 1; exit 0' TERM; while true; do sleep 0.1; done";
    let spec = json!({
        "terminationGracePeriodSeconds": 60,
        "containers": [{"name": "c", "command": ["sh", "-c", script]}],
    });
    let pods = start(client, "graceful", spec).await?;
    let uid = becomes(&pods, |_| true).await?["metadata"]["uid"].clone();
    let gone = await_condition(
        pods.clone(),
        POD,
        is_deleted(uid.as_str().unwrap_or_default()),
    );
    let deleted = pods.delete(POD, &DeleteParams::default()).await?;
    let marked = deleted
        .left()
        .and_then(|pod| pod.metadata.deletion_grace_period_seconds);
    anyhow::ensure!(marked == Some(60), "grace period {marked:?}");
    let last = becomes(&pods, |pod| {
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    });
    let (last, gone) = tokio::join!(last, gone);
    last?;
    gone?;
    Ok(())
}

async fn pre_stop_hooks_run(client: &Client, hooks: &str) -> anyhow::Result<()> {
    prepare(client, "prestop").await?;
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "volumes": [{"name": "v", "hostPath": {"path": hooks}}],
        "containers": [{
            "name": "c", "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hooked > /v/prestop"]}}},
        }],
    });
    let pods = start(client, "prestop", spec).await?;
    let uid = becomes(&pods, |_| true).await?["metadata"]["uid"].clone();
    pods.delete(POD, &DeleteParams::default()).await?;
    await_condition(pods, POD, is_deleted(uid.as_str().unwrap_or_default())).await?;
    let said = std::fs::read_to_string(format!("{hooks}/prestop"))?;
    anyhow::ensure!(said == "hooked\n", "{said:?}");
    Ok(())
}

async fn an_ephemeral_container_joins(client: &Client) -> anyhow::Result<()> {
    prepare(client, "ephemeral").await?;
    let pods = start(client, "ephemeral", sleeper()).await?;
    let change = json!({"spec": {"ephemeralContainers": [{
        "name": "debugger", "image": super::IMAGE, "command": ["sh", "-c", "echo polo"],
    }]}});
    let request = pods
        .patch_ephemeral_containers(POD, &PatchParams::default(), &Patch::Strategic(change))
        .await?;
    anyhow::ensure!(
        request
            .spec
            .is_some_and(|s| s.ephemeral_containers.is_some())
    );
    becomes(&pods, |pod| {
        pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    })
    .await?;
    let said = log(&pods, "debugger").await?;
    anyhow::ensure!(said == "polo\n", "{said:?}");
    Ok(())
}

async fn a_pod_that_always_fails_can_be_deleted(client: &Client) -> anyhow::Result<()> {
    prepare(client, "failing").await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "failing");
    let spec =
        json!({"restartPolicy": "Always", "containers": [{"name": "c", "command": ["false"]}]});
    pods.create(&PostParams::default(), &pod(spec)?).await?;
    let state = becomes(&pods, |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CrashLoopBackOff"
    })
    .await?;
    pods.delete(POD, &DeleteParams::default()).await?;
    let uid = state["metadata"]["uid"].as_str().unwrap_or_default();
    await_condition(pods, POD, is_deleted(uid)).await?;
    Ok(())
}

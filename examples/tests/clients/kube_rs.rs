//! The calls that kube-rs' own examples make.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Event as CoreEvent, Node, Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{
        AttachParams, DeleteParams, DynamicObject, EvictParams, ListParams, LogParams, Patch,
        PatchParams, PostParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    core::PartialObjectMeta,
    discovery::{Discovery, Scope, verbs},
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        finalizer, reflector,
        wait::{await_condition, conditions},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    IMAGE, run,
    support::{Cluster, busybox_image, command},
};

/// How long anything may take; a hundred times what it takes on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a shop is to be.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "kube-rs.example.com",
    version = "v1",
    kind = "Shop",
    namespaced,
    status = "ShopStatus",
    shortname = "sp",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas"
    ),
    printcolumn(name = "Team", type_ = "string", json_path = ".spec.team")
)]
struct ShopSpec {
    #[schemars(length(min = 3))]
    team: String,
    #[serde(default)]
    replicas: i32,
}

/// What it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct ShopStatus {
    replicas: i32,
}

async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    // Fails if another test of this process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}

/// A cluster with one simulated node.
async fn simulated(folder: &Path) -> anyhow::Result<(Cluster, Client)> {
    let arguments = ["--runtime", "sim", "--store", "memory"];
    let cluster = Cluster::up(&folder.join("data"), &arguments);
    let client = client(&cluster).await?;
    Ok((cluster, client))
}

/// Defines shops as `crd_apply` does.
async fn define(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Shop::crd().name_any();
    let apply = PatchParams::apply("kube-rs").force();
    definitions
        .patch(&name, &apply, &Patch::Apply(Shop::crd()))
        .await?;
    let established = await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await??;
    Ok(())
}

fn map(name: &str, data: Value) -> anyhow::Result<ConfigMap> {
    Ok(serde_json::from_value(
        json!({"metadata": {"name": name}, "data": data}),
    )?)
}

#[tokio::test]
async fn discovery_finds_every_kind_and_lists_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = simulated(folder.path()).await?;
    define(&client).await?;
    ensure!(client.apiserver_version().await?.major == "1");
    let one_by_one = Discovery::new(client.clone()).run().await?;
    let at_once = Discovery::new(client.clone()).run_aggregated().await?;
    let names = |discovery: &Discovery| -> Vec<String> {
        let groups = discovery.groups_alphabetical();
        groups.iter().map(|group| group.name().to_owned()).collect()
    };
    ensure!(names(&one_by_one) == names(&at_once));
    let mut listed = 0;
    for group in at_once.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = match capabilities.scope {
                Scope::Cluster => Api::all_with(client.clone(), &resource),
                Scope::Namespaced => Api::default_namespaced_with(client.clone(), &resource),
            };
            let found = api.list(&ListParams::default().limit(3)).await;
            found.with_context(|| format!("{resource:?}"))?;
            listed += 1;
        }
    }
    ensure!(listed > 50, "{listed} kinds");
    ensure!(names(&at_once).contains(&Shop::group(&()).into_owned()));
    cluster.stop();
    Ok(())
}

#[tokio::test]
async fn a_derived_kind_is_applied_patched_scaled_and_deleted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = simulated(folder.path()).await?;
    define(&client).await?;
    let shops: Api<Shop> = Api::default_namespaced(client.clone());
    let shop = |name: &str, team: &str| {
        Shop::new(
            name,
            ShopSpec {
                team: team.to_owned(),
                replicas: 1,
            },
        )
    };
    let refused = shops
        .create(&PostParams::default(), &shop("bad", "x"))
        .await;
    match refused {
        Err(kube::Error::Api(status)) => {
            ensure!(
                status.code == 422 && status.reason == "Invalid",
                "{status:?}"
            )
        }
        other => anyhow::bail!("{other:?}"),
    }
    let apply = PatchParams::apply("kube-rs");
    for name in ["one", "two"] {
        shops
            .patch(name, &apply, &Patch::Apply(shop(name, "blue")))
            .await?;
    }
    let status = json!({"status": {"replicas": 1}});
    let patched = shops
        .patch_status("one", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    ensure!(
        patched
            .status
            .as_ref()
            .is_some_and(|status| status.replicas == 1)
    );
    let mut replaced = shops.get_status("one").await?;
    replaced.status = Some(ShopStatus { replicas: 2 });
    shops
        .replace_status("one", &PostParams::default(), &replaced)
        .await?;
    let scale = shops.get_scale("one").await?;
    ensure!(scale.status.context("a status")?.replicas == 2);
    let more = Patch::Merge(json!({"spec": {"replicas": 5}}));
    shops
        .patch_scale("one", &PatchParams::default(), &more)
        .await?;
    ensure!(shops.get("one").await?.spec.replicas == 5);

    let entry = shops
        .entry("one")
        .await?
        .and_modify(|shop| shop.spec.team = "red".to_owned());
    entry
        .or_insert(|| shop("one", "new"))
        .commit(&PostParams::default())
        .await?;
    let meta = shops.get_metadata("one").await?;
    ensure!(meta.metadata.generation == Some(3), "{meta:?}");
    let other = apply.clone().dry_run();
    let conflict = shops
        .patch(
            "one",
            &PatchParams::apply("other"),
            &Patch::Apply(shop("one", "green")),
        )
        .await;
    ensure!(
        matches!(&conflict, Err(kube::Error::Api(status)) if status.code == 409),
        "{conflict:?}"
    );
    shops
        .patch("two", &other, &Patch::Apply(shop("two", "green")))
        .await?;
    ensure!(
        shops.get("two").await?.spec.team == "blue",
        "a dry run changed it"
    );

    let all = ListParams::default();
    drop(
        shops
            .delete_collection(&DeleteParams::default(), &all)
            .await?,
    );
    ensure!(shops.list(&ListParams::default()).await?.items.is_empty());
    cluster.stop();
    Ok(())
}

#[tokio::test]
async fn reflectors_and_recorders_follow() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = simulated(folder.path()).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (reader, writer) = reflector::store::<ConfigMap>();
    // A streaming list, which ends with a bookmark.
    let config = watcher::Config::default()
        .streaming_lists()
        .labels("app=kube-rs");
    let stream = reflector(writer, watcher(maps.clone(), config)).applied_objects();
    let mut stream = std::pin::pin!(stream);
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    let metadata = watcher(nodes, watcher::Config::default()).applied_objects();
    let first = tokio::time::timeout(PATIENCE, std::pin::pin!(metadata).try_next()).await??;
    let node = first.context("a node")?;
    ensure!(node.name_any() == "node-1");

    let mut labelled = map("seen", json!({"a": "1"}))?;
    labelled
        .labels_mut()
        .insert("app".to_owned(), "kube-rs".to_owned());
    let made = maps.create(&PostParams::default(), &labelled).await?;
    let seen = tokio::time::timeout(PATIENCE, stream.try_next()).await??;
    ensure!(seen.context("an object")?.uid() == made.uid());
    let change = Patch::Strategic(json!({"data": {"a": "2"}}));
    maps.patch("seen", &PatchParams::default(), &change).await?;
    tokio::time::timeout(PATIENCE, stream.try_next()).await??;
    let state = reader.state();
    ensure!(
        state.len() == 1 && state[0].data.as_ref().is_some_and(|data| data["a"] == "2"),
        "{state:?}"
    );

    let recorder = Recorder::new(client.clone(), Reporter::from("kube-rs"));
    let event = Event {
        type_: EventType::Normal,
        reason: "Painted".to_owned(),
        note: Some("It is blue".to_owned()),
        action: "Painting".to_owned(),
        secondary: None,
    };
    // The second time makes a series of it.
    for _ in 0..2 {
        recorder.publish(&event, &made.object_ref(&())).await?;
    }
    let events: Api<CoreEvent> = Api::default_namespaced(client.clone());
    let found = events
        .list(&ListParams::default().fields("reason=Painted"))
        .await?;
    ensure!(found.items.len() == 1, "{found:?}");
    let series = found.items[0].series.as_ref();
    ensure!(
        series.and_then(|series| series.count) == Some(2),
        "{found:?}"
    );

    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "example.com/web:1"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    let running = await_condition(pods.clone(), "web", conditions::is_pod_running());
    let running = tokio::time::timeout(PATIENCE, running)
        .await??
        .context("a pod")?;
    pods.evict("web", &EvictParams::default()).await?;
    let uid = running.uid().unwrap_or_default();
    let gone = await_condition(pods, "web", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await??;
    cluster.stop();
    Ok(())
}

const FINALIZER: &str = "kube-rs.example.com/cleanup";

/// Each shop gets a ConfigMap of its own, which tells its team.
async fn tell(shop: Arc<Shop>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = shop.namespace().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), &namespace);
    let mut owned = ConfigMap::default();
    owned.metadata.name = Some(shop.name_any());
    owned.metadata.owner_references = shop.controller_owner_ref(&()).map(|owner| vec![owner]);
    owned.data = Some(BTreeMap::from([(
        "team".to_owned(),
        shop.spec.team.clone(),
    )]));
    let apply = PatchParams::apply("shops").force();
    maps.patch(&shop.name_any(), &apply, &Patch::Apply(owned))
        .await?;
    Ok(Action::await_change())
}

/// The same, and a finalizer, for which there is nothing to clean up.
async fn reconcile(
    shop: Arc<Shop>,
    client: Arc<Client>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    let shops: Api<Shop> = Api::default_namespaced((*client).clone());
    finalizer(&shops, FINALIZER, shop, |event| async move {
        match event {
            finalizer::Event::Apply(shop) => tell(shop, client).await,
            finalizer::Event::Cleanup(_) => Ok(Action::await_change()),
        }
    })
    .await
}

#[tokio::test]
async fn a_controller_owns_finalizes_and_repairs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = simulated(folder.path()).await?;
    define(&client).await?;
    let shops: Api<Shop> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let controller = Controller::new(shops.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_millis(100)),
            Arc::new(client.clone()),
        )
        .for_each(async |_| {});
    let controller = tokio::spawn(controller);

    let shop = Shop::new(
        "corner",
        ShopSpec {
            team: "blue".to_owned(),
            replicas: 1,
        },
    );
    let made = shops.create(&PostParams::default(), &shop).await?;
    let tells = |team: &'static str| {
        move |map: Option<&ConfigMap>| {
            let data = map.and_then(|map| map.data.as_ref());
            data.is_some_and(|data| data.get("team").is_some_and(|found| found == team))
        }
    };
    let blue = await_condition(maps.clone(), "corner", tells("blue"));
    tokio::time::timeout(PATIENCE, blue).await??;
    let change = Patch::Merge(json!({"spec": {"team": "green"}}));
    shops
        .patch("corner", &PatchParams::default(), &change)
        .await?;
    let green = await_condition(maps.clone(), "corner", tells("green"));
    tokio::time::timeout(PATIENCE, green).await??;
    // Whoever deletes what is owned sees it come back.
    maps.delete("corner", &DeleteParams::default()).await?;
    let again = await_condition(maps.clone(), "corner", tells("green"));
    tokio::time::timeout(PATIENCE, again).await??;

    let uid = made.uid().unwrap_or_default();
    let ending = shops.delete("corner", &DeleteParams::default()).await?;
    let ending = ending.left().context("it waits for its finalizer")?;
    ensure!(ending.finalizers() == [FINALIZER]);
    let gone = await_condition(shops, "corner", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await??;
    // The collector takes what it owned.
    let none = await_condition(maps, "corner", |map: Option<&ConfigMap>| map.is_none());
    tokio::time::timeout(PATIENCE, none).await??;
    controller.abort();
    cluster.stop();
    Ok(())
}

#[tokio::test]
#[ignore = "needs root and kubectl"]
async fn pods_are_entered_copied_to_and_connected_to() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let cluster = Cluster::up(&data_dir, &["--store", "memory"]);
    let image = busybox_image(folder.path(), IMAGE);
    run(command()
        .args(["image", "import", "--data-dir"])
        .arg(&data_dir)
        .arg(image));
    let client = client(&cluster).await?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let script = "echo started; echo page > /index.html; busybox httpd -f -p 8080 -h / & while read line; do echo got $line; done";
    let pod = json!({"metadata": {"name": "web"}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "web", "image": IMAGE, "command": ["sh", "-c", script], "stdin": true}],
    }});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    let running = await_condition(pods.clone(), "web", conditions::is_pod_running());
    tokio::time::timeout(PATIENCE, running).await??;

    // pod_exec, with output, input and a status.
    let params = AttachParams::default().stderr(false);
    let mut process = pods
        .exec("web", ["sh", "-c", "echo hello; exit 3"], &params)
        .await?;
    let mut said = String::new();
    process
        .stdout()
        .context("output")?
        .read_to_string(&mut said)
        .await?;
    ensure!(said == "hello\n", "{said:?}");
    let status = process
        .take_status()
        .context("a status")?
        .await
        .context("a status")?;
    ensure!(
        status.reason.as_deref() == Some("NonZeroExitCode"),
        "{status:?}"
    );
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("web", ["cat"], &params).await?;
    let mut input = process.stdin().context("input")?;
    let mut output = process.stdout().context("output")?;
    input.write_all(b"copied").await?;
    input.flush().await?;
    let mut copied = [0; 6];
    output.read_exact(&mut copied).await?;
    ensure!(&copied == b"copied");
    drop((input, output));
    process.abort();

    // pod_attach: what is said to the container's own process.
    let params = AttachParams::default()
        .stdin(true)
        .stderr(false)
        .stdout(true);
    let mut attached = pods.attach("web", &params).await?;
    let mut input = attached.stdin().context("input")?;
    input.write_all(b"a line\n").await?;
    input.flush().await?;
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream("web", &params).await?.lines();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|line| line != "got a line") {
        let line = tokio::time::timeout(PATIENCE, lines.try_next()).await??;
        seen.push(line.context("a line")?);
    }
    ensure!(seen == ["started", "got a line"], "{seen:?}");
    attached.abort();

    // pod_portforward.
    let connected = async || -> anyhow::Result<String> {
        let mut forwarder = pods.portforward("web", &[8080]).await?;
        let mut port = forwarder.take_stream(8080).context("a port")?;
        port.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        port.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, connected()).await??;
    ensure!(answer.ends_with("\r\n\r\npage\n"), "{answer:?}");

    // pod_shell's ephemeral cousin.
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": IMAGE, "command": ["true"]}]}});
    let params = PatchParams::default();
    pods.patch_ephemeral_containers("web", &params, &Patch::Strategic(debugger))
        .await?;
    pods.delete("web", &DeleteParams::default()).await?;
    cluster.stop();
    Ok(())
}

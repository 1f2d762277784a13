//! What the kubelet's server says of the node, on the real API server with simulated containers.

mod common;

use anyhow::{Context, Result};
use common::{World, container};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

#[tokio::test]
async fn the_server_tells_its_configuration_and_what_runs_and_saves_no_container() -> Result<()> {
    let world = World::with(|builder| {
        let address = "10.96.0.10".parse().expect("an address");
        let builder = builder.cluster_dns(address).cluster_domain("here.local");
        builder.allow_unsafe_sysctl("net.core.*")
    });
    let world = world.await?;
    let ended = json!({"name": "ended", "image": "busybox"});
    let spec =
        json!({"containers": [container("busybox:1.36"), ended], "restartPolicy": "OnFailure"});
    let annotations = json!({"sim.k8s-runtime/exit-after.ended": "10ms"});
    world.run_annotated("p", spec, annotations).await?;
    let one_has_ended = |pod: &Pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|s| s.container_statuses.as_ref());
        let states = statuses
            .into_iter()
            .flatten()
            .filter_map(|s| s.state.as_ref());
        let states: Vec<_> = states.collect();
        states.iter().any(|s| s.running.is_some()) && states.iter().any(|s| s.terminated.is_some())
    };
    let pod = world.until("p", "one of two runs", one_has_ended).await?;

    let (status, text) = world.ask("GET", "/configz").await?;
    let told: Value = serde_json::from_str(&text)?;
    let told = &told["kubeletconfig"];
    assert_eq!(status, 200);
    for (field, value) in [
        ("enableServer", json!(false)),
        ("clusterDomain", json!("here.local")),
        ("clusterDNS", json!(["10.96.0.10"])),
        ("maxPods", json!(110)),
        ("allowedUnsafeSysctls", json!(["net.core.*"])),
        ("nodeStatusReportFrequency", json!("5m0s")),
        ("containerLogMaxSize", json!("10Mi")),
    ] {
        assert_eq!(told[field], value, "{field}");
    }

    let (status, text) = world.ask("GET", "/runningpods/").await?;
    let found: Value = serde_json::from_str(&text)?;
    assert_eq!((status, &found["kind"]), (200, &json!("PodList")));
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{text}");
    let item = &found["items"][0];
    assert_eq!(item["metadata"]["uid"], json!(pod.metadata.uid));
    assert_eq!(item["metadata"]["namespace"], "default");
    let containers = item["spec"]["containers"]
        .as_array()
        .context("containers")?;
    let names: Vec<_> = containers.iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["c"]);

    let unsupported = "rpc error: code = Unimplemented desc = unknown method CheckpointContainer for service runtime.v1.RuntimeService";
    for (path, code, said) in [
        (
            "/checkpoint/default/no/c",
            404,
            "pod does not exist".to_owned(),
        ),
        (
            "/checkpoint/default/p/no",
            404,
            "container no does not exist".to_owned(),
        ),
        (
            "/checkpoint/default/p/c?timeout=1&timeout=x",
            404,
            "cannot parse value of timeout parameter".to_owned(),
        ),
        (
            "/checkpoint/default/p/ended",
            500,
            "checkpointing of default/p/ended failed (container ended not found)".to_owned(),
        ),
        (
            "/checkpoint/default/p/c?timeout=5",
            500,
            format!("checkpointing of default/p/c failed ({unsupported})"),
        ),
    ] {
        assert_eq!(world.ask("POST", path).await?, (code, said), "{path}");
    }
    for (method, path) in [
        ("GET", "/checkpoint/default/p/c"),
        ("POST", "/runningpods/"),
    ] {
        let refused = (405, "405: Method Not Allowed".to_owned());
        assert_eq!(world.ask(method, path).await?, refused, "{method} {path}");
    }
    Ok(())
}

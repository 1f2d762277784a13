//! What sig-network requires of Services, Endpoints and DNS.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{
    boot,
    case::{PATIENCE, create, ready},
};

/// All of them, on one cluster.
#[tokio::test]
#[ignore = "needs root"]
async fn network() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cluster, client) = boot(folder.path()).await;
    let results = tokio::join!(
        endpoints_follow_pods(&client),
        node_ports_answer(&client),
        affinity_holds_and_can_be_switched(&client),
        types_change(&client),
        dns_names_what_there_is(&client),
        the_api_is_a_service(&client),
    );
    let (a, b, c, d, e, f) = results;
    for (name, result) in [
        (
            "Services should serve basic and multiport endpoints from pods",
            a,
        ),
        (
            "Services should be able to create a functioning NodePort service",
            b,
        ),
        ("Services should be able to switch session affinity", c),
        ("Services should be able to change the type", d),
        (
            "DNS should provide DNS for services, pods and ExternalName services",
            e,
        ),
        (
            "EndpointSlice should have Endpoints and EndpointSlices pointing to API Server",
            f,
        ),
    ] {
        if let Err(error) = result {
            panic!("{name}: {error:#}");
        }
    }
    cluster.stop();
}

/// A pod that answers with its name on ports 80 and 81.
async fn server(client: &Client, namespace: &str, name: &str, labels: Value) -> anyhow::Result<()> {
    let script = "hostname > /www/index.html; httpd -p 81 -h /www; exec httpd -f -p 80 -h /www";
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "www", "emptyDir": {}}],
            "containers": [{
                "name": "c", "image": super::IMAGE, "command": ["sh", "-c", script],
                "ports": [{"name": "one", "containerPort": 80}, {"name": "two", "containerPort": 81}],
                "volumeMounts": [{"name": "www", "mountPath": "/www"}],
                "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
            }],
        },
    });
    create(client, namespace, object).await?;
    ready(&Api::namespaced(client.clone(), namespace), name).await
}

/// A pod that does nothing, to run commands in.
async fn visitor(client: &Client, namespace: &str) -> anyhow::Result<Api<Pod>> {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "visitor"},
        "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": super::IMAGE, "command": ["sleep", "1000"]}]},
    });
    create(client, namespace, object).await?;
    let pods = Api::namespaced(client.clone(), namespace);
    ready(&pods, "visitor").await?;
    Ok(pods)
}

/// What a command in the visitor prints.
async fn run(pods: &Api<Pod>, command: &str) -> anyhow::Result<String> {
    let params = AttachParams::default().stderr(false);
    let mut attached = pods.exec("visitor", ["sh", "-c", command], &params).await?;
    let mut output = String::new();
    let mut stdout = attached.stdout().context("no output")?;
    stdout.read_to_string(&mut output).await?;
    attached.join().await?;
    Ok(output.trim().to_owned())
}

/// Asks again until the answer is as wanted: rules and names follow the API a moment later.
async fn eventually<T: Debug>(
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
    wanted: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        match answer {
            Ok(answer) if wanted(&answer) => return Ok(answer),
            last if tokio::time::Instant::now() > deadline => bail!("it stays at {last:?}"),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn service(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: Value,
) -> anyhow::Result<Service> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let object = serde_json::from_value(object)?;
    Ok(services.create(&PostParams::default(), &object).await?)
}

fn cluster_ip(service: &Service) -> anyhow::Result<String> {
    let spec = service.spec.as_ref().context("no spec")?;
    spec.cluster_ip.clone().context("no cluster IP")
}

/// The names of the pods behind each named port.
async fn behind(
    client: &Client,
    namespace: &str,
    service: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let api: Api<Endpoints> = Api::namespaced(client.clone(), namespace);
    let endpoints = api.get(service).await?;
    let mut found = BTreeSet::new();
    for subset in endpoints.subsets.iter().flatten() {
        for port in subset.ports.iter().flatten() {
            for address in subset.addresses.iter().flatten() {
                let pod = address.target_ref.as_ref().and_then(|t| t.name.as_deref());
                found.insert(format!("{}:{}", pod.unwrap_or_default(), port.port));
            }
        }
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let mut in_slices = BTreeSet::new();
    for slice in slices.list(&selector).await? {
        for port in slice.ports.iter().flatten() {
            for endpoint in slice.endpoints.iter().flatten() {
                let pod = endpoint.target_ref.as_ref().and_then(|t| t.name.as_deref());
                in_slices.insert(format!(
                    "{}:{}",
                    pod.unwrap_or_default(),
                    port.port.unwrap_or(0)
                ));
            }
        }
    }
    ensure!(
        found == in_slices,
        "{found:?} in Endpoints, {in_slices:?} in slices"
    );
    Ok(found)
}

async fn endpoints_follow_pods(client: &Client) -> anyhow::Result<()> {
    let namespace = "endpoints";
    super::case::prepare(client, namespace).await?;
    let spec = json!({"selector": {"app": "a"}, "ports": [
        {"name": "p1", "port": 8080, "targetPort": "one"}, {"name": "p2", "port": 8081, "targetPort": 81},
    ]});
    let ip = cluster_ip(&service(client, namespace, "multi", spec).await?)?;
    let pods = visitor(client, namespace).await?;
    let expect = async |wanted: &[&str]| {
        let wanted: BTreeSet<String> = wanted.iter().map(|&w| w.to_owned()).collect();
        let ask = async || behind(client, namespace, "multi").await;
        eventually(ask, |found| *found == wanted)
            .await
            .with_context(|| format!("{wanted:?}"))
    };
    expect(&[]).await?;
    server(client, namespace, "pod1", json!({"app": "a"})).await?;
    expect(&["pod1:80", "pod1:81"]).await?;
    server(client, namespace, "pod2", json!({"app": "a"})).await?;
    expect(&["pod1:80", "pod1:81", "pod2:80", "pod2:81"]).await?;
    let both = async || {
        let mut seen = BTreeSet::new();
        for port in [8080, 8081] {
            for _ in 0..8 {
                seen.insert(run(&pods, &format!("wget -qO- http://{ip}:{port}/")).await?);
            }
        }
        Ok(seen)
    };
    eventually(both, |seen| seen.len() == 2).await?;
    pods.delete("pod1", &DeleteParams::default()).await?;
    expect(&["pod2:80", "pod2:81"]).await?;
    pods.delete("pod2", &DeleteParams::default()).await?;
    expect(&[]).await?;
    Ok(())
}

async fn node_ports_answer(client: &Client) -> anyhow::Result<()> {
    let namespace = "nodeport";
    super::case::prepare(client, namespace).await?;
    server(client, namespace, "pod1", json!({"app": "n"})).await?;
    let spec = json!({"type": "NodePort", "selector": {"app": "n"}, "ports": [{"port": 80}]});
    let made = service(client, namespace, "np", spec).await?;
    let spec = made.spec.clone().context("no spec")?;
    let port = spec.ports.iter().flatten().next().and_then(|p| p.node_port);
    let port = port.context("no node port")?;
    ensure!((30000..=32767).contains(&port), "node port {port}");
    let pods = visitor(client, namespace).await?;
    let host = pods
        .get("pod1")
        .await?
        .status
        .and_then(|s| s.host_ip)
        .context("no host")?;
    let ip = cluster_ip(&made)?;
    for address in [
        format!("{ip}:80"),
        format!("{host}:{port}"),
        "np:80".to_owned(),
    ] {
        let ask = async || run(&pods, &format!("wget -qO- http://{address}/")).await;
        eventually(ask, |answer| answer == "pod1")
            .await
            .context(address.clone())?;
    }
    Ok(())
}

async fn affinity_holds_and_can_be_switched(client: &Client) -> anyhow::Result<()> {
    let namespace = "affinity";
    super::case::prepare(client, namespace).await?;
    for name in ["pod1", "pod2", "pod3"] {
        server(client, namespace, name, json!({"app": "s"})).await?;
    }
    let spec =
        json!({"selector": {"app": "s"}, "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    let ip = cluster_ip(&service(client, namespace, "sticky", spec).await?)?;
    let ask = async || behind(client, namespace, "sticky").await;
    eventually(ask, |found| found.len() == 3).await?;
    let pods = visitor(client, namespace).await?;
    let seen = async || {
        let mut seen = BTreeSet::new();
        for _ in 0..15 {
            seen.insert(run(&pods, &format!("wget -qO- http://{ip}/")).await?);
        }
        Ok(seen)
    };
    eventually(seen, |seen| seen.len() == 1 && !seen.contains(""))
        .await
        .context("ClientIP")?;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let switch = async |to: &str| {
        let change = Patch::Merge(json!({"spec": {"sessionAffinity": to}}));
        services
            .patch("sticky", &PatchParams::default(), &change)
            .await
    };
    switch("None").await?;
    eventually(seen, |seen| seen.len() > 1)
        .await
        .context("None")?;
    switch("ClientIP").await?;
    eventually(seen, |seen| seen.len() == 1)
        .await
        .context("ClientIP again")?;
    Ok(())
}

async fn types_change(client: &Client) -> anyhow::Result<()> {
    let namespace = "types";
    super::case::prepare(client, namespace).await?;
    server(client, namespace, "pod1", json!({"app": "t"})).await?;
    let pods = visitor(client, namespace).await?;
    let spec = json!({"type": "ExternalName", "externalName": "target.example.com"});
    service(client, namespace, "svc", spec).await?;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let change = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        services.patch("svc", &PatchParams::default(), &patch).await
    };
    let to_pod = json!({"selector": {"app": "t"}, "ports": [{"port": 80}], "externalName": null});
    for kind in ["ClusterIP", "NodePort"] {
        let mut spec = to_pod.clone();
        spec["type"] = kind.into();
        let made = change(spec).await?;
        ensure!(!cluster_ip(&made)?.is_empty(), "{kind}: no cluster IP");
        let ask = async || run(&pods, "wget -qO- http://svc/").await;
        eventually(ask, |answer| answer == "pod1")
            .await
            .context(kind)?;
        let external = json!({"type": "ExternalName", "externalName": "target.example.com",
            "ports": null, "selector": null, "clusterIP": null, "clusterIPs": null});
        let made = change(external).await?;
        ensure!(
            made.spec
                .is_some_and(|s| s.cluster_ip.is_none_or(|ip| ip.is_empty()))
        );
        let full = format!("nslookup -type=cname svc.{namespace}.svc.cluster.local");
        let ask = async || run(&pods, &full).await;
        eventually(ask, |answer| answer.contains("target.example.com"))
            .await
            .context("ExternalName")?;
    }
    Ok(())
}

async fn dns_names_what_there_is(client: &Client) -> anyhow::Result<()> {
    let namespace = "names";
    super::case::prepare(client, namespace).await?;
    let pods = visitor(client, namespace).await?;
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "querier", "labels": {"app": "d"}},
        "spec": {
            "hostname": "querier-2", "subdomain": "sub", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": super::IMAGE, "command": ["sleep", "1000"]}],
        },
    });
    create(client, namespace, object).await?;
    ready(&pods, "querier").await?;
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let spec = json!({"clusterIP": "None", "selector": {"app": "d"}, "ports": ports});
    service(client, namespace, "sub", spec).await?;
    let spec = json!({"selector": {"app": "d"}, "ports": ports});
    let plain = cluster_ip(&service(client, namespace, "plain", spec).await?)?;
    let status = pods.get("querier").await?.status;
    let pod_ip = status.and_then(|s| s.pod_ip).context("no address")?;
    let reverse: Vec<&str> = plain.split('.').rev().collect();
    for (question, wanted) in [
        (
            "nslookup -type=a kubernetes.default.svc.cluster.local".to_owned(),
            "10.96.0.1",
        ),
        (
            format!("nslookup -type=a plain.{namespace}.svc.cluster.local"),
            plain.as_str(),
        ),
        (
            format!("nslookup -type=a sub.{namespace}.svc.cluster.local"),
            &pod_ip,
        ),
        (
            format!("nslookup -type=a querier-2.sub.{namespace}.svc.cluster.local"),
            &pod_ip,
        ),
        (
            format!("nslookup -type=srv _http._tcp.plain.{namespace}.svc.cluster.local"),
            "80",
        ),
        (
            format!("nslookup -type=srv _http._tcp.sub.{namespace}.svc.cluster.local"),
            "querier-2.sub",
        ),
        (
            format!("nslookup -type=ptr {}.in-addr.arpa", reverse.join(".")),
            "plain.names",
        ),
        ("ping -c 1 plain | head -1".to_owned(), plain.as_str()),
        ("ping -c 1 plain.names | head -1".to_owned(), plain.as_str()),
        (
            "ping -c 1 plain.names.svc | head -1".to_owned(),
            plain.as_str(),
        ),
    ] {
        let ask = async || run(&pods, &question).await;
        let is_there = |answer: &String| answer.contains(wanted);
        eventually(ask, is_there)
            .await
            .with_context(|| format!("{question}: {wanted}"))?;
    }
    Ok(())
}

async fn the_api_is_a_service(client: &Client) -> anyhow::Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = services.get("kubernetes").await?;
    let port = service
        .spec
        .and_then(|s| s.ports)
        .and_then(|p| p.first().map(|p| p.port));
    ensure!(port == Some(443), "port {port:?}");
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    let subsets = endpoints
        .get("kubernetes")
        .await?
        .subsets
        .unwrap_or_default();
    ensure!(
        subsets
            .iter()
            .any(|s| s.addresses.as_ref().is_some_and(|a| !a.is_empty()))
    );
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let selector = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    ensure!(!slices.list(&selector).await?.items.is_empty(), "no slice");
    Ok(())
}

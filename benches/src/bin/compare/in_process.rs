//! This project's API server without a socket: how it boots, what a request costs beyond what the store
//! does for it, and what a watch takes.

use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use k8s_apiserver::{ApiServer, auth::Identity, http::Body};
use k8s_store::{Expect, MemoryStore, Op, Store, Write};
use tokio::{process::Command, time::Instant};

use crate::{
    figures::Figures,
    idle::path,
    load::{NAMESPACE, config_map, pod},
    server::resident,
};

/// Times that something is done whose median is taken.
const TIMES: usize = 5_000;
const BOOTS: usize = 21;
const WATCHES: usize = 20_000;

/// Boot, and what requests cost.
pub(crate) async fn overhead(figures: &mut Figures) -> anyhow::Result<()> {
    figures.less(
        "in process: boot to first answer",
        "ms",
        boot().await? * 1e3,
    );
    let store = Arc::new(MemoryStore::new());
    let server = ApiServer::builder().store(store.clone()).build().await?;
    prepare(&server).await?;
    for (kind, resource, body) in [
        (
            "ConfigMap",
            "configmaps",
            config_map as fn(&str, &str) -> String,
        ),
        ("Pod", "pods", pod),
    ] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{resource}");
        let (mut create, mut get) = (Vec::new(), Vec::new());
        for n in 0..TIMES {
            let name = format!("object-{n}");
            let request = request(Method::POST, &path, body(&name, "first"))?;
            create.push(answer(&server, request, 201).await?);
            let request = request_of(&format!("{path}/{name}"))?;
            get.push(answer(&server, request, 200).await?);
        }
        let (stored_create, stored_get) = store_alone(&store, resource).await?;
        let create = micros(create) - stored_create;
        let get = micros(get) - stored_get;
        figures.less(
            format!("in process: create a {kind}, beyond the store"),
            "us",
            create,
        );
        figures.less(
            format!("in process: GET a {kind}, beyond the store"),
            "us",
            get,
        );
    }
    server.shutdown().await;
    Ok(())
}

/// What the store takes to put and get the values that the server has stored.
async fn store_alone(store: &MemoryStore, resource: &str) -> anyhow::Result<(f64, f64)> {
    let page = store
        .list(k8s_store::List {
            prefix: Bytes::new(),
            ..Default::default()
        })
        .await?;
    let needle = format!("{resource}/{NAMESPACE}/object-");
    let copy = MemoryStore::new();
    let (mut put, mut get) = (Vec::new(), Vec::new());
    for entry in page.entries {
        if !String::from_utf8_lossy(&entry.key).contains(&needle) {
            continue;
        }
        let started = Instant::now();
        let op = Op::Put {
            value: entry.value.clone(),
            ttl: None,
        };
        let write = Write {
            key: entry.key.clone(),
            expect: Expect::Absent,
            op,
        };
        copy.commit(vec![write]).await?;
        put.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        copy.get(&entry.key, None).await?.context("it is there")?;
        get.push(started.elapsed().as_secs_f64());
    }
    ensure!(put.len() == TIMES, "the store has {} objects", put.len());
    Ok((micros(put), micros(get)))
}

/// From nothing to the first answer, in seconds.
async fn boot() -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for _ in 0..BOOTS {
        let request = request_of("/api/v1/namespaces/default")?;
        let started = Instant::now();
        let server = ApiServer::builder().build().await?;
        let answer = server.handle(request).await;
        took.push(started.elapsed().as_secs_f64());
        ensure!(answer.status() == 200, "it answered {}", answer.status());
        server.shutdown().await;
    }
    Ok(micros(took) / 1e6)
}

/// Measures in a process of its own, where nothing was freed before that could be used again.
pub(crate) async fn idle_watch(figures: &mut Figures) -> anyhow::Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .arg("idle-in-process")
        .output()
        .await?;
    ensure!(output.status.success(), "idle-in-process failed");
    let text = String::from_utf8(output.stdout)?;
    figures.less("idle watch, in process", "KiB", text.trim().parse()?);
    Ok(())
}

/// What an idle watch takes in KiB, to standard output.
#[expect(clippy::print_stdout, reason = "what the program is for")]
pub(crate) async fn print_idle_watch() -> anyhow::Result<()> {
    let server = ApiServer::builder().build().await?;
    prepare(&server).await?;
    let mut open = Vec::with_capacity(WATCHES);
    let mut before = 0;
    for n in 0..WATCHES + 50 {
        if n == 50 {
            before = resident(std::process::id())?;
        }
        let mut response = server.handle(request_of(&path())?).await;
        ensure!(response.status() == 200, "a watch was answered otherwise");
        // A watch does something only when its body is read.
        let body = response.body_mut();
        ensure!(
            futures::poll!(body.frame()).is_pending(),
            "an event where nothing happens"
        );
        open.push(response.into_body());
    }
    let after = resident(std::process::id())?;
    println!(
        "{}",
        after.saturating_sub(before) as f64 / 1024.0 / WATCHES as f64
    );
    Ok(())
}

async fn prepare(server: &ApiServer) -> anyhow::Result<()> {
    for (path, object) in [
        (
            "/api/v1/namespaces".to_owned(),
            format!(
                r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{NAMESPACE}"}}}}"#
            ),
        ),
        (
            format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"),
            r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}"#
                .to_owned(),
        ),
    ] {
        answer(server, request(Method::POST, &path, object)?, 201).await?;
    }
    Ok(())
}

fn request(method: Method, path: &str, body: String) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .extension(Identity::system_masters())
        .body(Full::new(body.into()))?)
}

fn request_of(path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    request(Method::GET, path, String::new())
}

/// Sends a request and reads the answer; how many seconds that took.
async fn answer(
    server: &ApiServer,
    request: Request<Full<Bytes>>,
    code: u16,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let response: Response<Body> = server.handle(request).await;
    let got = response.status();
    let body = response.into_body().collect().await;
    let took = started.elapsed().as_secs_f64();
    ensure!(got == code, "{got} instead of {code}");
    body.map_err(|error| anyhow::anyhow!(error))?;
    Ok(took)
}

/// The median of seconds, in microseconds.
fn micros(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).map_or(0.0, |s| s * 1e6)
}

//! The requests, and how fast they were answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet, time::Instant};

use crate::{client::Connection, server::Server};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) connections: usize,
    pub(crate) objects: usize,
    pub(crate) watchers: usize,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Seconds from the start to `/readyz`.
    pub(crate) ready: f64,
    /// Bytes of memory before any work.
    pub(crate) idle_memory: f64,
    /// ConfigMaps created a second.
    pub(crate) create_config_maps: f64,
    /// Pods created a second.
    pub(crate) create_pods: f64,
    /// Pods read a second.
    pub(crate) get_pod: f64,
    /// Bytes of Pod lists a second.
    pub(crate) list_pods: f64,
    /// Watch events delivered a second, over all watchers.
    pub(crate) watch_events: f64,
    /// Bytes of memory with all objects there.
    pub(crate) full_memory: f64,
}

const NAMESPACE: &str = "compare";

pub(crate) async fn run(server: &Server, scale: Scale) -> anyhow::Result<Figures> {
    let mut figures = Figures {
        ready: server.ready_after.as_secs_f64(),
        ..Figures::default()
    };
    let mut connection = Connection::open(server.address, server.tls.clone()).await?;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    expect(
        201,
        connection
            .post("/api/v1/namespaces", namespace.to_string().into())
            .await?,
    )?;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    expect(
        201,
        connection.post(&path, account.to_string().into()).await?,
    )?;
    figures.idle_memory = server.memory()? as f64;

    figures.create_config_maps = create(server, scale, "configmaps", config_map).await?;
    figures.create_pods = create(server, scale, "pods", pod).await?;
    figures.get_pod = get(server, scale).await?;
    figures.list_pods = list(server, scale).await?;
    figures.full_memory = server.memory()? as f64;
    figures.watch_events = watch(server, scale).await?;
    Ok(figures)
}

fn expect(code: u16, (got, _): (u16, usize)) -> anyhow::Result<()> {
    if code != got {
        bail!("the server answered {got} instead of {code}");
    }
    Ok(())
}

fn config_map(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "compare"}},
        "data": {"settings": "x".repeat(512)},
    })
}

fn pod(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "compare", "tier": "web"}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main", "image": "example.com/web:1",
                "ports": [{"containerPort": 8080}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            }],
        },
    })
}

/// All connections at once make objects of one kind; objects a second.
async fn create(
    server: &Server,
    scale: Scale,
    resource: &'static str,
    object: fn(&str) -> serde_json::Value,
) -> anyhow::Result<f64> {
    let path: Arc<str> = format!("/api/v1/namespaces/{NAMESPACE}/{resource}").into();
    each(server, scale, scale.objects, move |mut connection, next| {
        let path = path.clone();
        async move {
            while let Some(n) = next() {
                let body = object(&format!("object-{n}")).to_string().into();
                expect(201, connection.post(&path, body).await?)?;
            }
            Ok(())
        }
    })
    .await
}

/// Reads single Pods; reads a second.
async fn get(server: &Server, scale: Scale) -> anyhow::Result<f64> {
    let objects = scale.objects;
    each(
        server,
        scale,
        objects * 5,
        move |mut connection, next| async move {
            while let Some(n) = next() {
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/object-{}", n % objects);
                expect(200, connection.get(&path).await?)?;
            }
            Ok(())
        },
    )
    .await
}

/// Lists all Pods, on four connections; bytes a second.
async fn list(server: &Server, scale: Scale) -> anyhow::Result<f64> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let bytes = Arc::new(AtomicUsize::new(0));
    let counted = bytes.clone();
    let scale = Scale {
        connections: scale.connections.min(4),
        ..scale
    };
    let lists = 40;
    let rate = each(server, scale, lists, move |mut connection, next| {
        let (path, counted) = (path.clone(), counted.clone());
        async move {
            while next().is_some() {
                let (code, length) = connection.get(&path).await?;
                expect(200, (code, length))?;
                counted.fetch_add(length, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    Ok(bytes.load(Ordering::Relaxed) as f64 / lists as f64 * rate)
}

/// Watchers on all ConfigMaps of the namespace, and four writers; events delivered a second.
async fn watch(server: &Server, scale: Scale) -> anyhow::Result<f64> {
    let writes = (200_000 / scale.watchers).clamp(20, 2_000);
    let ready = Arc::new(Barrier::new(scale.watchers + 1));
    let mut watchers = JoinSet::new();
    for _ in 0..scale.watchers {
        let (address, tls, ready) = (server.address, server.tls.clone(), ready.clone());
        watchers.spawn(async move {
            let mut connection = Connection::open(address, tls).await?;
            // From now on only: without the objects that are there already.
            let path = format!(
                "/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&labelSelector=round%3Dwatch"
            );
            let response = connection.send(Method::GET, &path, Bytes::new()).await?;
            if response.status() != 200 {
                bail!("a watch was answered {}", response.status());
            }
            ready.wait().await;
            let (mut body, mut seen) = (response.into_body(), 0);
            while seen < writes {
                let frame = body.frame().await.context("a watch ended early")??;
                seen += frame
                    .data_ref()
                    .map_or(0, |d| d.iter().filter(|b| **b == b'\n').count());
            }
            Ok(Instant::now())
        });
    }
    ready.wait().await;
    let started = Instant::now();
    let path: Arc<str> = format!("/api/v1/namespaces/{NAMESPACE}/configmaps").into();
    let writers = Scale {
        connections: 4,
        ..scale
    };
    each(server, writers, writes, move |mut connection, next| {
        let path = path.clone();
        async move {
            while let Some(n) = next() {
                let mut object = config_map(&format!("watched-{n}"));
                object["metadata"]["labels"]["round"] = "watch".into();
                expect(
                    201,
                    connection.post(&path, object.to_string().into()).await?,
                )?;
            }
            Ok(())
        }
    })
    .await?;
    let mut last = started;
    while let Some(ended) = watchers.join_next().await {
        last = last.max(ended??);
    }
    Ok((writes * scale.watchers) as f64 / (last - started).as_secs_f64())
}

/// Runs `work` on every connection. Each takes the next number until `count` is reached; numbers
/// a second.
async fn each<F, W>(server: &Server, scale: Scale, count: usize, work: W) -> anyhow::Result<f64>
where
    W: Fn(Connection, Box<dyn Fn() -> Option<usize> + Send + Sync>) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut connections = Vec::new();
    for _ in 0..scale.connections {
        connections.push(Connection::open(server.address, server.tls.clone()).await?);
    }
    let counter = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in connections {
        let counter = counter.clone();
        let next = move || Some(counter.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count);
        tasks.spawn(work(connection, Box::new(next)));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = started.elapsed().max(Duration::from_micros(1));
    Ok(count as f64 / took.as_secs_f64())
}

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
    /// ConfigMaps created.
    pub(crate) create_config_maps: Rate,
    /// Pods created.
    pub(crate) create_pods: Rate,
    /// Pods read.
    pub(crate) get_pod: Rate,
    /// Bytes of Pod lists.
    pub(crate) list_pods: Rate,
    /// Watch events delivered, over all watchers.
    pub(crate) watch_events: Rate,
    /// Bytes of memory with all objects there.
    pub(crate) full_memory: f64,
}

/// How fast something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// How much a second.
    pub(crate) per_second: f64,
    /// Seconds of CPU that the servers spent on each: unlike the rate it does not depend on how busy the
    /// machine is otherwise.
    pub(crate) cpu: f64,
}

/// How much was done, and in how many seconds.
struct Work {
    amount: f64,
    seconds: f64,
}

/// Does some work and takes the servers' CPU time.
async fn rate(
    server: &Server,
    work: impl Future<Output = anyhow::Result<Work>>,
) -> anyhow::Result<Rate> {
    let before = server.cpu()?;
    let Work { amount, seconds } = work.await?;
    Ok(Rate {
        per_second: amount / seconds,
        cpu: (server.cpu()? - before) / amount,
    })
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

    let config_maps = create(server, scale, "configmaps", config_map);
    figures.create_config_maps = rate(server, config_maps).await?;
    figures.create_pods = rate(server, create(server, scale, "pods", pod)).await?;
    figures.get_pod = rate(server, get(server, scale)).await?;
    figures.list_pods = rate(server, list(server, scale)).await?;
    figures.full_memory = server.memory()? as f64;
    figures.watch_events = rate(server, watch(server, scale)).await?;
    Ok(figures)
}

fn expect(code: u16, (got, _): (u16, usize)) -> anyhow::Result<()> {
    if code != got {
        bail!("the server answered {got} instead of {code}");
    }
    Ok(())
}

/// The body of an object; the clients' own work is to be small beside the servers'.
fn config_map(name: &str, round: &str) -> String {
    let settings = "x".repeat(512);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"compare","round":"{round}"}}}},"data":{{"settings":"{settings}"}}}}"#
    )
}

fn pod(name: &str, _round: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"compare","tier":"web"}}}},"spec":{{"automountServiceAccountToken":false,"containers":[{{"name":"main","image":"example.com/web:1","ports":[{{"containerPort":8080}}],"env":[{{"name":"A","value":"1"}},{{"name":"B","value":"2"}}],"resources":{{"requests":{{"cpu":"100m","memory":"64Mi"}}}}}}]}}}}"#
    )
}

/// All connections at once make objects of one kind.
async fn create(
    server: &Server,
    scale: Scale,
    resource: &'static str,
    object: fn(&str, &str) -> String,
) -> anyhow::Result<Work> {
    let path: Arc<str> = format!("/api/v1/namespaces/{NAMESPACE}/{resource}").into();
    each(server, scale, scale.objects, move |mut connection, next| {
        let path = path.clone();
        async move {
            while let Some(n) = next() {
                let body = object(&format!("object-{n}"), "first").into();
                expect(201, connection.post(&path, body).await?)?;
            }
            Ok(())
        }
    })
    .await
}

/// Reads single Pods.
async fn get(server: &Server, scale: Scale) -> anyhow::Result<Work> {
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

/// Lists all Pods, on four connections.
async fn list(server: &Server, scale: Scale) -> anyhow::Result<Work> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let bytes = Arc::new(AtomicUsize::new(0));
    let counted = bytes.clone();
    let scale = Scale {
        connections: scale.connections.min(4),
        ..scale
    };
    let lists = 40;
    let work = each(server, scale, lists, move |mut connection, next| {
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
    Ok(Work {
        amount: bytes.load(Ordering::Relaxed) as f64,
        ..work
    })
}

/// Watchers on all ConfigMaps of the namespace, and four writers.
async fn watch(server: &Server, scale: Scale) -> anyhow::Result<Work> {
    let writes = (1_000_000 / scale.watchers).clamp(20, 2_000);
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
                    .map_or(0, |d| memchr::memchr_iter(b'\n', d).count());
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
                let object = config_map(&format!("watched-{n}"), "watch");
                expect(201, connection.post(&path, object.into()).await?)?;
            }
            Ok(())
        }
    })
    .await?;
    let mut last = started;
    while let Some(ended) = watchers.join_next().await {
        last = last.max(ended??);
    }
    Ok(Work {
        amount: (writes * scale.watchers) as f64,
        seconds: (last - started).as_secs_f64(),
    })
}

/// Runs `work` on every connection. Each takes the next number until `count` is reached.
async fn each<F, W>(server: &Server, scale: Scale, count: usize, work: W) -> anyhow::Result<Work>
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
    Ok(Work {
        amount: count as f64,
        seconds: started
            .elapsed()
            .max(Duration::from_micros(1))
            .as_secs_f64(),
    })
}

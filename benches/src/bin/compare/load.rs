//! What the parts have in common: objects, connections that share work, and the clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{client::Connection, figures::Rate, server::Server};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) connections: usize,
    pub(crate) objects: usize,
}

/// How much was done, and in how many seconds.
pub(crate) struct Work {
    pub(crate) amount: f64,
    pub(crate) seconds: f64,
}

/// Does some work and takes the servers' CPU time.
pub(crate) async fn rate(
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

/// Where the objects are.
pub(crate) const NAMESPACE: &str = "compare";

/// Makes the namespace that everything happens in.
pub(crate) async fn prepare(server: &Server) -> anyhow::Result<()> {
    let mut connection = Connection::open(server.address, server.tls.clone()).await?;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let namespace = namespace.to_string();
    let made = connection.post("/api/v1/namespaces", &namespace).await;
    expect(201, made?)?;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    expect(201, connection.post(&path, &account.to_string()).await?)
}

pub(crate) fn expect(code: u16, (got, _): (u16, usize)) -> anyhow::Result<()> {
    if code != got {
        bail!("the server answered {got} instead of {code}");
    }
    Ok(())
}

/// The body of an object; the clients' own work is to be small beside the servers'.
pub(crate) fn config_map(name: &str, round: &str) -> String {
    let settings = "x".repeat(512);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"compare","round":"{round}"}}}},"data":{{"settings":"{settings}"}}}}"#
    )
}

pub(crate) fn pod(name: &str, _round: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"compare","tier":"web"}}}},"spec":{{"automountServiceAccountToken":false,"containers":[{{"name":"main","image":"example.com/web:1","ports":[{{"containerPort":8080}}],"env":[{{"name":"A","value":"1"}},{{"name":"B","value":"2"}}],"resources":{{"requests":{{"cpu":"100m","memory":"64Mi"}}}}}}]}}}}"#
    )
}

/// What is made, and by how many connections at once.
#[derive(Clone, Copy)]
pub(crate) struct Objects {
    pub(crate) resource: &'static str,
    /// The body of the object of that name, in that round.
    pub(crate) body: fn(&str, &str) -> String,
    pub(crate) round: &'static str,
    pub(crate) connections: usize,
    /// The numbers in their names: from, and to before.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Objects {
    /// Makes them.
    pub(crate) async fn create(self, server: &Server) -> anyhow::Result<Work> {
        let path: Arc<str> = format!("/api/v1/namespaces/{NAMESPACE}/{}", self.resource).into();
        let count = self.to.saturating_sub(self.from);
        each(
            server,
            self.connections,
            count,
            move |mut connection, next| {
                let path = path.clone();
                async move {
                    while let Some(n) = next() {
                        let name = format!("object-{}", self.from + n);
                        let body = (self.body)(&name, self.round);
                        expect(201, connection.post(&path, &body).await?)?;
                    }
                    Ok(())
                }
            },
        )
        .await
    }
}

/// Runs `work` on that many connections. Each takes the next number until `count` is reached.
pub(crate) async fn each<F, W>(
    server: &Server,
    connections: usize,
    count: usize,
    work: W,
) -> anyhow::Result<Work>
where
    W: Fn(Connection, Box<dyn Fn() -> Option<usize> + Send + Sync>) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(server.address, server.tls.clone()).await?);
    }
    let counter = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in open {
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

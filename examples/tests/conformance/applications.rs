//! What sig-cli requires of applications that run.

use std::time::Duration;

use anyhow::ensure;
use kube::Client;
use serde_json::Value;

use super::{IMAGE, boot, case::PATIENCE, support::Cluster};

/// A store with replicas and a front: each is a shell behind a web server. What is written through
/// the front goes to the primary, and is read from the replicas.
const GUESTBOOK: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: scripts}
data:
  primary: |
    busybox mkdir -p /srv/cgi-bin
    (echo '#!/bin/sh'; echo 'echo "Content-Type: text/plain"; echo'; echo 'echo "$QUERY_STRING" > /srv/value; echo stored') > /srv/cgi-bin/set
    chmod 755 /srv/cgi-bin/set
    echo nothing > /srv/value
    exec httpd -f -p 6379 -h /srv
  replica: |
    busybox mkdir -p /srv
    while true; do wget -q -O /srv/new http://primary:6379/value && mv /srv/new /srv/value; sleep 0.2; done &
    exec httpd -f -p 6379 -h /srv
  front: |
    busybox mkdir -p /srv/cgi-bin
    for verb in set get; do
      case $verb in set) url='http://primary:6379/cgi-bin/set?$QUERY_STRING';; get) url=http://replica:6379/value;; esac
      (echo '#!/bin/sh'; echo 'echo "Content-Type: text/plain"; echo'; echo "exec wget -q -O - \"$url\"") > /srv/cgi-bin/$verb
      chmod 755 /srv/cgi-bin/$verb
    done
    exec httpd -f -p 80 -h /srv
"#;

fn tier(name: &str, replicas: usize, port: u16) -> String {
    format!(
        r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{tier: {name}}}}}
  template:
    metadata: {{labels: {{tier: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      volumes: [{{name: scripts, configMap: {{name: scripts}}}}]
      containers:
      - name: it
        image: {IMAGE}
        command: [sh, /scripts/{name}]
        ports: [{{containerPort: {port}}}]
        volumeMounts: [{{name: scripts, mountPath: /scripts}}]
        readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{tier: {name}}}
  ports: [{{port: {port}}}]
"#
    )
}

/// Asks the front through the API server; empty while it cannot answer.
async fn ask(client: &Client, path: &str) -> String {
    let path = format!("/api/v1/namespaces/default/services/front/proxy/cgi-bin/{path}");
    let request = http::Request::get(path)
        .body(Vec::new())
        .expect("a request");
    client.request_text(request).await.unwrap_or_default()
}

/// [sig-cli] Kubectl client Guestbook application should create and stop a working application
#[tokio::test]
#[ignore = "needs root and kubectl"]
async fn what_is_written_to_a_guestbook_can_be_read() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = boot(folder.path()).await;
    let tiers = [("primary", 1, 6379), ("replica", 2, 6379), ("front", 3, 80)];
    let tiers: String = tiers
        .map(|(name, count, port)| tier(name, count, port))
        .concat();
    let manifest = format!("{GUESTBOOK}{tiers}");
    cluster.apply(&manifest);
    for name in ["primary", "replica", "front"] {
        let deployment = format!("deployment/{name}");
        cluster.kubectl(&["rollout", "status", &deployment, "--timeout=120s"]);
    }
    eventually(async || ask(&client, "set?TestEntry").await.contains("stored")).await?;
    eventually(async || ask(&client, "get").await.contains("TestEntry")).await?;
    cluster.kubectl_with(&["delete", "-f", "-", "--wait"], &manifest);
    cluster.kubectl(&["wait", "--for=delete", "pods", "--all", "--timeout=120s"]);
    cluster.stop();
    Ok(())
}

/// Tries until it succeeds: nothing tells when the nodes' rules have followed the endpoints.
async fn eventually(condition: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let trying = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, trying).await?)
}

/// [sig-cli] Kubectl client Kubectl logs should be able to retrieve and filter logs
#[tokio::test]
#[ignore = "needs root and kubectl"]
async fn kubectl_filters_logs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, _) = boot(folder.path()).await;
    let script =
        "for i in 1 2 3 4 5; do echo line $i; done; while true; do sleep 0.5; echo later; done";
    cluster.kubectl(&[
        "run",
        "it",
        "--image",
        IMAGE,
        "--restart=Never",
        "--",
        "sh",
        "-c",
        script,
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/it", "--timeout=120s"]);
    let logs =
        |cluster: &Cluster, option: &str| cluster.kubectl(&["logs", "it", "-c", "it", option]);
    eventually(async || {
        logs(&cluster, "--tail=-1").starts_with("line 1\nline 2\nline 3\nline 4\nline 5\nlater\n")
    })
    .await?;
    ensure!(logs(&cluster, "--tail=1") == "later\n");
    ensure!(logs(&cluster, "--limit-bytes=1") == "l");
    let stamped = cluster.kubectl(&["logs", "it", "--tail=1", "--timestamps"]);
    let (time, line) = stamped.trim().split_once(' ').unwrap_or_default();
    ensure!(line == "later", "{stamped}");
    let time: Value = time.into();
    serde_json::from_value::<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>(time)?;
    // What was said first is soon more than a second old, and never more than a day.
    eventually(async || !logs(&cluster, "--since=1s").contains("line")).await?;
    ensure!(logs(&cluster, "--since=24h").starts_with("line 1\n"));
    cluster.stop();
    Ok(())
}

//! Upstream's kube-apiserver on an etcd of its own.

use std::{net::SocketAddr, path::Path, process::Stdio};

use anyhow::Context;
use k8s_apiserver::{
    pki::{Pki, ServerNames},
    serve::client_config,
};
use tokio::{process::Command, time::Instant};

use crate::{ours::free_port, server::Server};

pub(crate) async fn start(apiserver: &Path, etcd: &Path, dir: &Path) -> anyhow::Result<Server> {
    std::fs::create_dir_all(dir)?;
    let pki = Pki::in_memory()?;
    let names = ServerNames::for_apiserver("cluster.local", None);
    let serving = pki.apiserver(&names)?;
    let admin = pki.issue_client("admin", &["system:masters"])?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let key = pki.service_account_key();

    let (client, peer) = (free_port()?, free_port()?);
    let etcd_process = Command::new(etcd)
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!(
            "--initial-advertise-peer-urls=http://127.0.0.1:{peer}"
        ))
        .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", etcd.display()))?;
    while tokio::net::TcpStream::connect(("127.0.0.1", client))
        .await
        .is_err()
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    let port = free_port()?;
    let started = Instant::now();
    let process = Command::new(apiserver)
        .arg(format!("--etcd-servers=http://127.0.0.1:{client}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg(format!(
            "--tls-cert-file={}",
            file("serving.crt", &serving.certificate)?
        ))
        .arg(format!(
            "--tls-private-key-file={}",
            file("serving.key", &serving.key)?
        ))
        .arg(format!(
            "--client-ca-file={}",
            file("ca.crt", pki.ca_pem())?
        ))
        .arg(format!(
            "--service-account-key-file={}",
            file("sa.pub", &key.public)?
        ))
        .arg(format!(
            "--service-account-signing-key-file={}",
            file("sa.key", &key.private)?
        ))
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg("--authorization-mode=Node,RBAC")
        // As many as there are clients, so that nobody is turned away.
        .arg("--max-requests-inflight=4000")
        .arg("--max-mutating-requests-inflight=2000")
        .arg(format!("--cert-dir={}", dir.display()))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("apiserver.log"))?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", apiserver.display()))?;
    let tls = client_config(pki.ca_der(), Some(&admin), &[])?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Server::wait(address, tls, vec![process, etcd_process], started).await
}

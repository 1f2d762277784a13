//! This project's API server on the embedded store.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    sync::Arc,
};

use anyhow::Context;
use k8s_apiserver::{
    ApiServer,
    pki::{Pki, ServerNames},
    serve::{Limits, ServerTls, bind, client_config, serve as serve_tls},
};
use k8s_store::EmbeddedStore;
use tokio::{process::Command, signal::unix::SignalKind, time::Instant};

use crate::server::Server;

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Starts this program again, as the server.
pub(crate) async fn start(dir: &Path) -> anyhow::Result<Server> {
    std::fs::create_dir_all(dir)?;
    let pki = Pki::open_or_create(dir.join("pki"))?;
    let admin = pki.issue_client("admin", &["system:masters"])?;
    let port = free_port()?;
    let started = Instant::now();
    let process = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--dir")
        .arg(dir)
        .arg("--port")
        .arg(port.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the server")?;
    let tls = client_config(pki.ca_der(), Some(&admin), &[])?;
    Server::wait(
        SocketAddr::from(([127, 0, 0, 1], port)),
        tls,
        vec![process],
        started,
    )
    .await
}

/// The server: API and store, nothing else.
pub(crate) async fn serve(dir: &Path, port: u16) -> anyhow::Result<()> {
    let pki = Pki::open_or_create(dir.join("pki"))?;
    let store = EmbeddedStore::open(dir.join("store")).await?;
    let server = ApiServer::builder().store(Arc::new(store)).build().await?;
    let credential = pki.apiserver(&ServerNames::for_apiserver("cluster.local", None))?;
    let tls = ServerTls::new(&credential, pki.ca_der())?;
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let running = serve_tls(server, vec![listener], tls, Limits::default())?;
    tokio::signal::unix::signal(SignalKind::terminate())?
        .recv()
        .await;
    drop(running);
    Ok(())
}

//! An API server on plain HTTP, for experiments: everybody is the administrator.
//!
//! ```text
//! cargo run -p k8s-apiserver --example plain_http -- 127.0.0.1:8001
//! kubectl --server http://127.0.0.1:8001 get namespaces
//! ```

use std::error::Error;

use async_trait::async_trait;
use http::request::Parts;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use k8s_apiserver::{
    ApiServer,
    auth::{AuthenticationError, Authenticator, Identity},
};
use tokio::net::TcpListener;

#[derive(Debug)]
struct Everybody;

#[async_trait]
impl Authenticator for Everybody {
    async fn authenticate(&self, _parts: &Parts) -> Result<Option<Identity>, AuthenticationError> {
        Ok(Some(Identity::system_masters()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8001".into());
    let started = std::time::Instant::now();
    let server = ApiServer::builder()
        .authenticator(std::sync::Arc::new(Everybody))
        .build()
        .await?;
    let listener = TcpListener::bind(&address).await?;
    eprintln!("serving on http://{address} after {:?}", started.elapsed());
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(server.clone());
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

//! [`Gate`]: the way to the server that is up now.

use std::{
    future::Future,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use k8s_apiserver::{ApiServer, auth::Identity, http::Body};
use parking_lot::RwLock;
use tower::{Service, ServiceExt};

/// Any error, boxed.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The way to the server that is up now: clients keep it over a restart. It is closed while there
/// is no server, and for good when the cluster is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<RwLock<Option<ApiServer>>>);

impl Gate {
    pub(crate) fn open(&self, server: ApiServer) {
        *self.0.write() = Some(server);
    }

    pub(crate) fn close(&self) -> Option<ApiServer> {
        self.0.write().take()
    }

    pub(crate) fn server(&self) -> Option<ApiServer> {
        self.0.read().clone()
    }

    /// The way of one identity.
    pub(crate) fn service(&self, identity: Identity) -> GateService {
        GateService {
            gate: self.clone(),
            identity,
        }
    }
}

/// Requests of one identity, to the server that is up when they are made.
#[derive(Clone, Debug)]
pub(crate) struct GateService {
    gate: Gate,
    identity: Identity,
}

impl Service<Request<kube::client::Body>> for GateService {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let Some(server) = self.gate.server() else {
            let error = io::Error::new(io::ErrorKind::ConnectionRefused, "the server is down");
            return refuse(error).boxed();
        };
        server
            .service(self.identity.clone())
            .oneshot(request)
            .boxed()
    }
}

fn refuse(error: io::Error) -> impl Future<Output = Result<Response<Body>, BoxError>> + Send {
    futures::future::ready(Err(error.into()))
}

//! [`ApiServer`]: the API as a service.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::Service;

use crate::{
    ApiServerBuilder,
    aggregation::Aggregation,
    audit::Audit,
    auth::{Authenticator, Identity, Impersonation, ServiceAccountTokens},
    authz::Authorizer,
    components::Component,
    endpoints,
    flow::FlowControl,
    health,
    http::Body,
    metrics::Metrics,
    pki::FrontProxy,
    proxy::Connecter,
    registry::{Registry, Row},
    reviews::CreateOnly,
};

/// A Kubernetes API server: a [`tower::Service`] of HTTP requests. Cloning it is cheap.
///
/// The caller of a request is the [`Identity`] in its extensions, or else whoever the
/// [authenticator](ApiServerBuilder::authenticator) says. [`ApiServer::client`] puts an
/// identity there; a listener that is not to be trusted must not let peers do so.
///
/// The server works as long as a clone of it lives, or until [`ApiServer::shutdown`].
#[derive(Clone, Debug)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
    /// Ends the tasks with the last clone.
    _guard: Arc<DropGuard>,
}

pub(crate) struct Inner {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) impersonation: Impersonation,
    pub(crate) metrics: Metrics,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) flow: Arc<FlowControl>,
    pub(crate) aggregation: Arc<Aggregation>,
    /// Whose keys `/openid/v1/jwks` shows.
    pub(crate) tokens: Arc<ServiceAccountTokens>,
    /// Where the server says that it is; empty if it doesn't.
    pub(crate) address: String,
    pub(crate) create_only: Vec<(
        &'static str,
        &'static str,
        &'static str,
        Arc<dyn CreateOnly>,
    )>,
    pub(crate) connecters: Vec<(&'static str, &'static str, Arc<dyn Connecter>)>,
    /// The parts of the cluster whose health is told, and their names.
    pub(crate) components: Vec<(String, Arc<dyn Component>)>,
    /// How far the server is on its way down.
    pub(crate) ending: Ending,
    pub(crate) checked: health::Results,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// The steps in which a server goes down.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// `/readyz` says so.
    announced: CancellationToken,
    /// New requests are refused, and watches end.
    pub(crate) draining: CancellationToken,
    /// The requests that are being served and will end by themselves.
    pub(crate) requests: TaskTracker,
}

impl Ending {
    pub(crate) fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn create_only(&self, row: &Row, subresource: &str) -> Option<Arc<dyn CreateOnly>> {
        self.create_only
            .iter()
            .find(|(group, resource, sub, _)| row.is(group, resource) && *sub == subresource)
            .map(|(.., c)| c.clone())
    }

    pub(crate) fn connecter(&self, row: &Row) -> Option<Arc<dyn Connecter>> {
        self.connecters
            .iter()
            .find(|(group, resource, _)| row.is(group, resource))
            .map(|(.., c)| c.clone())
    }

    /// Whether new requests are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.ending.draining.is_cancelled()
    }
}

impl ApiServer {
    /// What a server is made of.
    pub fn builder() -> ApiServerBuilder {
        ApiServerBuilder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        let guard = Arc::new(inner.stop.clone().drop_guard());
        ApiServer {
            inner: Arc::new(inner),
            _guard: guard,
        }
    }

    /// A client with this identity, without a socket: what it sends is authorized and admitted as
    /// if it had come over the network. Its default namespace is `default`.
    ///
    /// Must be called within a tokio runtime.
    pub fn client(&self, identity: Identity) -> kube::Client {
        kube::Client::new(self.service(identity), "default")
    }

    /// What [`client`](Self::client) is made of: for those who put layers of their own before it.
    pub fn service(&self, identity: Identity) -> InProcess {
        InProcess {
            server: self.clone(),
            identity,
        }
    }

    /// Answers one request.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        endpoints::serve(self.inner.clone(), request.map(Body::of_request)).await
    }

    /// Shows another identity to the API servers behind it from now on: one whose certificate was renewed. What they know
    /// it by, they have read when the server started.
    pub fn set_front_proxy(&self, identity: FrontProxy) {
        self.inner.aggregation.show(identity);
    }

    /// Says on `/readyz` that the server will stop, so that load balancers send their requests elsewhere. Everything
    /// is still served.
    pub fn announce_shutdown(&self) {
        self.inner.ending.announced.cancel();
    }

    /// Stops serving: `/readyz` fails, new requests for resources are answered with 503, running watches end, and the
    /// requests that are being served are waited for, as long as `grace` at most. Says whether all of them ended.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting alone.
    pub async fn drain(&self, grace: std::time::Duration) -> bool {
        let ending = &self.inner.ending;
        ending.announced.cancel();
        ending.draining.cancel();
        self.inner.registry.caches.wake();
        ending.requests.close();
        tokio::time::timeout(grace, ending.requests.wait())
            .await
            .is_ok()
    }

    /// Stops: running watches end, new requests are answered with 503, and the tasks of the server
    /// are waited for. What was audited until then is written. Requests that are being served fail: to let them
    /// finish, [`drain`](Self::drain) first.
    pub async fn shutdown(&self) {
        self.drain(std::time::Duration::ZERO).await;
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Some(audit) = &self.inner.audit {
            audit.flush().await;
        }
    }
}

impl<B> Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { Ok(endpoints::serve(inner, request.map(Body::of_request)).await) })
    }
}

/// The service below [`ApiServer::client`]: requests of one identity, tunnels too.
#[derive(Clone, Debug)]
pub struct InProcess {
    server: ApiServer,
    identity: Identity,
}

impl Service<Request<kube::client::Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        let server = self.server.clone();
        let identity = self.identity.clone();
        Box::pin(async move {
            if request.headers().contains_key(http::header::UPGRADE) {
                return server.upgrade(request, identity).await;
            }
            request.extensions_mut().insert(identity);
            Ok(server.handle(request).await)
        })
    }
}

impl ApiServer {
    /// A connection that changes its protocol needs one to change: a pipe within the process, with
    /// HTTP/1.1 on it.
    async fn upgrade(
        self,
        request: Request<kube::client::Body>,
        identity: Identity,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (tasks, stop) = (self.inner.tasks.clone(), self.inner.stop.clone());
        let inner = self.inner.clone();
        let service =
            hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(identity.clone());
                let inner = inner.clone();
                async move {
                    Ok::<_, Infallible>(
                        endpoints::serve(inner, request.map(Body::of_request)).await,
                    )
                }
            });
        let serving = stop.clone();
        tasks.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .max_headers(crate::serve::MAX_HEADERS)
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades();
            let _ = serving.run_until_cancelled(connection).await;
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tasks.spawn(async move {
            let _ = stop.run_until_cancelled(connection.with_upgrades()).await;
        });
        Ok(sender
            .send_request(with_host(request))
            .await?
            .map(Body::wrap))
    }
}

/// HTTP/1.1 wants a host.
fn with_host(mut request: Request<kube::client::Body>) -> Request<kube::client::Body> {
    request
        .headers_mut()
        .entry(http::header::HOST)
        .or_insert(http::HeaderValue::from_static("kubernetes.default.svc"));
    request
}

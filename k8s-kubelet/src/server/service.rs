//! [`KubeletService`]: requests to answers.

use std::{
    convert::Infallible,
    io,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use tower::Service;

use super::{
    answer::{self, Refusal},
    checkpoint, configz,
    exec::{self, Wanted},
    logs, metrics, pods, port_forward,
    query::Query,
    resource_metrics, stats, system_logs,
};
use crate::context::Context;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A kubelet's server as a tower service, for use inside of the process. For exec, attach and
/// port-forward the request must carry its [`hyper::upgrade::OnUpgrade`].
#[derive(Clone, Debug)]
pub struct KubeletService {
    cx: Arc<Context>,
}

impl KubeletService {
    pub(crate) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body> {
        self.route(request).await.unwrap_or_else(Into::into)
    }

    async fn route<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let stream = matches!(parts[0], "exec" | "attach" | "portForward");
        let allowed = match *request.method() {
            Method::GET | Method::HEAD => parts[0] != "checkpoint",
            Method::POST => stream || parts[0] == "checkpoint",
            _ => false,
        };
        if !allowed {
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "405: Method Not Allowed",
            ));
        }
        if let (Some(dir), Some(name)) =
            (&self.cx.settings.system_logs, path.strip_prefix("/logs/"))
        {
            return system_logs::answer(dir, name).await;
        }
        match parts.as_slice() {
            ["healthz", ..] => Ok(answer::text(StatusCode::OK, "ok")),
            ["configz"] => Ok(configz::answer(&self.cx)),
            ["pods"] => Ok(answer::json(&pods::list(&self.cx))),
            ["runningpods"] => Ok(answer::json(&pods::running(&self.cx).await?)),
            ["checkpoint", namespace, pod, container] => {
                let query = Query::of(request.uri());
                checkpoint::answer(&self.cx, (namespace, pod, container), &query).await
            }
            ["containerLogs", namespace, pod, container] => {
                logs::answer(
                    &self.cx,
                    namespace,
                    pod,
                    container,
                    &Query::of(request.uri()),
                )
                .await
            }
            // The pod's UID may be part of the path; the name decides.
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                exec::answer(
                    &self.cx,
                    (namespace, pod, container),
                    Wanted::Exec(Vec::new()),
                    request,
                )
                .await
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                exec::answer(
                    &self.cx,
                    (namespace, pod, container),
                    Wanted::Attach,
                    request,
                )
                .await
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                port_forward::answer(&self.cx, namespace, pod, request)
            }
            ["stats", "summary"] => Ok(answer::json(&stats::summary(&self.cx).await?)),
            ["metrics", "resource"] => Ok(answer::text(
                StatusCode::OK,
                resource_metrics::metrics(&self.cx).await,
            )),
            ["metrics"] => Ok(answer::text(
                StatusCode::OK,
                metrics::metrics(&self.cx).await?,
            )),
            _ => Err(Refusal::not_found("404 page not found")),
        }
    }
}

impl<B: Send + 'static> Service<Request<B>> for KubeletService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        async move { Ok(this.answer(request).await) }.boxed()
    }
}

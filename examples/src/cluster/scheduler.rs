//! Where the scheduler tells what it counts: HTTPS at upstream's port, `/metrics` for those who may read it.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use k8s_apiserver::{
    ApiServer,
    auth::PeerCertificates,
    serve::{BindError, Limits, Server, ServerTls, bind, serve},
};
use k8s_scheduler::Metrics;
use serde_json::{Value, json};

/// Upstream's port of kube-scheduler.
const PORT: u16 = 10259;
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// The longest answer to a review, in bytes.
const LONGEST: usize = 1 << 20;

/// The metrics of the scheduler that runs now, if one does.
#[derive(Clone, Debug, Default)]
pub(super) struct Current(Arc<Mutex<Option<Arc<Metrics>>>>);

impl Current {
    pub(super) fn set(&self, metrics: Arc<Metrics>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(metrics);
    }

    fn page(&self) -> String {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|m| m.render()).unwrap_or_default()
    }
}

/// Serves them. Where nobody asked for an address and upstream's is taken, by another cluster for
/// example, nothing is served.
pub(super) async fn serve_metrics(
    address: Option<SocketAddr>,
    server: &ApiServer,
    tls: ServerTls,
    current: Current,
) -> anyhow::Result<Option<Server>> {
    let wanted = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, PORT).into());
    let listener = match bind(wanted).await {
        Ok(listener) => listener,
        Err(BindError::InUse { address: taken }) if address.is_none() => {
            tracing::warn!(address = %taken, "the scheduler's metrics are not served: in use");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (server, current) = (server.clone(), current.clone());
        async move { Ok::<_, Infallible>(answer(&server, &current, &request).await) }
    });
    Ok(Some(serve(
        service,
        vec![listener],
        tls,
        Limits::default(),
    )?))
}

async fn answer(
    server: &ApiServer,
    current: &Current,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, body: String| {
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let value = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, value);
        response
    };
    match request.uri().path() {
        "/healthz" | "/livez" | "/readyz" => text(StatusCode::OK, "ok".into()),
        "/metrics" => match review(server, request).await {
            StatusCode::OK => text(StatusCode::OK, current.page()),
            refused => text(refused, refused.to_string()),
        },
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    }
}

/// Whether the API server, asked with the client's own credentials, lets it read metrics.
async fn review(server: &ApiServer, request: &Request<Incoming>) -> StatusCode {
    let wanted = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}},
    });
    let mut review = Request::new(Full::<Bytes>::from(wanted.to_string()));
    *review.method_mut() = Method::POST;
    *review.uri_mut() = http::Uri::from_static(REVIEWS);
    let json = header::HeaderValue::from_static("application/json");
    review.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(token) = request.headers().get(header::AUTHORIZATION) {
        let name = header::AUTHORIZATION;
        review.headers_mut().insert(name, token.clone());
    }
    if let Some(certificates) = request.extensions().get::<PeerCertificates>() {
        review.extensions_mut().insert(certificates.clone());
    }
    let answer = server.handle(review).await;
    if !answer.status().is_success() {
        // Not known, or not allowed even to ask.
        return answer.status();
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let said: Value = body
        .ok()
        .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok())
        .unwrap_or_default();
    if said["status"]["allowed"] == true {
        StatusCode::OK
    } else {
        StatusCode::FORBIDDEN
    }
}

//! What the whole-system tests share.

pub(crate) mod hooks;
pub(crate) mod wire;

use std::net::Ipv4Addr;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_apiserver::{
    ApiServer,
    auth::Identity,
    http::Body,
    pki::{Pki, ServerNames},
    serve::{self, Limits, Server, ServerTls},
};
use serde_json::{Value, json};

pub(crate) async fn server() -> ApiServer {
    ApiServer::builder().seed(1).build().await.unwrap()
}

pub(crate) fn client(server: &ApiServer) -> kube::Client {
    server.client(Identity::system_masters())
}

/// Serves over TLS, as it is done in a cluster, at a port of its own.
pub(crate) async fn listen(server: &ApiServer, pki: &Pki, limits: Limits) -> Server {
    let names = ServerNames::for_apiserver("cluster.local", None);
    let tls = ServerTls::new(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    serve::serve(server.clone(), vec![socket], tls, limits).unwrap()
}

/// A request as the administrator, and its answer.
pub(crate) async fn send(
    server: &ApiServer,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .extension(Identity::system_masters());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.handle(request.body(body.into()).unwrap()).await
}

pub(crate) async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

pub(crate) async fn call(
    server: &ApiServer,
    method: &str,
    uri: &str,
    body: Value,
) -> (StatusCode, Value) {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (status, text) =
        text(send(server, method, uri, &[("content-type", kind)], body).await).await;
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

pub(crate) async fn get(server: &ApiServer, uri: &str) -> (StatusCode, Value) {
    call(server, "GET", uri, Value::Null).await
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

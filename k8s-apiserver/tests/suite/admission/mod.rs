//! The admission plugins against the whole server: what they refuse, fill in, charge and warn of.

mod certificates;
mod classes;
mod limit_range;
mod pod_security;
mod quotas;
mod steps;

use crate::common::{call, client, get, send, server, text};
use http::StatusCode;
use k8s_apiserver::{
    ApiServer,
    admission::plugins::pod_security::{Exemptions, Level, PodSecurity, Policy},
    auth::Identity,
};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NAMESPACES: &str = "/api/v1/namespaces";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A server with the account that pods need.
async fn ready() -> ApiServer {
    let server = server().await;
    let account = json!({"metadata": {"name": "default"}});
    make(
        &server,
        "/api/v1/namespaces/default/serviceaccounts",
        account,
    )
    .await;
    server
}

async fn make(server: &ApiServer, uri: &str, object: Value) -> Value {
    let (status, made) = call(server, "POST", uri, object).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made
}

async fn refused(server: &ApiServer, uri: &str, object: Value) -> String {
    let (status, answer) = call(server, "POST", uri, object).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

/// The answer's code and warnings.
async fn warned(
    server: &ApiServer,
    method: &str,
    uri: &str,
    object: Value,
) -> (StatusCode, Vec<String>) {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let headers = [("content-type", kind)];
    let response = send(server, method, uri, &headers, object.to_string()).await;
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings
        .map(|value| value.to_str().unwrap().replace("\\\"", "\""))
        .collect();
    let (status, _) = text(response).await;
    (status, warnings)
}

fn pod(name: &str, container: Value) -> Value {
    let mut all = json!({"name": "c", "image": "i"});
    all.as_object_mut()
        .unwrap()
        .extend(container.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": {"containers": [all]}})
}

fn asks(cpu: &str) -> Value {
    json!({"resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}})
}

/// A quota whose controller has already been there.
async fn quota(server: &ApiServer, name: &str, spec: Value) {
    let mut quota = make(
        server,
        QUOTAS,
        json!({"metadata": {"name": name}, "spec": spec}),
    )
    .await;
    let zeros = spec["hard"].as_object().unwrap().keys();
    let zeros: serde_json::Map<String, Value> = zeros.map(|k| (k.clone(), json!("0"))).collect();
    quota["status"] = json!({"hard": spec["hard"], "used": zeros});
    let uri = format!("{QUOTAS}/{name}/status");
    let (status, answer) = call(server, "PUT", &uri, quota).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

async fn used(server: &ApiServer, name: &str) -> Value {
    get(server, &format!("{QUOTAS}/{name}")).await.1["status"]["used"].clone()
}

fn labelled(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

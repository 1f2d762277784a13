//! Checks whether the servers behind are there, and says so in the condition `Available`.
//!
//! Mirrors upstream's `pkg/controllers/status` of kube-aggregator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{join_all, select_ok};
use http::{Response, header};
use http_body_util::{BodyExt, Limited};
use k8s_model::openapi::v2::Foreign;
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Aggregation, GROUP, RESOURCE,
    backend::{Backend, Found, Spec},
};
use crate::{
    Error, Result,
    admission::{follow::Follower, reader::RawEvent},
    http::Body,
    metrics::quoted,
    proxy::{has_endpoint_slices, service_backends},
    registry::{Internal, Registry, update::Rules},
};

/// How often all is checked though nothing has changed.
const RESYNC: Duration = Duration::from_secs(30);
/// How soon what failed is checked again, at first.
const RETRY: Duration = Duration::from_millis(100);
/// How many endpoints are tried at once: one that answers is enough. As upstream.
const ATTEMPTS: usize = 5;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long discovery may be.
const LIMIT: usize = 4 << 20;
/// How long an OpenAPI v2 document may be.
const SPECIFICATION_LIMIT: usize = 16 << 20;

/// The condition `Available`.
struct Condition {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn failed(reason: &'static str, message: String) -> (Condition, Found) {
    let status = "False";
    (
        Condition {
            status,
            reason,
            message,
        },
        Found::default(),
    )
}

/// Checks, whenever something changes that matters, and now and then.
pub(super) async fn run(aggregation: Arc<Aggregation>, registry: Arc<Registry>) {
    let mut services = None;
    let mut retry = RETRY;
    loop {
        let all = aggregation.table.all();
        if services.is_none() && all.iter().any(|b| !b.is_local()) {
            services = Some(follow_services(&aggregation));
        }
        let fine = join_all(all.iter().map(|b| check(&aggregation, &registry, b))).await;
        let again = if fine.iter().all(|fine| *fine) {
            retry = RETRY;
            RESYNC
        } else {
            retry = (retry * 2).min(RESYNC);
            retry
        };
        let changed = aggregation.table.changed.notified();
        if all.iter().all(|b| b.is_local()) {
            changed.await;
        } else {
            let _ = tokio::time::timeout(again, changed).await;
        }
    }
}

/// Changes of Services and their endpoints are a reason to check, if somebody is behind them.
fn follow_services(aggregation: &Aggregation) -> Follower {
    #[derive(Deserialize)]
    struct Head {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        name: String,
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
    }
    let mut follower = Follower::new();
    for (group, resource) in [("", "services"), ("discovery.k8s.io", "endpointslices")] {
        let table = aggregation.table.clone();
        follower.follow(&*aggregation.reader, group, resource, move |event| {
            let matters = match &event {
                RawEvent::Snapshot(_) => true,
                RawEvent::Applied(json) | RawEvent::Deleted(json) => {
                    let head: Result<Head, _> = serde_json::from_slice(json);
                    head.is_ok_and(|Head { metadata: meta }| {
                        let label = meta.labels.get("kubernetes.io/service-name");
                        let service = match group {
                            "" => Some(&meta.name),
                            _ => label,
                        };
                        service.is_some_and(|service| table.uses(&meta.namespace, service))
                    })
                }
            };
            if matters {
                table.changed.notify_one();
            }
        });
    }
    follower
}

/// Whether it is available; or whether nobody can say that in the object now.
async fn check(aggregation: &Aggregation, registry: &Registry, backend: &Backend) -> bool {
    let (condition, found) = look(aggregation, backend).await;
    let fine = condition.status == "True";
    backend.set(found);
    let stored = backend.stored.as_ref();
    let same = stored.is_some_and(|(status, reason, message)| {
        status == condition.status && reason == condition.reason && *message == condition.message
    });
    if same {
        return fine;
    }
    match write(registry, backend, &condition).await {
        Ok(lost) if lost && !fine => {
            let (name, reason) = (quoted(&backend.name), condition.reason);
            aggregation
                .lost
                .count(format!("name=\"{name}\",reason=\"{reason}\""));
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, service = backend.name, "availability cannot be written");
            return false;
        }
    }
    fine
}

async fn look(aggregation: &Aggregation, backend: &Backend) -> (Condition, Found) {
    let Some((namespace, name, port)) = &backend.service else {
        let condition = Condition {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        };
        return (condition, Found::default());
    };
    let unknown = |what: &'static str, error: &dyn std::fmt::Display| {
        let mut answer = failed(
            what,
            format!("service/{name} in {namespace:?} cannot be checked due to: {error}"),
        );
        answer.0.status = "Unknown";
        answer
    };
    let service: Service = match aggregation.reader.get(namespace, name).await {
        Ok(Some(service)) => service,
        Ok(None) => {
            return failed(
                "ServiceNotFound",
                format!("service/{name} in {namespace:?} is not present"),
            );
        }
        Err(error) => return unknown("ServiceAccessError", &error),
    };
    let spec = service.spec.unwrap_or_default();
    if spec.type_.as_deref().unwrap_or("ClusterIP") == "ClusterIP" {
        let ports = spec.ports.unwrap_or_default();
        let Some(found) = ports.into_iter().find(|p| p.port == i32::from(*port)) else {
            return failed(
                "ServicePortError",
                format!("service/{name} in {namespace:?} is not listening on port {port}"),
            );
        };
        let port_name = found.name.unwrap_or_default();
        match service_backends(&*aggregation.reader, namespace, name, &port_name).await {
            Ok(all) if all.is_empty() => {
                match has_endpoint_slices(&*aggregation.reader, namespace, name).await {
                    Ok(true) => {}
                    Ok(false) => {
                        return failed(
                            "EndpointsNotFound",
                            format!(
                                "cannot find endpointslices for service/{name} in {namespace:?}"
                            ),
                        );
                    }
                    Err(error) => return unknown("EndpointsAccessError", &error),
                }
                return failed(
                    "MissingEndpoints",
                    format!(
                        "endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
                    ),
                );
            }
            Ok(_) => {}
            Err(error) => return unknown("EndpointsAccessError", &error),
        }
    }
    match discover(aggregation, backend).await {
        Ok(found) => {
            let condition = Condition {
                status: "True",
                reason: "Passed",
                message: "all checks passed".to_owned(),
            };
            (condition, found)
        }
        Err(error) => {
            let url = format!("https://{}:{port}{}", backend.server_name(), backend.path());
            failed(
                "FailedDiscoveryCheck",
                format!("failing or missing response from {url}: {error}"),
            )
        }
    }
}

/// The first that is fine of several tries, each of which may come to another endpoint; or else the last failure.
async fn first<T, F: Future<Output = Result<T, String>>>(
    attempt: impl Fn() -> F,
) -> Result<T, String> {
    let tries = (0..ATTEMPTS).map(|_| Box::pin(attempt()));
    select_ok(tries).await.map(|(found, _)| found)
}

/// Reads discovery and where OpenAPI is. Only discovery is a must.
async fn discover(aggregation: &Aggregation, backend: &Backend) -> Result<Found, String> {
    let path = backend.path();
    let resources = first(|| fetch(aggregation, backend, &path)).await?;
    let openapi = fetch(aggregation, backend, "/openapi/v3").await.ok();
    let openapi = openapi.and_then(|index| {
        let entry = &index["paths"][path.trim_start_matches('/')];
        entry["serverRelativeURL"].as_str().map(str::to_owned)
    });
    Ok(Found {
        available: true,
        resources: Some(resources),
        openapi,
        spec: specification(aggregation, backend).await,
    })
}

/// The OpenAPI v2 document, if it is another than before.
async fn specification(aggregation: &Aggregation, backend: &Backend) -> Option<Arc<Spec>> {
    const PATH: &str = "/openapi/v2";
    let before = backend.found().spec;
    let known = before.as_ref().map(|spec| spec.tag.as_str());
    let read = async {
        let response = aggregation.ask(backend, PATH, known).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let tag = response.headers().get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = collect(response, SPECIFICATION_LIMIT).await.ok()?;
        let tag = tag.unwrap_or_else(|| {
            let digest = Sha256::digest(&body);
            digest.iter().map(|b| format!("{b:02X}")).collect()
        });
        if known == Some(&tag) {
            return None;
        }
        let document = serde_json::from_slice(&body).ok()?;
        let document = Foreign::new(document);
        Some(Arc::new(Spec { tag, document }))
    };
    tokio::time::timeout(TIMEOUT, read).await.ok()?
}

async fn fetch(aggregation: &Aggregation, backend: &Backend, path: &str) -> Result<Value, String> {
    let answer = async {
        let response = aggregation
            .ask(backend, path, None)
            .await
            .map_err(|e| e.to_string())?;
        let status = response.status();
        let body = collect(response, LIMIT).await?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(match status.as_u16() {
                503 => text.trim_end().to_owned(),
                code => format!("bad status from {path}: {code}"),
            });
        }
        serde_json::from_slice(&body).map_err(|e| e.to_string())
    };
    tokio::time::timeout(TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
}

async fn collect(response: Response<Body>, limit: usize) -> Result<Vec<u8>, String> {
    Limited::new(response.into_body(), limit)
        .collect()
        .await
        .map(|body| body.to_bytes().to_vec())
        .map_err(|e| e.to_string())
}

/// Writes the condition. Whether nobody said before that it is unavailable: what was seen of it may be older than what is
/// written already.
async fn write(registry: &Registry, backend: &Backend, condition: &Condition) -> Result<bool> {
    let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
        return Ok(false);
    };
    let was_lost = AtomicBool::new(false);
    let internal = Internal::new();
    let target = internal.status(&row, &backend.name);
    let now = registry.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let change = |old: &dyn k8s_model::Object| {
        let mut value = old.to_value();
        let conditions = &mut value["status"]["conditions"];
        let mut all = conditions.as_array().cloned().unwrap_or_default();
        let before = all.iter().position(|c| c["type"] == "Available");
        let before = before.map(|at| all.remove(at));
        let is_lost = before.as_ref().is_some_and(|c| c["status"] != "True");
        was_lost.store(is_lost, Ordering::Relaxed);
        let since = before
            .filter(|c| c["status"] == condition.status)
            .and_then(|c| c["lastTransitionTime"].as_str().map(str::to_owned));
        all.push(json!({
            "type": "Available",
            "status": condition.status,
            "lastTransitionTime": since.as_deref().unwrap_or(&now),
            "reason": condition.reason,
            "message": condition.message,
        }));
        *conditions = all.into();
        (row.resource.codec.from_value)(value, &mut |_| {}).map_err(Error::internal)
    };
    match registry.update(&target, Rules::Status, change).await {
        // It was deleted in the meantime.
        Err(error) if error.code() == 404 => Ok(false),
        other => other.map(|_| !was_lost.into_inner()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn one_endpoint_that_answers_is_enough() {
        for (good, wanted) in [
            (ATTEMPTS, Ok(5)),
            (2, Ok(2)),
            (ATTEMPTS + 1, Err("none".to_owned())),
        ] {
            let tried = Cell::new(0);
            let found = first(|| {
                tried.set(tried.get() + 1);
                let number = tried.get();
                async move {
                    (number == good)
                        .then_some(number)
                        .ok_or_else(|| "none".to_owned())
                }
            });
            assert_eq!(found.await, wanted);
            assert_eq!(tried.get(), ATTEMPTS);
        }
    }
}

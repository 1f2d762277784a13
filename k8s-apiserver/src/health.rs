//! `/healthz`, `/livez` and `/readyz`.

use http::{Response, StatusCode};

use crate::{
    endpoints::Call,
    http::{Body, response, uri},
};

/// The checks, by upstream's names. The store's is called `etcd` there.
const CHECKS: [&str; 4] = ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles"];
/// Only readiness ends when the server begins to shut down.
const SHUTDOWN: &str = "shutdown";

pub(crate) async fn serve(call: &Call, kind: &str, one: &str) -> Response<Body> {
    let query = call.parts.uri.query();
    let excluded: Vec<String> = uri::query_pairs(query)
        .filter(|(k, _)| k == "exclude")
        .map(|(_, v)| v.into_owned())
        .collect();
    let verbose = uri::query_value(query, "verbose").is_some();
    let checks: Vec<&str> = CHECKS
        .iter()
        .copied()
        .chain((kind == "/readyz").then_some(SHUTDOWN))
        .collect();
    if !one.is_empty() {
        if !checks.contains(&one) {
            return response::page_not_found();
        }
        return match check(call, one).await {
            Ok(()) => response::text(StatusCode::OK, "ok"),
            Err(reason) => response::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {reason}\n"),
            ),
        };
    }
    let mut out = String::new();
    let mut failed = Vec::new();
    for name in checks {
        if excluded.iter().any(|e| e == name) {
            out.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check(call, name).await {
            Ok(()) => out.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                tracing::info!(check = name, reason, "health check failed");
                out.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(name);
            }
        }
    }
    let name = kind.trim_start_matches('/');
    if !failed.is_empty() {
        return response::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{out}{name} check failed\n"),
        );
    }
    if verbose {
        return response::text(StatusCode::OK, format!("{out}{name} check passed\n"));
    }
    response::text(StatusCode::OK, "ok")
}

async fn check(call: &Call, name: &str) -> Result<(), String> {
    match name {
        "etcd" => call
            .server
            .registry
            .store
            .revision()
            .await
            .map(drop)
            .map_err(|e| e.to_string()),
        SHUTDOWN if call.server.is_stopping() => Err("process is shutting down".into()),
        _ => Ok(()),
    }
}

//! `/healthz`, `/livez` and `/readyz`; what came of their checks is at `/metrics/slis` (KEP-3466).

use std::collections::BTreeMap;

use http::{Response, StatusCode};

use parking_lot::Mutex;

use crate::{
    components,
    endpoints::Call,
    http::{Body, response, uri},
    metrics::Writer,
};

/// The checks, by upstream's names and in its order. The store's is called `etcd` there. What a server does before it
/// serves has succeeded once it does; names that upstream has dropped since stay for those who ask for them.
const CHECKS: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "poststarthook/start-apiserver-admission-initializer",
    // Before 1.29.
    "poststarthook/start-kube-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    // Before 1.31, for both.
    "poststarthook/apiservice-status-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-wait-for-first-sync",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];
/// What readiness asks besides.
const READY: [&str; 3] = ["etcd-readiness", "informer-sync", SHUTDOWN];
const SHUTDOWN: &str = "shutdown";

/// The names of the checks of `/healthz`, `/livez` or `/readyz`.
pub(crate) fn checks(kind: &str) -> impl Iterator<Item = &'static str> {
    let more = if kind == "/readyz" { &READY[..] } else { &[] };
    CHECKS.iter().chain(more).copied()
}

pub(crate) async fn serve(call: &Call, kind: &str, one: &str) -> Response<Body> {
    let query = call.parts.uri.query();
    let mut excluded: Vec<String> = uri::query_pairs(query)
        .filter(|(k, _)| k == "exclude")
        .map(|(_, v)| v.into_owned())
        .collect();
    let verbose = uri::query_value(query, "verbose").is_some();
    if !one.is_empty() {
        if !checks(kind).any(|name| name == one) {
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
    for name in checks(kind) {
        if excluded.iter().any(|e| e == name) {
            excluded.retain(|e| e != name);
            out.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        let outcome = check(call, name).await;
        call.server.checked.observe(kind, name, outcome.is_ok());
        match outcome {
            Ok(()) => out.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                tracing::info!(check = name, reason, "health check failed");
                out.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(name);
            }
        }
    }
    if !excluded.is_empty() {
        excluded.sort();
        excluded.dedup();
        let unknown: Vec<String> = excluded.iter().map(|e| format!("{e:?}")).collect();
        out.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
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

/// What came of the checks, by their names and by what was asked.
#[derive(Debug, Default)]
pub(crate) struct Results(Mutex<BTreeMap<(&'static str, String), Outcomes>>);

#[derive(Debug, Default)]
struct Outcomes {
    /// Of the last.
    is_good: bool,
    good: u64,
    bad: u64,
}

impl Results {
    fn observe(&self, kind: &str, name: &'static str, is_good: bool) {
        let kind = kind.trim_start_matches('/').to_owned();
        let mut all = self.0.lock();
        let outcomes = all.entry((name, kind)).or_default();
        outcomes.is_good = is_good;
        *(if is_good {
            &mut outcomes.good
        } else {
            &mut outcomes.bad
        }) += 1;
    }

    /// The page of `/metrics/slis`.
    pub(crate) fn page(&self) -> String {
        let all = self.0.lock();
        let mut out = Writer::default();
        if all.is_empty() {
            return out.finish();
        }
        out.family(
            "kubernetes_healthcheck",
            "gauge",
            "[STABLE] This metric records the result of a single healthcheck.",
        );
        for ((name, kind), outcomes) in &*all {
            let labels = format!("name=\"{name}\",type=\"{kind}\"");
            out.sample("", &labels, f64::from(u8::from(outcomes.is_good)));
        }
        out.family(
            "kubernetes_healthchecks_total",
            "counter",
            "[STABLE] This metric records the results of all healthcheck.",
        );
        for ((name, kind), outcomes) in &*all {
            for (status, count) in [("error", outcomes.bad), ("success", outcomes.good)] {
                if count > 0 {
                    let labels = format!("name=\"{name}\",status=\"{status}\",type=\"{kind}\"");
                    out.sample("", &labels, count as f64);
                }
            }
        }
        out.finish()
    }
}

async fn check(call: &Call, name: &str) -> Result<(), String> {
    match name {
        "etcd" | "etcd-readiness" => components::store(&call.server.registry).await,
        SHUTDOWN if call.server.ending.is_announced() => Err("process is shutting down".into()),
        _ => Ok(()),
    }
}

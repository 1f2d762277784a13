//! What `/metrics` tells, under upstream's names, in Prometheus' text format.
//!
//! Each part of the server counts what it does; this writes it down when somebody asks. What is counted on the way of
//! every request is a handful of atomic additions.

mod attempts;
mod histogram;
mod labelled;
mod process;
mod requests;
mod server;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use self::process::Process;
pub(crate) use self::{
    attempts::{Attempts, Outcome},
    histogram::Histogram,
    labelled::{Counts, Timings},
    requests::{Label, Requests},
    server::{hashed, server_hash},
    writer::{Writer, quoted},
};
use crate::server::Inner;

/// How long the store is asked. The page is wanted most when there is no answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// More metrics for the page: text in Prometheus' format.
pub(crate) type More = Arc<dyn Fn() -> String + Send + Sync>;

/// What is counted about requests before it is known what they are about.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) authentication: Attempts,
    pub(crate) authorization: Attempts,
    pub(crate) more: Vec<More>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The whole page.
pub(crate) async fn page(server: &Inner) -> String {
    let mut out = Writer::default();
    let metrics = &server.metrics;
    server.registry.requests.write(&mut out);
    let (reading, mutating) = server.flow.in_flight();
    out.family(
        "apiserver_current_inflight_requests",
        "gauge",
        "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
    );
    out.sample("", "request_kind=\"mutating\"", mutating as f64);
    out.sample("", "request_kind=\"readOnly\"", reading as f64);
    server.flow.write(&mut out);
    metrics.authentication.write(
        &mut out,
        (
            "authentication_attempts",
            "[ALPHA] Counter of authenticated attempts.",
        ),
        (
            "authentication_duration_seconds",
            "[ALPHA] Authentication duration in seconds broken out by result.",
        ),
        &["success", "failure", "error"],
    );
    metrics.authorization.write(
        &mut out,
        ("authorization_attempts_total", "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'."),
        ("authorization_duration_seconds", "[ALPHA] Authorization duration in seconds broken out by result."),
        &["allowed", "denied", "no-opinion", "error"],
    );
    server.impersonation.write_metrics(&mut out);
    server.tokens.write_metrics(&mut out);
    server.aggregation.write_metrics(&mut out);
    server.registry.admission_metrics.write(&mut out);
    if let Some(audit) = &server.audit {
        audit.write_metrics(&mut out);
    }
    stored(server, &mut out).await;
    let info = crate::version::info();
    out.family(
        "kubernetes_build_info",
        "gauge",
        "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
    );
    let labels = [
        ("build_date", info.build_date),
        ("compiler", info.compiler),
        ("git_commit", info.git_commit),
        ("git_tree_state", info.git_tree_state),
        ("git_version", &info.git_version),
        ("go_version", info.go_version),
        ("major", info.major),
        ("minor", &info.minor),
        ("platform", &info.platform),
    ];
    let labels = labels.map(|(name, said)| format!("{name}=\"{}\"", quoted(said)));
    out.sample("", &labels.join(","), 1.0);
    if let Some(process) = Process::read() {
        process.write(&mut out);
    }
    let mut text = out.finish();
    for (_, _, connecter) in &server.connecters {
        text.push_str(&connecter.metrics());
    }
    for more in &metrics.more {
        text.push_str(&more());
    }
    text
}

/// What is in the store, as far as it says so in time.
async fn stored(server: &Inner, out: &mut Writer) {
    let registry = &server.registry;
    let until = Instant::now() + PATIENCE;
    let counts = timeout_at(until, crate::flow::count(registry)).await;
    objects(server, &counts.unwrap_or_default(), out);
    let in_use = timeout_at(until, registry.services.in_use(registry)).await;
    let in_use = in_use.ok().and_then(Result::ok).flatten();
    registry.services.write_metrics(in_use, out);
}

/// How many objects are stored.
fn objects(server: &Inner, counts: &HashMap<String, Option<usize>>, out: &mut Writer) {
    let served = server.registry.served.load_full();
    let mut rows: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for row in served.rows().filter(|row| row.resource.is_stored()) {
        let named = (row.resource.group, row.resource.resource);
        rows.entry(&row.prefix).or_insert(named);
    }
    let count = |prefix: &str| match counts.get(prefix) {
        Some(Some(count)) => *count as f64,
        // Nobody knows.
        Some(None) | None => -1.0,
    };
    out.family(
        "apiserver_storage_objects",
        "gauge",
        "[STABLE] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
    );
    for (prefix, (group, resource)) in &rows {
        let resource = match *group {
            "" => (*resource).to_owned(),
            group => format!("{resource}.{group}"),
        };
        out.sample("", &format!("resource=\"{resource}\""), count(prefix));
    }
    out.family(
        "apiserver_resource_objects",
        "gauge",
        "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
    );
    for (prefix, (group, resource)) in &rows {
        let labels = format!("group=\"{group}\",resource=\"{resource}\"");
        out.sample("", &labels, count(prefix));
    }
    out.family(
        "apiserver_storage_decode_errors_total",
        "counter",
        "[ALPHA] Number of stored object decode errors split by object type",
    );
    for (prefix, failures) in server.registry.caches.failures() {
        if let Some((group, resource)) = rows.get(prefix.as_str()) {
            let labels = format!("group=\"{group}\",resource=\"{resource}\"");
            out.sample("", &labels, failures as f64);
        }
    }
}

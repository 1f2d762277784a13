//! Configuration files that are read again when they change.

use std::{
    fmt::Display,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

use crate::metrics::{Writer, server_hash};

/// How often files are looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// Why what a file says now does not count.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It never will: only another change is a reason to look again.
    Never(String),
    /// It may, the next time.
    NotYet(String),
}

/// Takes over what a file says.
#[async_trait]
pub(crate) trait Reload: Send + 'static {
    /// Takes over what the file says now, or leaves all as it was.
    async fn reload(&mut self, text: &str) -> Result<(), Refusal>;
}

/// How often a file was taken over, and how often not.
#[derive(Debug)]
pub(crate) struct Reloads {
    /// What it configures: `authentication` or `authorization`.
    what: &'static str,
    done: [Done; 2],
}

#[derive(Debug, Default)]
struct Done {
    count: AtomicU64,
    /// Seconds since 1970.
    last: AtomicU64,
}

impl Reloads {
    pub(crate) fn of(what: &'static str) -> Arc<Self> {
        Arc::new(Reloads {
            what,
            done: Default::default(),
        })
    }

    fn count(&self, success: bool) {
        let done = &self.done[usize::from(!success)];
        done.count.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        done.last.store(now, Ordering::Relaxed);
    }

    fn fail(&self, what: &str, error: &dyn Display) {
        tracing::error!(%error, "failed to {what} {} config", self.what);
        self.count(false);
    }

    /// Under upstream's names, in Prometheus' format.
    pub(crate) fn text(&self) -> String {
        let mut out = Writer::default();
        let prefix = format!("apiserver_{}_config_controller_automatic", self.what);
        let mut write = |name: &str, kind: &str, help: &str, value: fn(&Done) -> &AtomicU64| {
            let help = format!(
                "[ALPHA] {help} of {} configuration split by status and apiserver identity.",
                self.what
            );
            out.family(&format!("{prefix}_{name}"), kind, &help);
            for (status, done) in ["success", "failure"].iter().zip(&self.done) {
                let value = value(done).load(Ordering::Relaxed);
                if value > 0 {
                    let server = server_hash();
                    let labels = format!("apiserver_id_hash=\"{server}\",status=\"{status}\"");
                    out.sample("", &labels, value as f64);
                }
            }
        };
        write(
            "reloads_total",
            "counter",
            "Total number of automatic reloads",
            |done| &done.count,
        );
        write(
            "reload_last_timestamp_seconds",
            "gauge",
            "Timestamp of the last automatic reload",
            |done| &done.last,
        );
        out.finish()
    }
}

/// Looks at a file, whose contents were `seen`, for ever.
pub(crate) async fn follow(
    period: Duration,
    path: PathBuf,
    mut seen: String,
    reloads: Arc<Reloads>,
    mut reload: impl Reload,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) if text == seen => continue,
            // Half written.
            Ok(text) if text.trim().is_empty() => {
                reloads.fail("load", &"it is empty");
                continue;
            }
            Ok(text) => text,
            Err(error) => {
                reloads.fail("read", &error);
                continue;
            }
        };
        match reload.reload(&text).await {
            Ok(()) => {
                tracing::info!("reloaded {} config", reloads.what);
                reloads.count(true);
                seen = text;
            }
            Err(Refusal::Never(error)) => {
                reloads.fail("validate", &error);
                seen = text;
            }
            Err(Refusal::NotYet(error)) => reloads.fail("update", &error),
        }
    }
}

//! [`ConfiguredTokens`]: the issuers of a file, which is read again when it changes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::{Anonymous, AuthenticationConfiguration, AuthenticationConfigurationError};
use crate::{
    auth::{AuthenticationError, Authenticator, Identity, OidcTokens, token::bearer},
    metrics::Writer,
};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the providers of a new configuration may take to give their keys.
const READY: Duration = Duration::from_secs(60);

/// Knows the bearers of tokens of the issuers that a file with an [`AuthenticationConfiguration`] names.
///
/// The file is looked at every five seconds. A change counts once it is valid and the keys of all its issuers could
/// be fetched; until then, and if it never is, what was there before goes on. Who may come without credentials
/// cannot be changed that way.
#[derive(Debug)]
pub struct ConfiguredTokens {
    current: Arc<Current>,
    anonymous: Option<Anonymous>,
    _watching: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Current {
    issuers: ArcSwap<Vec<OidcTokens>>,
    reloads: [Reloads; 2],
}

#[derive(Debug, Default)]
struct Reloads {
    count: AtomicU64,
    /// Seconds since 1970.
    last: AtomicU64,
}

impl ConfiguredTokens {
    /// Reads the file, and follows it in a task that ends when the value is dropped. `disallowed_issuers` are those
    /// whose tokens are checked elsewhere: that of service accounts.
    ///
    /// # Errors
    /// If the file cannot be read, or is not valid. Providers are asked later.
    pub fn from_file(
        path: &Path,
        disallowed_issuers: &[&str],
    ) -> Result<Self, AuthenticationConfigurationError> {
        Self::looking_every(PERIOD, path, disallowed_issuers)
    }

    pub(super) fn looking_every(
        period: Duration,
        path: &Path,
        disallowed_issuers: &[&str],
    ) -> Result<Self, AuthenticationConfigurationError> {
        let text = std::fs::read_to_string(path)?;
        let configuration = AuthenticationConfiguration::parse(&text, disallowed_issuers)?;
        let current = Arc::new(Current {
            issuers: ArcSwap::from_pointee(authenticators(&configuration)?),
            reloads: Default::default(),
        });
        let follower = Follower {
            path: path.to_owned(),
            disallowed: disallowed_issuers.iter().map(|i| (*i).to_owned()).collect(),
            anonymous: configuration.anonymous.clone(),
            seen: text,
            current: current.clone(),
        };
        Ok(ConfiguredTokens {
            current,
            anonymous: configuration.anonymous,
            _watching: AbortOnDropHandle::new(tokio::spawn(follower.run(period))),
        })
    }

    /// What the file says of requests without credentials.
    pub fn anonymous(&self) -> Option<&Anonymous> {
        self.anonymous.as_ref()
    }

    /// How often the file was read again, under upstream's names in Prometheus' format.
    pub fn metrics(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let current = self.current.clone();
        move || {
            let mut out = Writer::default();
            let each = || ["success", "failure"].iter().zip(&current.reloads);
            out.family(
                "apiserver_authentication_config_controller_automatic_reloads_total",
                "counter",
                "[ALPHA] Total number of automatic reloads of authentication configuration split by status and apiserver identity.",
            );
            for (status, reloads) in each() {
                let count = reloads.count.load(Ordering::Relaxed);
                if count > 0 {
                    out.sample("", &format!("status=\"{status}\""), count as f64);
                }
            }
            out.family(
                "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
                "gauge",
                "[ALPHA] Timestamp of the last automatic reload of authentication configuration split by status and apiserver identity.",
            );
            for (status, reloads) in each() {
                let last = reloads.last.load(Ordering::Relaxed);
                if last > 0 {
                    out.sample("", &format!("status=\"{status}\""), last as f64);
                }
            }
            out.finish()
        }
    }
}

fn authenticators(
    configuration: &AuthenticationConfiguration,
) -> Result<Vec<OidcTokens>, AuthenticationConfigurationError> {
    let issuers = configuration.jwt.iter();
    issuers
        .map(|issuer| {
            OidcTokens::new(issuer.clone())
                .map_err(|e| AuthenticationConfigurationError::Invalid(e.to_string()))
        })
        .collect()
}

struct Follower {
    path: PathBuf,
    disallowed: Vec<String>,
    anonymous: Option<Anonymous>,
    /// What was there when the file last counted, or was found never to.
    seen: String,
    current: Arc<Current>,
}

impl Follower {
    async fn run(mut self, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let text = match tokio::fs::read_to_string(&self.path).await {
                Ok(text) if text == self.seen => continue,
                Ok(text) if text.trim().is_empty() => {
                    // Half written.
                    tracing::error!("the authentication configuration is empty");
                    self.count(1);
                    continue;
                }
                Ok(text) => text,
                Err(error) => {
                    tracing::error!(%error, "failed to read authentication config");
                    self.count(1);
                    continue;
                }
            };
            self.take(text).await;
        }
    }

    async fn take(&mut self, text: String) {
        let disallowed: Vec<&str> = self.disallowed.iter().map(String::as_str).collect();
        let issuers = AuthenticationConfiguration::parse(&text, &disallowed).and_then(|read| {
            if read.anonymous != self.anonymous {
                let text = "anonymous: Forbidden: changed from initial configuration file";
                return Err(AuthenticationConfigurationError::Invalid(text.to_owned()));
            }
            authenticators(&read)
        });
        let issuers = match issuers {
            Ok(issuers) => issuers,
            Err(error) => {
                tracing::error!(%error, "failed to validate authentication config");
                self.count(1);
                // It never will be valid.
                self.seen = text;
                return;
            }
        };
        let ready = futures::future::try_join_all(issuers.iter().map(OidcTokens::fetch_keys));
        match tokio::time::timeout(READY, ready).await {
            Ok(Ok(_)) => {}
            // The next look tries again.
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to update authentication config");
                return self.count(1);
            }
            Err(_) => {
                tracing::error!(
                    "failed to update authentication config: its issuers take too long"
                );
                return self.count(1);
            }
        }
        self.current.issuers.store(Arc::new(issuers));
        self.seen = text;
        tracing::info!("reloaded authentication config");
        self.count(0);
    }

    fn count(&self, at: usize) {
        let reloads = &self.current.reloads[at];
        reloads.count.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        reloads.last.store(now, Ordering::Relaxed);
    }
}

#[async_trait]
impl Authenticator for ConfiguredTokens {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        let Some(token) = bearer(&parts.headers) else {
            return Ok(None);
        };
        // Each issuer has tokens of its own.
        for issuer in self.current.issuers.load_full().iter() {
            if let Some(identity) = issuer.verify(token).await? {
                return Ok(Some(identity));
            }
        }
        Ok(None)
    }
}

//! [`ConfiguredTokens`]: the issuers of a file, which is read again when it changes.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::{Anonymous, AuthenticationConfiguration, AuthenticationConfigurationError};
use crate::{
    auth::{
        AuthenticationError, Identity, OidcTokens, TokenAuthenticator, oidc::metrics::JwtMetrics,
    },
    reload::{PERIOD, Refusal, Reload, Reloads, follow},
};

/// How long the providers of a new configuration may take to give their keys.
const READY: Duration = Duration::from_secs(60);

type Issuers = Arc<ArcSwap<Vec<OidcTokens>>>;

/// Knows the bearers of tokens of the issuers that a file with an [`AuthenticationConfiguration`] names.
///
/// The file is looked at every five seconds. A change counts once it is valid and the keys of all its issuers could
/// be fetched; until then, and if it never is, what was there before goes on. Who may come without credentials
/// cannot be changed that way.
#[derive(Debug)]
pub struct ConfiguredTokens {
    issuers: Issuers,
    anonymous: Option<Anonymous>,
    reloads: Arc<Reloads>,
    metrics: Arc<JwtMetrics>,
    _watching: AbortOnDropHandle<()>,
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
        let metrics: Arc<JwtMetrics> = Arc::default();
        let issuers = authenticators(&configuration, &metrics)?;
        let issuers: Issuers = Arc::new(ArcSwap::from_pointee(issuers));
        let again = Again {
            disallowed: disallowed_issuers.iter().map(|i| (*i).to_owned()).collect(),
            anonymous: configuration.anonymous.clone(),
            issuers: issuers.clone(),
            metrics: metrics.clone(),
        };
        let reloads = Reloads::of("authentication");
        let following = follow(period, path.to_owned(), text, reloads.clone(), again);
        Ok(ConfiguredTokens {
            issuers,
            anonymous: configuration.anonymous,
            reloads,
            metrics,
            _watching: AbortOnDropHandle::new(tokio::spawn(following)),
        })
    }

    /// What the file says of requests without credentials.
    pub fn anonymous(&self) -> Option<&Anonymous> {
        self.anonymous.as_ref()
    }

    /// How often the file was read again, how long tokens take and when keys were fetched, under upstream's names in
    /// Prometheus' format.
    pub fn metrics(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let (reloads, metrics) = (self.reloads.clone(), self.metrics.clone());
        move || reloads.text() + &metrics.text()
    }
}

fn authenticators(
    configuration: &AuthenticationConfiguration,
    metrics: &Arc<JwtMetrics>,
) -> Result<Vec<OidcTokens>, AuthenticationConfigurationError> {
    let issuers = configuration.jwt.iter();
    issuers
        .map(|issuer| {
            OidcTokens::measured(issuer.clone(), metrics.clone())
                .map_err(|e| AuthenticationConfigurationError::Invalid(e.to_string()))
        })
        .collect()
}

struct Again {
    disallowed: Vec<String>,
    anonymous: Option<Anonymous>,
    issuers: Issuers,
    metrics: Arc<JwtMetrics>,
}

#[async_trait]
impl Reload for Again {
    async fn reload(&mut self, text: &str) -> Result<(), Refusal> {
        let disallowed: Vec<&str> = self.disallowed.iter().map(String::as_str).collect();
        let never = |error: AuthenticationConfigurationError| Refusal::Never(error.to_string());
        let read = AuthenticationConfiguration::parse(text, &disallowed).map_err(never)?;
        if read.anonymous != self.anonymous {
            let text = "anonymous: Forbidden: changed from initial configuration file";
            return Err(Refusal::Never(text.to_owned()));
        }
        let issuers = authenticators(&read, &self.metrics).map_err(never)?;
        let ready = futures::future::try_join_all(issuers.iter().map(OidcTokens::fetch_keys));
        match tokio::time::timeout(READY, ready).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Refusal::NotYet(error.to_string())),
            Err(_) => return Err(Refusal::NotYet("its issuers take too long".to_owned())),
        }
        self.issuers.store(Arc::new(issuers));
        let urls: Vec<&str> = read.jwt.iter().map(|issuer| issuer.url()).collect();
        self.metrics.keep(&urls);
        Ok(())
    }
}

#[async_trait]
impl TokenAuthenticator for ConfiguredTokens {
    async fn authenticate_token(
        &self,
        token: &str,
    ) -> Result<Option<Identity>, AuthenticationError> {
        // Each issuer has tokens of its own.
        for issuer in self.issuers.load_full().iter() {
            if let Some(identity) = issuer.verify(token).await? {
                return Ok(Some(identity));
            }
        }
        Ok(None)
    }
}

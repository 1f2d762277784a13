//! Tokens of an OpenID Connect provider.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens>.

mod distributed;
mod key;
pub(super) mod mapping;
pub(super) mod metrics;
mod options;
pub(super) mod provider;

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

pub use self::options::{JwtIssuer, OidcError, OidcOptions, SigningAlgorithm};
use self::{
    distributed::DistributedClaims,
    key::Header,
    mapping::Source,
    metrics::JwtMetrics,
    provider::{Provider, location},
};
use super::{AuthenticationError, Identity, TokenAuthenticator};

/// How far ahead of this machine's the provider's clock may be.
const NOT_BEFORE_LEEWAY: u64 = 300;

/// Knows the bearers of tokens that an OpenID Connect provider has signed. Its keys are fetched when they are first
/// needed, and again when a token is signed by another.
///
/// A token whose groups are elsewhere (distributed claims) says where: they are fetched from there, over TLS, and must be
/// signed as tokens are.
pub struct OidcTokens {
    issuer: JwtIssuer,
    provider: Provider,
    distributed: Option<DistributedClaims>,
    metrics: Arc<JwtMetrics>,
}

impl std::fmt::Debug for OidcTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcTokens")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

fn invalid(text: impl std::fmt::Display) -> AuthenticationError {
    AuthenticationError::Invalid(format!("oidc: {text}"))
}

impl OidcTokens {
    /// Takes tokens as the options say, or as an issuer of a configuration file. Asks nobody yet.
    ///
    /// # Errors
    /// If the issuer has no `https` URL, or the authority is of no use.
    pub fn new(issuer: impl Into<JwtIssuer>) -> Result<Self, OidcError> {
        Self::measured(issuer.into(), Arc::default())
    }

    /// Measures there.
    pub(super) fn measured(issuer: JwtIssuer, metrics: Arc<JwtMetrics>) -> Result<Self, OidcError> {
        if location(&issuer.url).is_none() {
            return Err(OidcError::Issuer(issuer.url));
        }
        let provider = Provider::new(&issuer.url, &issuer.discovery_url, &issuer.ca)?;
        let provider = provider.measured(metrics.clone());
        let distributed = match &issuer.mapping.groups {
            Some(Source::Claim { claim, .. }) => Some(DistributedClaims::new(claim)),
            _ => None,
        };
        Ok(OidcTokens {
            issuer,
            provider,
            distributed,
            metrics,
        })
    }

    /// How long tokens take, and when keys were fetched, under upstream's names in Prometheus' format.
    pub fn metrics(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let metrics = self.metrics.clone();
        move || metrics.text()
    }

    /// Fetches the provider's keys now, so that the first token need not wait for them.
    ///
    /// # Errors
    /// If they cannot be fetched.
    pub async fn fetch_keys(&self) -> Result<(), AuthenticationError> {
        self.provider.refresh().await
    }

    /// Who the bearer of the token is; `None` if it is not one of the issuer's.
    ///
    /// # Errors
    /// If it isn't good, and for what reason; or if the keys cannot be fetched.
    pub async fn verify(&self, token: &str) -> Result<Option<Identity>, AuthenticationError> {
        let url = self.issuer.url.as_str();
        if unverified_issuer(token).as_deref() != Some(url) {
            return Ok(None);
        }
        let started = tokio::time::Instant::now();
        let found = self.identity(token).await;
        self.metrics.checked(url, found.is_ok(), started.elapsed());
        found.map(Some)
    }

    async fn identity(&self, token: &str) -> Result<Identity, AuthenticationError> {
        let issuer = &self.issuer;
        let mut claims = self.signed(&self.provider, &issuer.url, token).await?;
        if let Some(distributed) = &self.distributed {
            distributed
                .expand(self, &mut claims)
                .await
                .map_err(|e| invalid(format_args!("could not expand distributed claims: {e}")))?;
        }
        issuer.mapping.identity(claims).map_err(invalid)
    }

    /// The claims of a token that the issuer has signed, by keys of that provider, for the same audiences.
    async fn signed(
        &self,
        provider: &Provider,
        url: &str,
        token: &str,
    ) -> Result<Map<String, Value>, AuthenticationError> {
        let issuer = &self.issuer;
        let verify = |text: String| invalid(format_args!("verify token: {text}"));
        let header = Header::of(token).ok_or_else(|| verify("malformed jwt".to_owned()))?;
        let algorithm = header.algorithm(&issuer.algorithms).map_err(verify)?;
        let claims = provider
            .with_key(header.kid.as_deref(), |key| key.claims(token, algorithm))
            .await?;
        let now = jsonwebtoken::get_current_timestamp();
        check(&claims, &issuers(url), &issuer.audiences, now).map_err(verify)?;
        Ok(claims)
    }
}

/// Whether claims are those of a token of that issuer's, for one of those audiences, at this time; in seconds since 1970.
fn check(
    claims: &Map<String, Value>,
    issuers: &[&str],
    audiences: &[String],
    now: u64,
) -> Result<(), String> {
    let named = claims
        .get("iss")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !issuers.contains(&named) {
        return Err(format!(
            "id token issued by a different provider, expected {:?} got {named:?}",
            issuers.first().unwrap_or(&"")
        ));
    }
    let meant = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences
        .iter()
        .any(|wanted| meant.contains(&wanted.as_str()))
    {
        return Err(format!("expected audience in {audiences:?} got {meant:?}"));
    }
    let time = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(time) => {
            let time = time.as_f64().filter(|time| time.is_finite());
            time.map(Some)
                .ok_or_else(|| format!("malformed claim {name}"))
        }
    };
    // Whoever does not say when a token ends has one that has ended.
    let ends = time("exp")?.unwrap_or_default();
    if ends < now as f64 {
        return Err(format!("token is expired (Token Expiry: {ends})"));
    }
    match time("nbf")? {
        Some(begins) if begins > (now + NOT_BEFORE_LEEWAY) as f64 => Err(format!(
            "current time {now} before the nbf (not before) time: {begins}"
        )),
        _ => Ok(()),
    }
}

/// What Google's tokens once named their issuer.
const GOOGLE: &str = "accounts.google.com";

/// How tokens may name an issuer.
fn issuers(url: &str) -> Vec<&str> {
    match url.strip_prefix("https://") {
        Some(GOOGLE) => vec![url, GOOGLE],
        _ => vec![url],
    }
}

/// The issuer that a token names, whether or not that is true.
fn unverified_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    if parts.count() != 1 {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
    match claims.get("iss")?.as_str()? {
        GOOGLE => Some(format!("https://{GOOGLE}")),
        other => Some(other.to_owned()),
    }
}

#[async_trait]
impl TokenAuthenticator for OidcTokens {
    async fn authenticate_token(
        &self,
        token: &str,
    ) -> Result<Option<Identity>, AuthenticationError> {
        self.verify(token).await
    }
}

#[cfg(test)]
pub(super) mod tests;

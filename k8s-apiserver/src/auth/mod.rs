//! Authentication: who a request comes from.

mod audiences;
mod bootstrap_token;
mod configuration;
mod identity;
mod impersonation;
mod oidc;
pub(crate) mod request_header;
mod standard;
pub(crate) mod token;
mod webhook;
mod x509;

use std::fmt::Debug;

use async_trait::async_trait;

pub use self::audiences::{Audiences, Authenticated};
pub use self::bootstrap_token::BootstrapTokens;
pub use self::configuration::{
    Anonymous, AuthenticationConfiguration, AuthenticationConfigurationError, ConfiguredTokens,
};
pub use self::identity::{
    ANONYMOUS, AUTHENTICATED, Identity, MASTERS, NODE_PREFIX, NODES, SERVICE_ACCOUNT_PREFIX,
    SERVICE_ACCOUNTS, UNAUTHENTICATED,
};
pub(crate) use self::impersonation::{Impersonation, take_wish};
pub use self::oidc::{JwtIssuer, OidcError, OidcOptions, OidcTokens, SigningAlgorithm};
pub use self::request_header::RequestHeaders;
pub use self::standard::{ANONYMOUS_PATHS, Standard};
pub use self::token::{
    DEFAULT_ISSUER, ObjectClaim, ServiceAccountTokens, TokenKeyError, TokenSpec, VerifiedToken,
};
pub use self::webhook::{WebhookTokenOptions, WebhookTokens};
pub use self::x509::{ClientCertificates, PeerCertificates};
pub use crate::webhook::{ReviewVersion, WebhookFileError};
/// Where [`Identity::extra`] has which credential the user showed.
pub use k8s_model::certificates::CREDENTIAL_ID;

/// Credentials were there, and they are not good. The client sees `401 Unauthorized` without
/// this text, which is for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The credentials are of a known sort and do not hold: expired, revoked, forged.
    #[error("invalid credentials: {0}")]
    Invalid(String),
    /// What is needed to check them cannot be read now.
    #[error("credentials cannot be checked: {0}")]
    Unavailable(String),
}

/// Finds out who a request comes from.
///
/// # Purpose
/// The server asks its authenticator once per request, before anything else looks at it. Write
/// your own for another sort of credential, and put it into a [`Union`] with the others.
///
/// # Guarantees
/// `Ok(None)` says that the request has no credentials of this authenticator's sort: the next
/// one is asked. An error says that there were some and that they are not good; a union goes
/// on all the same, and answers 401 when no other authenticator accepts the request. An identity
/// carries the groups that the credential vouches for; the server adds `system:authenticated`.
///
/// # Concurrency
/// Calls overlap. Dropping the future must leave nothing behind.
#[async_trait]
pub trait Authenticator: Debug + Send + Sync {
    /// Who the request comes from; `None` if this authenticator cannot say.
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError>;

    /// Who the request comes from, if its credentials are good for one of these audiences: what a `TokenReview` asks.
    /// Unless told otherwise they are good for the API server alone, and are not looked at for others.
    async fn authenticate_for(
        &self,
        parts: &http::request::Parts,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let audiences = audiences.implied();
        if audiences.is_empty() {
            return Ok(None);
        }
        let identity = self.authenticate(parts).await?;
        Ok(identity.map(|identity| Authenticated {
            identity,
            audiences,
        }))
    }
}

/// Finds out who the bearer of a token is: an [`Authenticator`] for requests with `Authorization: Bearer TOKEN`. Write one of
/// these where the token is all that counts; guarantees and concurrency are the same.
#[async_trait]
pub trait TokenAuthenticator: Debug + Send + Sync {
    /// Who the bearer of the token is; `None` if it is not of this authenticator's sort.
    async fn authenticate_token(
        &self,
        token: &str,
    ) -> Result<Option<Identity>, AuthenticationError>;

    /// Who the bearer of the token is, if it is good for one of these audiences; as
    /// [`Authenticator::authenticate_for`].
    async fn authenticate_token_for(
        &self,
        token: &str,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let audiences = audiences.implied();
        if audiences.is_empty() {
            return Ok(None);
        }
        let identity = self.authenticate_token(token).await?;
        Ok(identity.map(|identity| Authenticated {
            identity,
            audiences,
        }))
    }
}

#[async_trait]
impl<T: TokenAuthenticator> Authenticator for T {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        match token::bearer(&parts.headers) {
            Some(token) => self.authenticate_token(token).await,
            None => Ok(None),
        }
    }

    async fn authenticate_for(
        &self,
        parts: &http::request::Parts,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        match token::bearer(&parts.headers) {
            Some(token) => self.authenticate_token_for(token, audiences).await,
            None => Ok(None),
        }
    }
}

/// Several authenticators: the first that knows the request wins.
#[derive(Debug, Default)]
pub struct Union(Vec<std::sync::Arc<dyn Authenticator>>);

impl Union {
    /// A union that asks in this order.
    pub fn new(authenticators: Vec<std::sync::Arc<dyn Authenticator>>) -> Self {
        Union(authenticators)
    }

    /// Asks one more, before the others.
    pub fn push_first(&mut self, authenticator: std::sync::Arc<dyn Authenticator>) {
        self.0.insert(0, authenticator);
    }

    /// Asks one more, after the others.
    pub fn push(&mut self, authenticator: std::sync::Arc<dyn Authenticator>) {
        self.0.push(authenticator);
    }
}

/// Who was found; of errors the first is kept.
fn found<T>(
    answer: Result<Option<T>, AuthenticationError>,
    first: &mut Option<AuthenticationError>,
) -> Option<T> {
    answer.unwrap_or_else(|error| {
        first.get_or_insert(error);
        None
    })
}

#[async_trait]
impl Authenticator for Union {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        let mut error = None;
        for authenticator in &self.0 {
            if let Some(who) = found(authenticator.authenticate(parts).await, &mut error) {
                return Ok(Some(who));
            }
        }
        error.map_or(Ok(None), Err)
    }

    async fn authenticate_for(
        &self,
        parts: &http::request::Parts,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let mut error = None;
        for authenticator in &self.0 {
            let answer = authenticator.authenticate_for(parts, audiences).await;
            if let Some(who) = found(answer, &mut error) {
                return Ok(Some(who));
            }
        }
        error.map_or(Ok(None), Err)
    }
}

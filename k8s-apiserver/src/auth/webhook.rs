//! Tokens that a webhook knows.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication>.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::json;

use super::{Audiences, Authenticated, AuthenticationError, Identity, TokenAuthenticator};
use crate::{
    admission::reader::ObjectReader,
    webhook::{Client, Memory, ReviewVersion, TIMEOUT, WebhookFileError, ask, kubeconfig},
};

/// How a webhook is asked about tokens; upstream's `--authentication-token-webhook-*`.
#[derive(Clone, Debug)]
pub struct WebhookTokenOptions {
    /// In which version of `authentication.k8s.io` it is asked.
    pub version: ReviewVersion,
    /// How long an answer is good.
    pub cache_ttl: Duration,
    /// Who the API server is: for one of these tokens must be, if the webhook says for whom they are; and of those that
    /// it says nothing about it is assumed.
    pub audiences: Vec<String>,
}

impl Default for WebhookTokenOptions {
    /// `v1beta1`, two minutes, whoever; as upstream.
    fn default() -> Self {
        WebhookTokenOptions {
            version: ReviewVersion::default(),
            cache_ttl: Duration::from_secs(120),
            audiences: Vec::new(),
        }
    }
}

/// Knows the bearers of tokens by asking a webhook with a `TokenReview`. What it says is kept for a while, by a hash
/// of the token under a key that nobody knows.
pub struct WebhookTokens {
    client: Client,
    options: WebhookTokenOptions,
    key: hmac::Key,
    known: Memory<Vec<u8>, Option<Authenticated>>,
}

impl std::fmt::Debug for WebhookTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookTokens")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl WebhookTokens {
    /// Asks the webhook that the file names, which has the format of a kubeconfig.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn from_file(
        path: &Path,
        options: WebhookTokenOptions,
        reader: Arc<dyn ObjectReader>,
    ) -> Result<Self, WebhookFileError> {
        let mut secret = [0; 32];
        // Without random numbers nothing else here works either; then nothing is found again.
        let _ = SystemRandom::new().fill(&mut secret);
        Ok(WebhookTokens {
            client: kubeconfig::client(path, reader)?,
            options,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            known: Memory::new(),
        })
    }

    /// What is kept of a token that was shown for these audiences.
    fn hash(&self, token: &str, audiences: &[String]) -> Vec<u8> {
        let mut hash = hmac::Context::with_key(&self.key);
        for text in audiences.iter().map(String::as_str).chain([token]) {
            hash.update(&text.len().to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.sign().as_ref().to_vec()
    }

    async fn review(
        &self,
        token: &str,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let hash = self.hash(token, audiences.wanted());
        if let Some(known) = self.known.get(&hash) {
            return Ok(known);
        }
        let mut review = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.options.version.as_str()),
            "metadata": {},
            "spec": {"token": token},
            "status": {"user": {}},
        });
        if !audiences.wanted().is_empty() {
            review["spec"]["audiences"] = json!(audiences.wanted());
        }
        let unavailable = |e: String| AuthenticationError::Unavailable(e);
        let status = ask(&self.client, &review, TIMEOUT)
            .await
            .map_err(|e| unavailable(e.to_string()))?;
        let status: Option<Status> =
            serde_json::from_value(status).map_err(|e| unavailable(e.to_string()))?;
        let status = status.unwrap_or_default();
        // A webhook that names no audiences knows of none: its tokens are for the API server.
        let named = match &*status.audiences {
            [] => audiences.api(),
            named => named,
        };
        let good_for = audiences.among(named);
        let is_for_us = audiences.wanted().is_empty() || !good_for.is_empty();
        if is_for_us && !status.authenticated && !status.error.is_empty() {
            return Err(AuthenticationError::Invalid(status.error));
        }
        let found = (status.authenticated && is_for_us).then_some(Authenticated {
            identity: Identity {
                name: status.user.username,
                uid: status.user.uid,
                groups: status.user.groups,
                extra: status.user.extra,
            },
            audiences: good_for,
        });
        self.known.put(hash, found.clone(), self.options.cache_ttl);
        Ok(found)
    }
}

#[async_trait]
impl TokenAuthenticator for WebhookTokens {
    async fn authenticate_token(
        &self,
        token: &str,
    ) -> Result<Option<Identity>, AuthenticationError> {
        let own = &self.options.audiences;
        let found = self.review(token, &Audiences::new(own, own)).await?;
        Ok(found.map(|found| found.identity))
    }

    async fn authenticate_token_for(
        &self,
        token: &str,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let api = match &*self.options.audiences {
            [] => audiences.api(),
            own => own,
        };
        let audiences = Audiences::new(audiences.wanted(), api);
        self.review(token, &audiences).await
    }
}

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

use super::{AuthenticationError, Identity, TokenAuthenticator};
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
    /// For whom tokens must be: one of these, if the webhook says for whom they are.
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
    known: Memory<Vec<u8>, Option<Identity>>,
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

    async fn review(&self, token: &str) -> Result<Option<Identity>, AuthenticationError> {
        let hash = hmac::sign(&self.key, token.as_bytes()).as_ref().to_vec();
        if let Some(known) = self.known.get(&hash) {
            return Ok(known);
        }
        let audiences = &self.options.audiences;
        let mut review = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.options.version.as_str()),
            "metadata": {},
            "spec": {"token": token},
            "status": {"user": {}},
        });
        if !audiences.is_empty() {
            review["spec"]["audiences"] = json!(audiences);
        }
        let unavailable = |e: String| AuthenticationError::Unavailable(e);
        let status = ask(&self.client, &review, TIMEOUT)
            .await
            .map_err(|e| unavailable(e.to_string()))?;
        let status: Option<Status> =
            serde_json::from_value(status).map_err(|e| unavailable(e.to_string()))?;
        let status = status.unwrap_or_default();
        if !status.authenticated && !status.error.is_empty() {
            return Err(AuthenticationError::Invalid(status.error));
        }
        let for_us = audiences.is_empty()
            || status.audiences.is_empty()
            || audiences.iter().any(|a| status.audiences.contains(a));
        let identity = (status.authenticated && for_us).then_some(Identity {
            name: status.user.username,
            uid: status.user.uid,
            groups: status.user.groups,
            extra: status.user.extra,
        });
        self.known
            .put(hash, identity.clone(), self.options.cache_ttl);
        Ok(identity)
    }
}

#[async_trait]
impl TokenAuthenticator for WebhookTokens {
    async fn authenticate_token(
        &self,
        token: &str,
    ) -> Result<Option<Identity>, AuthenticationError> {
        self.review(token).await
    }
}

//! Authorization by a webhook.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/webhook/>.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Authorizer, Decision, KnownRules, MatchConditions, Selectors};
use crate::{
    admission::reader::ObjectReader,
    auth::Identity,
    webhook::{Client, Memory, ReviewVersion, TIMEOUT, WebhookFileError, ask, kubeconfig},
};

/// What a client says is not kept if it is longer than this: it could fill the memory.
const LONGEST_KEPT: usize = 10_000;

const BOTH: &str = "webhook subject access review returned both allow and deny response";

/// How a webhook is asked for permission; upstream's `--authorization-webhook-*`, and the fields of its
/// `AuthorizationConfiguration`.
#[derive(Clone, Debug)]
pub struct WebhookAuthorizerOptions {
    /// In which version of `authorization.k8s.io` it is asked.
    pub version: ReviewVersion,
    /// How long a permission is good.
    pub allowed_ttl: Duration,
    /// How long a refusal is good.
    pub denied_ttl: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// What is done when it does not answer.
    pub failure_policy: FailurePolicy,
    /// Which requests it is asked about.
    pub match_conditions: MatchConditions,
}

/// What is done when a webhook does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The next authorizer is asked.
    #[default]
    NoOpinion,
    /// The request is refused.
    Deny,
}

impl Default for WebhookAuthorizerOptions {
    /// `v1beta1`, five minutes, thirty seconds, thirty seconds, the next one is asked, about all requests; as upstream.
    fn default() -> Self {
        WebhookAuthorizerOptions {
            version: ReviewVersion::default(),
            allowed_ttl: Duration::from_secs(300),
            denied_ttl: Duration::from_secs(30),
            timeout: TIMEOUT,
            failure_policy: FailurePolicy::default(),
            match_conditions: MatchConditions::default(),
        }
    }
}

/// Asks a webhook with a `SubjectAccessReview`, and keeps for a while what it says.
#[derive(Debug)]
pub struct WebhookAuthorizer {
    client: Client,
    options: WebhookAuthorizerOptions,
    known: Memory<String, Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl WebhookAuthorizer {
    /// Asks the webhook that the file names, which has the format of a kubeconfig.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn from_file(
        path: &Path,
        options: WebhookAuthorizerOptions,
        reader: Arc<dyn ObjectReader>,
    ) -> Result<Self, WebhookFileError> {
        Ok(WebhookAuthorizer {
            client: kubeconfig::client(path, reader)?,
            options,
            known: Memory::new(),
        })
    }

    /// Whether the webhook is asked about such a request at all.
    fn fits(&self, a: &Attributes<'_>) -> Result<bool, String> {
        let conditions = &self.options.match_conditions;
        if conditions.is_empty() {
            return Ok(true);
        }
        conditions.fit(&super::conditions::request(a))
    }

    /// The status of the review, or why the webhook does not answer.
    async fn review(&self, a: &Attributes<'_>) -> Result<Status, String> {
        let spec = self.spec(a, self.options.version);
        let key = spec.to_string();
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": format!("authorization.k8s.io/{}", self.options.version.as_str()),
            "metadata": {},
            "spec": spec,
            "status": {"allowed": false},
        });
        let answer = ask(&self.client, &review, self.options.timeout).await;
        let status = answer
            .map_err(|e| e.to_string())
            .and_then(|status| serde_json::from_value::<Status>(status).map_err(|e| e.to_string()));
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(error, "the webhook that authorizes does not answer");
                return Err(error);
            }
        };
        let said: usize = [
            a.namespace,
            a.verb,
            a.group,
            a.version,
            a.resource,
            a.subresource,
            a.name,
            a.path,
        ]
        .iter()
        .map(|part| part.len())
        .sum();
        let said = said + a.selectors.map_or(0, Selectors::length);
        if said < LONGEST_KEPT {
            let time = match status.allowed {
                true => self.options.allowed_ttl,
                false => self.options.denied_ttl,
            };
            self.known.put(key, status.clone(), time);
        }
        Ok(status)
    }

    /// What is said where the webhook did not say anything.
    fn failed(&self, error: String) -> Decision {
        let (reason, error) = (String::new(), Some(error));
        match self.options.failure_policy {
            FailurePolicy::NoOpinion => Decision::NoOpinion { reason, error },
            FailurePolicy::Deny => Decision::Deny { reason, error },
        }
    }

    fn spec(&self, a: &Attributes<'_>, version: ReviewVersion) -> Value {
        let mut spec = serde_json::Map::new();
        // What is empty is left out, as Go does.
        let filled = |texts: &[(&str, &str)]| -> serde_json::Map<String, Value> {
            let texts = texts.iter().filter(|(_, text)| !text.is_empty());
            texts
                .map(|(name, text)| ((*name).to_owned(), Value::from(*text)))
                .collect()
        };
        if a.resource_request {
            let mut attributes = filled(&a.resource_texts());
            if let Some(selectors) = a.selectors {
                selectors.describe(&mut attributes);
            }
            spec.insert("resourceAttributes".to_owned(), attributes.into());
        } else {
            let attributes = filled(&a.path_texts());
            spec.insert("nonResourceAttributes".to_owned(), attributes.into());
        }
        if !a.user.name.is_empty() {
            spec.insert("user".to_owned(), json!(a.user.name));
        }
        if !a.user.groups.is_empty() {
            let groups = match version {
                ReviewVersion::V1 => "groups",
                ReviewVersion::V1beta1 => "group",
            };
            spec.insert(groups.to_owned(), json!(a.user.groups));
        }
        if !a.user.extra.is_empty() {
            spec.insert("extra".to_owned(), json!(a.user.extra));
        }
        if !a.user.uid.is_empty() {
            spec.insert("uid".to_owned(), json!(a.user.uid));
        }
        Value::Object(spec)
    }
}

#[async_trait]
impl Authorizer for WebhookAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match self.fits(attributes) {
            Ok(true) => {}
            Ok(false) => return Decision::no_opinion(),
            Err(error) => {
                tracing::error!(
                    error,
                    "a match condition of the webhook that authorizes failed"
                );
                return self.failed(error);
            }
        }
        let status = match self.review(attributes).await {
            Ok(status) => status,
            Err(error) => return self.failed(error),
        };
        let reason = status.reason;
        match (status.denied, status.allowed) {
            (true, true) => Decision::Deny {
                reason,
                error: Some(BOTH.to_owned()),
            },
            (true, false) => Decision::deny(reason),
            (false, true) => Decision::Allow,
            (false, false) => Decision::unsaid(reason),
        }
    }

    async fn explain(&self, attributes: &Attributes<'_>) -> String {
        if self.fits(attributes) != Ok(true) {
            return String::new();
        }
        let status = self.review(attributes).await.ok();
        status
            .filter(|status| status.allowed && !status.denied)
            .map_or_else(String::new, |status| status.reason)
    }

    fn rules(&self, _user: &Identity, _namespace: &str) -> KnownRules {
        KnownRules {
            incomplete: true,
            errors: vec!["webhook authorizer does not support user rule resolution".to_owned()],
            ..KnownRules::default()
        }
    }
}

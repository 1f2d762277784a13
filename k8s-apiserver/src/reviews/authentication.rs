//! Reviews of who somebody is: the bearer of a token, or oneself.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, header};
use jiff::Timestamp;
use k8s_model::Object;
use k8s_openapi::{
    api::authentication::v1 as authentication, apimachinery::pkg::apis::meta::v1::Status,
};
use serde_json::{Value, json};

use super::{CreateOnly, filled, refused};
use crate::{
    Error,
    auth::{Authenticator, Identity, ServiceAccountTokens, VerifiedToken},
};

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({ "username": identity.name, "groups": identity.groups });
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

/// Answers `tokenreviews`: whether a token is good, and whose it is.
#[derive(Debug)]
pub struct TokenReview {
    tokens: Arc<ServiceAccountTokens>,
    others: Option<Arc<dyn Authenticator>>,
}

impl TokenReview {
    /// Reviews the tokens of service accounts.
    pub fn new(tokens: Arc<ServiceAccountTokens>) -> Self {
        TokenReview {
            tokens,
            others: None,
        }
    }

    /// Reviews also the tokens that this one takes of requests. They are good for the API server alone.
    #[must_use]
    pub fn with_others(mut self, others: Arc<dyn Authenticator>) -> Self {
        self.others = Some(others);
        self
    }

    /// Whose token it is, and for which of the audiences; the text of an error if it is nobody's.
    async fn review(&self, token: &str, audiences: &[String]) -> Result<VerifiedToken, String> {
        let own = match self.tokens.verify(token, audiences).await {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        let ours = self.tokens.api_audiences().iter();
        let ours: Vec<String> = ours.filter(|a| audiences.contains(a)).cloned().collect();
        let mut said = own;
        if let Some(others) = self.others.as_ref().filter(|_| !ours.is_empty())
            && let Some(parts) = bearing(token)
        {
            match others.authenticate(&parts).await {
                Ok(Some(identity)) if !identity.is_anonymous() => {
                    return Ok(VerifiedToken {
                        identity,
                        audiences: ours,
                        warning: None,
                    });
                }
                Ok(_) => {}
                Err(error) => said = error,
            }
        }
        let text = said.to_string();
        let bare = text.strip_prefix("invalid credentials: ");
        Err(bare.unwrap_or(&text).to_owned())
    }
}

/// A request whose bearer token that is.
fn bearing(token: &str) -> Option<http::request::Parts> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.headers.insert(header::AUTHORIZATION, value);
    Some(parts)
}

#[async_trait]
impl CreateOnly for TokenReview {
    async fn create(
        &self,
        _user: &Identity,
        _namespace: &str,
        _name: &str,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>> {
        let mut review = object.to_value();
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return refused(Error::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let asked: Vec<String> =
            serde_json::from_value(review["spec"]["audiences"].clone()).unwrap_or_default();
        let audiences = if asked.is_empty() {
            self.tokens.api_audiences().to_vec()
        } else {
            asked
        };
        review["status"] = match self.review(token, &audiences).await {
            Ok(verified) => json!({
                "authenticated": true,
                "user": user_info(&verified.identity),
                "audiences": verified.audiences,
            }),
            Err(text) => json!({ "error": text, "user": {} }),
        };
        filled::<authentication::TokenReview>(review)
    }
}

/// Answers `selfsubjectreviews`: who the server takes the asker for.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelfReview;

#[async_trait]
impl CreateOnly for SelfReview {
    async fn create(
        &self,
        user: &Identity,
        _namespace: &str,
        _name: &str,
        _object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>> {
        // Upstream answers with a new object, which nobody owns fields of.
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        filled::<authentication::SelfSubjectReview>(json!({
            "metadata": {"creationTimestamp": now},
            "status": {"userInfo": user_info(user)},
        }))
    }
}

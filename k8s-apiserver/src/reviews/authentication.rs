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
    auth::{
        Audiences, Authenticated, AuthenticationError, Authenticator, Identity,
        ServiceAccountTokens,
    },
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

    /// Reviews also the tokens that this one takes of requests.
    #[must_use]
    pub fn with_others(mut self, others: Arc<dyn Authenticator>) -> Self {
        self.others = Some(others);
        self
    }

    /// Whose token it is, and for which of the audiences.
    async fn review(
        &self,
        token: &str,
        audiences: &Audiences<'_>,
    ) -> Result<Authenticated, AuthenticationError> {
        let mut said = match self.tokens.verify(token, audiences.wanted()).await {
            Ok(verified) => {
                return Ok(Authenticated {
                    identity: verified.identity,
                    audiences: verified.audiences,
                });
            }
            Err(error) => error,
        };
        if let Some(others) = &self.others
            && let Some(parts) = bearing(token)
        {
            match others.authenticate_for(&parts, audiences).await {
                Ok(Some(found)) if !found.identity.is_anonymous() => return Ok(found),
                Ok(_) => {}
                Err(error) => said = error,
            }
        }
        Err(said)
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
        let api = self.tokens.api_audiences();
        let wanted = if asked.is_empty() { api } else { &asked };
        let audiences = Audiences::new(wanted, api);
        review["status"] = match self.review(token, &audiences).await {
            Ok(found) if audiences.among(&found.audiences).is_empty() => {
                tracing::error!(?wanted, got = ?found.audiences, "a token is good for others than those asked for");
                return refused(Error::internal("error validating audiences"));
            }
            Ok(found) => json!({
                "authenticated": true,
                "user": user_info(&found.identity),
                "audiences": found.audiences,
            }),
            Err(error) => {
                let text = error.to_string();
                let bare = text.strip_prefix("invalid credentials: ");
                json!({ "error": bare.unwrap_or(&text), "user": {} })
            }
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

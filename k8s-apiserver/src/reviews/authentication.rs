//! Reviews of who somebody is: the bearer of a token, or oneself.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::Object;
use k8s_openapi::{
    api::authentication::v1 as authentication, apimachinery::pkg::apis::meta::v1::Status,
};
use serde_json::{Value, json};

use super::{CreateOnly, filled, refused};
use crate::{
    Error,
    auth::{Identity, ServiceAccountTokens},
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
pub struct TokenReview(Arc<ServiceAccountTokens>);

impl TokenReview {
    /// Reviews the tokens of service accounts.
    pub fn new(tokens: Arc<ServiceAccountTokens>) -> Self {
        TokenReview(tokens)
    }
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
            self.0.api_audiences().to_vec()
        } else {
            asked
        };
        review["status"] = match self.0.verify(token, &audiences).await {
            Ok(verified) => json!({
                "authenticated": true,
                "user": user_info(&verified.identity),
                "audiences": verified.audiences,
            }),
            Err(error) => {
                let text = error.to_string();
                let text = text.strip_prefix("invalid credentials: ").unwrap_or(&text);
                json!({ "error": text, "user": {} })
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
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>> {
        let mut review = object.to_value();
        review["status"] = json!({ "userInfo": user_info(user) });
        filled::<authentication::SelfSubjectReview>(review)
    }
}

//! Resources that are asked and answered, and never stored: access reviews, token reviews, tokens.

mod access;
mod authentication;
mod token;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use k8s_model::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::{
    access::{AccessReview, RulesReview},
    authentication::{SelfReview, TokenReview},
    token::TokenRequest,
};
use crate::{
    Error,
    admission::reader::ObjectReader,
    auth::{Authenticator, Identity, ServiceAccountTokens},
    authz::Authorizer,
};

/// A resource, or a subresource, that can only be created: the answer is the object with its
/// status filled in.
#[async_trait]
pub trait CreateOnly: Debug + Send + Sync {
    /// Fills in what was not sent, before admission looks at it. Nothing, where this is left out.
    fn default(&self, object: &mut dyn Object) {
        let _ = object;
    }

    /// Answers. The object's managed fields are those of who asks. `namespace` and `name` are those of the path, or empty: the parent's name for
    /// a subresource such as `serviceaccounts/token`.
    async fn create(
        &self,
        user: &Identity,
        namespace: &str,
        name: &str,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>>;
}

/// Where a [`CreateOnly`] is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The group.
    pub group: &'static str,
    /// The plural name, as in URLs.
    pub resource: &'static str,
    /// The subresource, or empty.
    pub subresource: &'static str,
    /// Who answers.
    pub by: Arc<dyn CreateOnly>,
}

/// All reviews that upstream's server has, and the tokens of service accounts. The authenticator is that of requests:
/// whose bearers it knows, of those a review tells.
pub fn all(
    authorizer: &Arc<dyn Authorizer>,
    authenticator: &Arc<dyn Authenticator>,
    tokens: &Arc<ServiceAccountTokens>,
    reader: &Arc<dyn ObjectReader>,
) -> Vec<Served> {
    const ACCESS: &str = "authorization.k8s.io";
    const WHO: &str = "authentication.k8s.io";
    let served = |group, resource, by| Served {
        group,
        resource,
        subresource: "",
        by,
    };
    vec![
        served(
            ACCESS,
            "subjectaccessreviews",
            Arc::new(AccessReview::of_anybody(authorizer.clone())),
        ),
        served(
            ACCESS,
            "localsubjectaccessreviews",
            Arc::new(AccessReview::in_namespace(authorizer.clone())),
        ),
        served(
            ACCESS,
            "selfsubjectaccessreviews",
            Arc::new(AccessReview::of_oneself(authorizer.clone())),
        ),
        served(
            ACCESS,
            "selfsubjectrulesreviews",
            Arc::new(RulesReview::new(authorizer.clone())),
        ),
        served(
            WHO,
            "tokenreviews",
            Arc::new(TokenReview::new(tokens.clone()).with_others(authenticator.clone())),
        ),
        served(WHO, "selfsubjectreviews", Arc::new(SelfReview)),
        Served {
            group: "",
            resource: "serviceaccounts",
            subresource: "token",
            by: Arc::new(TokenRequest::new(tokens.clone(), reader.clone())),
        },
    ]
}

fn refused<T>(error: Error) -> Result<T, Box<Status>> {
    Err(Box::new(error.into_status()))
}

/// A part of a review; a part that is not there is its default.
fn decode<T: DeserializeOwned + Default>(value: Value) -> Result<T, Box<Status>> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value).or_else(|e| refused(Error::bad_request(e.to_string())))
}

/// The review as its kind, with its answer in it.
fn filled<K>(value: Value) -> Result<Box<dyn Object>, Box<Status>>
where
    K: Object + DeserializeOwned,
{
    match serde_json::from_value::<K>(value) {
        Ok(object) => Ok(Box::new(object)),
        Err(error) => refused(Error::internal(error)),
    }
}

#[cfg(test)]
mod tests;

//! Resources that are asked and answered, and never stored: access reviews, token reviews, tokens.

use std::fmt::Debug;

use async_trait::async_trait;
use k8s_model::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::auth::Identity;

/// A resource, or a subresource, that can only be created: the answer is the object with its
/// status filled in.
#[async_trait]
pub trait CreateOnly: Debug + Send + Sync {
    /// Answers. `namespace` and `name` are those of the path, or empty: the parent's name for
    /// a subresource such as `serviceaccounts/token`.
    async fn create(
        &self,
        user: &Identity,
        namespace: &str,
        name: &str,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>>;
}

//! [`review`]: asking the API.

use http::{Request, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::user::User;
use crate::context::Context;

/// A review's answer. As JSON: the Rust types differ between the API levels that this crate
/// supports.
#[derive(Deserialize)]
struct Reviewed<T> {
    status: T,
}

/// Of a `TokenReview`.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    #[serde(default)]
    pub(super) authenticated: bool,
    #[serde(default)]
    pub(super) user: User,
}

/// Of a `SubjectAccessReview`.
#[derive(Deserialize)]
pub(super) struct Authorized {
    #[serde(default)]
    pub(super) allowed: bool,
}

/// Sends a review of that kind and returns the status of the answer.
pub(super) async fn review<T: DeserializeOwned>(
    cx: &Context,
    group: &str,
    kind: &str,
    spec: Value,
) -> Result<T, kube::Error> {
    let version = format!("{group}/v1");
    let path = format!("/apis/{version}/{}s", kind.to_lowercase());
    let review = json!({"apiVersion": version, "kind": kind, "spec": spec});
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Reviewed<T> = cx.client.request(request).await?;
    Ok(answer.status)
}

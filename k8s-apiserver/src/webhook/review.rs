//! Reviews: what authentication and authorization ask a webhook.

use std::{str::FromStr, time::Duration};

use serde_json::Value;

use super::{CallError, Client};

/// How long one answer may take by default.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may be.
const LIMIT: usize = 1 << 20;
/// How often a webhook is asked that is in trouble, and how long is waited before the second time; each later time that
/// is half as long again. As upstream.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// In which version of their group reviews are sent; upstream's `--authentication-token-webhook-version` and
/// `--authorization-webhook-version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReviewVersion {
    /// `v1`.
    V1,
    /// `v1beta1`, which is upstream's default.
    #[default]
    V1beta1,
}

impl ReviewVersion {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "v1",
            ReviewVersion::V1beta1 => "v1beta1",
        }
    }
}

impl FromStr for ReviewVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(ReviewVersion::V1),
            "v1beta1" => Ok(ReviewVersion::V1beta1),
            other => Err(format!(
                "unsupported webhook version {other:?}, supported versions are \"v1\", \"v1beta1\""
            )),
        }
    }
}

/// Asks, and gives back the review's `status`. Asks again if the webhook is in trouble. Each time it has `timeout`.
pub(crate) async fn ask(
    client: &Client,
    review: &Value,
    timeout: Duration,
) -> Result<Value, CallError> {
    let body = bytes::Bytes::from(review.to_string());
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match client.post_plain(body.clone(), timeout, LIMIT).await {
            Ok(answer) => {
                let mut answer: Value = serde_json::from_slice(&answer)
                    .map_err(|e| CallError::Config(format!("the webhook's answer: {e}")))?;
                if answer["kind"] != review["kind"] {
                    return Err(CallError::Config(format!(
                        "the webhook's answer is of kind {}, not {}",
                        answer["kind"], review["kind"]
                    )));
                }
                let mut status = answer["status"].take();
                drop_nulls(&mut status);
                return Ok(status);
            }
            Err(error) if attempt < TRIES && is_passing(&error) => {
                tracing::debug!(%error, attempt, "a webhook is asked again");
                // Not all at the same time.
                tokio::time::sleep(pause.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
                pause = pause.mul_f64(1.5);
            }
            Err(error) => return Err(error),
        }
    }
    Err(CallError::Config("the webhook was not asked".to_owned()))
}

/// Takes away what is said to be nothing: in Go that is as if it were not said.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::Status { code, .. } => matches!(code.as_u16(), 429 | 500 | 504),
        CallError::Transport { reason, .. } => reason.contains("reset by peer"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_null_is_not_said() {
        let mut status = json!({"allowed": true, "reason": null,
            "user": {"groups": null, "extra": {"a": ["b"], "c": null}}});
        drop_nulls(&mut status);
        assert_eq!(
            status,
            json!({"allowed": true, "user": {"extra": {"a": ["b"]}}})
        );
    }
}

//! `AdmissionReview`: what a webhook is asked, and what it answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_model::decode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::views::Views;

/// The question.
pub(super) fn question(version: &str, uid: &str, mut described: Value, views: Views) -> Bytes {
    described["uid"] = uid.into();
    described["object"] = views.object;
    described["oldObject"] = views.old;
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{version}"),
        "request": described,
    });
    Bytes::from(review.to_string())
}

/// What a webhook says.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    pub(super) patch_type: String,
    pub(super) status: Option<Status>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    status: Option<Status>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// Reads an answer to the question with that UID; the error is upstream's text.
pub(super) fn answer(
    version: &str,
    uid: &str,
    mutating: bool,
    body: &[u8],
) -> Result<Answer, String> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))?;
    let response = review.response.ok_or("webhook response was absent")?;
    let patch = response.patch.as_deref().map(decode::base64_bytes);
    let patch = patch.transpose()?.filter(|patch| !patch.is_empty());
    if version == "v1" {
        if response.uid != uid {
            return Err(format!(
                "expected response.uid={uid:?}, got {:?}",
                response.uid
            ));
        }
        let (group, found) = review
            .api_version
            .split_once('/')
            .unwrap_or(("", &review.api_version));
        if (group, found, review.kind.as_str()) != ("admission.k8s.io", "v1", "AdmissionReview") {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{found}, Kind={}",
                review.kind
            ));
        }
    }
    match (mutating, &patch, &response.patch_type) {
        (false, Some(_), _) => {
            return Err("validating webhook may not return response.patch".into());
        }
        (false, None, Some(_)) => {
            return Err("validating webhook may not return response.patchType".into());
        }
        (true, Some(_), None) if version == "v1" => {
            return Err("webhook returned response.patch but not response.patchType".into());
        }
        (true, None, Some(_)) if version == "v1" => {
            return Err("webhook returned response.patchType but not response.patch".into());
        }
        (true, Some(_), Some(kind)) if kind.is_empty() => {
            return Err(format!(
                "webhook returned invalid response.patchType of {kind:?}"
            ));
        }
        _ => {}
    }
    Ok(Answer {
        allowed: response.allowed,
        patch,
        patch_type: response.patch_type.unwrap_or_else(|| "JSONPatch".into()),
        status: response.status,
        warnings: response.warnings.unwrap_or_default(),
        annotations: response.audit_annotations.unwrap_or_default(),
    })
}

/// Reads any bytes as an answer.
#[cfg(feature = "__fuzz")]
pub(crate) fn fuzz(body: &[u8]) {
    for version in ["v1", "v1beta1"] {
        for mutating in [true, false] {
            if let Ok(answer) = answer(version, "u", mutating, body) {
                assert!(mutating || answer.patch.is_none());
                let status = refusal("a.b.c", answer.status);
                assert!(status.code.is_some_and(|code| code >= 400));
            }
        }
    }
}

/// The refusal that an answer is.
pub(super) fn refusal(name: &str, status: Option<Status>) -> Status {
    let mut status = status.unwrap_or_default();
    let denied = format!("admission webhook {name:?} denied the request");
    status.code = Some(status.code.unwrap_or(0))
        .filter(|c| *c >= 400)
        .or(Some(400));
    status.status = Some("Failure".into());
    let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    status.message = Some(match (text(&status.message), text(&status.reason)) {
        (Some(message), _) => format!("{denied}: {message}"),
        (None, Some(reason)) => format!("{denied}: {reason}"),
        (None, None) => format!("{denied} without explanation"),
    });
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mutating: bool, response: Value) -> Result<Answer, String> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        answer("v1", "u", mutating, review.to_string().as_bytes())
    }

    #[test]
    fn answers_that_are_none_are_refused_in_upstreams_words() {
        let cases = [
            (json!(null), "webhook response was absent"),
            (
                json!({"uid": "v"}),
                "expected response.uid=\"u\", got \"v\"",
            ),
            (
                json!({"uid": "u", "patch": "W10="}),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                json!({"uid": "u", "patch": "W10=", "patchType": ""}),
                "webhook returned invalid response.patchType of \"\"",
            ),
            (
                json!({"uid": "u", "patch": "W10=!", "patchType": "JSONPatch"}),
                "illegal base64 data at input byte 4",
            ),
            (
                json!({"uid": "u", "patch": "\n", "patchType": "JSONPatch"}),
                "webhook returned response.patchType but not response.patch",
            ),
        ];
        for (response, text) in cases {
            assert_eq!(read(true, response).unwrap_err(), text);
        }
        let text = read(
            false,
            json!({"uid": "u", "patch": "W10=", "patchType": "JSONPatch"}),
        );
        assert_eq!(
            text.unwrap_err(),
            "validating webhook may not return response.patch"
        );
        let other = json!({"apiVersion": "v1", "kind": "Status", "response": {"uid": "u"}});
        assert_eq!(
            answer("v1", "u", true, other.to_string().as_bytes()).unwrap_err(),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /v1, Kind=Status"
        );
        assert!(
            read(true, json!({"uid": "u", "allowed": true}))
                .unwrap()
                .allowed
        );
    }

    #[test]
    fn a_patch_may_come_in_lines() {
        for text in ["W10=", "W1\n0=\n", "W1\r\n0=", "W11="] {
            let response = json!({"uid": "u", "patch": text, "patchType": "JSONPatch"});
            let patch = read(true, response).unwrap().patch;
            assert_eq!(patch.as_deref(), Some(&b"[]"[..]), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_has_a_code_and_a_text_whatever_the_webhook_says() {
        let status = |value: Value| serde_json::from_value::<Status>(value).unwrap();
        let denied = "admission webhook \"x\" denied the request";
        let found = refusal("x", None);
        assert_eq!(found.code, Some(400));
        assert_eq!(found.message, Some(format!("{denied} without explanation")));
        let found = refusal(
            "x",
            Some(status(json!({"code": 403, "message": "no", "reason": "r"}))),
        );
        assert_eq!(found.code, Some(403));
        assert_eq!(found.message, Some(format!("{denied}: no")));
        let found = refusal(
            "x",
            Some(status(
                json!({"code": 200, "reason": "r", "status": "Success"}),
            )),
        );
        assert_eq!(
            (found.code, found.status.as_deref()),
            (Some(400), Some("Failure"))
        );
        assert_eq!(found.message, Some(format!("{denied}: r")));
    }
}

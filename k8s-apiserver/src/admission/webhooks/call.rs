//! One call of a webhook.

use k8s_model::status;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use uuid::Uuid;

use super::{
    Invocation,
    review::{self, Answer},
};
use crate::{
    admission::{
        AdmissionError, AdmissionRequest,
        views::{self, Views},
    },
    audit,
    webhook::CallError,
};

/// How long an answer may be, in bytes: a patch may replace a whole object.
const LIMIT: usize = 16 << 20;

/// What keeps a request from going on.
#[derive(Debug)]
pub(super) enum Failure {
    /// The webhook was not asked, or has given no answer that makes sense. Its failure policy says what that means.
    Call {
        text: String,
        /// The code of its answer, or one that stands for what happened; for metrics.
        code: u16,
    },
    /// The webhook says no.
    Denied(Box<Status>),
    /// The request ends for another reason.
    Internal(AdmissionError),
}

impl Failure {
    /// The end of the request.
    pub(super) fn into_error(self) -> AdmissionError {
        match self {
            Failure::Call { text, .. } => internal(&text),
            Failure::Denied(status) => AdmissionError::Status(status),
            Failure::Internal(error) => error,
        }
    }
}

pub(super) fn internal(text: &str) -> AdmissionError {
    AdmissionError::Status(Box::new(status::internal_error(text)))
}

/// Asks a webhook about a request, as those objects show it. An answer is one that allows.
pub(super) async fn ask(
    invocation: &Invocation<'_>,
    request: &AdmissionRequest<'_>,
    views: Views,
    mutating: bool,
) -> Result<Answer, Failure> {
    let hook = &invocation.hook;
    let failed = |code: u16, reason: String| Failure::Call {
        text: format!("failed calling webhook {:?}: {reason}", hook.name),
        code,
    };
    if request.dry_run && !hook.dry_runs {
        let text = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Internal(AdmissionError::BadRequest(text)));
    }
    let version = hook.review.ok_or_else(|| {
        failed(400, "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)".to_owned())
    })?;
    let client = hook
        .client
        .as_ref()
        .map_err(|e| failed(400, format!("could not get REST client: {e}")))?;
    let uid = Uuid::new_v4().to_string();
    let described = views::describe(request, invocation.resource);
    let question = review::question(version, &uid, described, views);
    let body = client
        .post(question, hook.timeout, LIMIT)
        .await
        .map_err(|e| {
            let code = match &e {
                CallError::Status { code, .. } => code.as_u16(),
                _ => 400,
            };
            failed(code, format!("failed to call webhook: {e}"))
        })?;
    let answer = review::answer(version, &uid, mutating, &body)
        .map_err(|e| failed(503, format!("received invalid webhook response: {e}")))?;
    for (key, value) in &answer.annotations {
        audit::annotate(format!("{}/{key}", hook.name), value.as_str());
    }
    for warning in &answer.warnings {
        request.warnings.add(warning.as_str());
    }
    if answer.allowed {
        return Ok(answer);
    }
    let status = review::refusal(&hook.name, answer.status);
    Err(Failure::Denied(Box::new(status)))
}

/// Says in the audit log and to whoever runs the server that a request goes on without a webhook's answer.
pub(super) fn fails_open(sort: &str, hook: &super::Hook, round: usize, at: usize, text: &str) {
    tracing::warn!(webhook = hook.name, error = text, "failing open");
    let key = format!("failed-open.{sort}.webhook.admission.k8s.io/round_{round}_index_{at}");
    audit::annotate(key, hook.name.as_str());
}

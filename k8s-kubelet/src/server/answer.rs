//! Answers.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use k8s_streaming::{Refused, spdy::upgrade::ACCEPTED};

use super::service::Body;

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Of that type.
pub(crate) fn with_type(
    status: StatusCode,
    kind: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

/// JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(StatusCode::OK, "application/json", bytes),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Why a request can't be served. The text is plain, as upstream's kubelet answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

/// The refusal of a handshake.
pub(crate) fn refused(refused: Refused) -> Response<Body> {
    let mut response = text(refused.status, refused.message);
    for name in refused.accepted {
        let name = header::HeaderValue::from_static(name);
        response.headers_mut().append(ACCEPTED, name);
    }
    response
}

/// An answer that switches protocols.
pub(crate) fn switching(response: Response<()>) -> Response<Body> {
    response.map(|()| full(Bytes::new()))
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        text(refusal.status, refusal.message)
    }
}

impl From<k8s_runtime::Error> for Refusal {
    fn from(error: k8s_runtime::Error) -> Self {
        let status = match &error {
            e if e.is_not_found() => StatusCode::NOT_FOUND,
            k8s_runtime::Error::InvalidState { .. } => StatusCode::BAD_REQUEST,
            k8s_runtime::Error::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

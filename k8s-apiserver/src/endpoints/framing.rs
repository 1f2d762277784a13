//! What Go's server refuses of a request's head before anybody is asked, and the HTTP library lets through: whoever
//! stands between a client and a server must not read such a head otherwise than the server.

use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use hyper::ext::ReasonPhrase;

use crate::{
    http::{Body, response},
    serve::PeerAddress,
};

/// The answer to a request that came over HTTP/1.1 and is refused.
pub(super) fn refused(parts: &Parts) -> Option<Response<Body>> {
    if parts.version != Version::HTTP_11 || parts.extensions.get::<PeerAddress>().is_none() {
        return None;
    }
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let mut encodings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let known = encodings.next().is_none_or(is_chunked) && encodings.next().is_none();
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    let (code, text) = match hosts {
        _ if !known => (StatusCode::NOT_IMPLEMENTED, "Unsupported transfer encoding"),
        0 => (
            StatusCode::BAD_REQUEST,
            "400 Bad Request: missing required Host header",
        ),
        1 => return None,
        _ => (StatusCode::BAD_REQUEST, "400 Bad Request"),
    };
    let mut answer = response::text(code, text);
    if hosts == 0 && known {
        let reason = ReasonPhrase::from_static(b"Bad Request: missing required Host header");
        answer.extensions_mut().insert(reason);
    }
    let headers = answer.headers_mut();
    headers.remove(header::X_CONTENT_TYPE_OPTIONS);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(answer)
}

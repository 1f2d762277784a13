//! What the handshakes of both protocols have in common.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Why a handshake was refused: an HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its code.
    pub status: StatusCode,
    /// Its text.
    pub message: String,
    /// What would have been taken, each a header [`ACCEPTED`](crate::spdy::upgrade::ACCEPTED).
    pub accepted: Vec<&'static str>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refused {
            status,
            message: message.into(),
            accepted: Vec::new(),
        }
    }
}

/// The elements of all the headers of that name, which are lists with commas.
pub fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    (headers.get_all(name).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

pub(crate) fn has(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// Whether the message is about a change of protocols, to whichever.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && has(headers, &header::CONNECTION, "upgrade")
}

/// Sets what the two sides agree on, or one of them proposes.
pub(crate) fn switch(headers: &mut HeaderMap, protocol: &'static str) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
}

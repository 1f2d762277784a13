//! [`CallError`]: why a webhook has not answered.

use std::{error::Error, io};

use http::StatusCode;

use crate::proxy::said;

/// Why a webhook has not answered. The texts are those of upstream's client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CallError {
    /// It cannot be asked at all, as it is configured.
    #[error("{0}")]
    Config(String),
    /// It was not reached, or did not answer in time.
    #[error("Post {url:?}: {reason}")]
    Transport {
        /// Where it was looked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It answered with something else than success.
    #[error("{text}")]
    Status {
        /// Its code.
        code: StatusCode,
        /// What is said of that.
        text: String,
    },
    /// It answered nothing.
    #[error("0-length response with status code: {} and content type: {content_type}", code.as_u16())]
    Empty {
        /// Its code.
        code: StatusCode,
        /// What it said the nothing is.
        content_type: String,
    },
    /// It answered more than it may.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl CallError {
    /// What upstream's client makes of an answer that is not a success. What is a text is told.
    pub(super) fn status(code: StatusCode, is_text: bool, body: &[u8]) -> Self {
        let own = serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .filter(|status| status["kind"] == "Status")
            .and_then(|status| status["message"].as_str().map(str::to_owned));
        let text = own.unwrap_or_else(|| match code.as_u16() {
            400 => "the server rejected our request for an unknown reason".to_owned(),
            401 => "the server has asked for the client to provide credentials".to_owned(),
            403 => {
                let body = String::from_utf8_lossy(body);
                let body = body.trim();
                match body {
                    "" => "unknown".to_owned(),
                    body => body.to_owned(),
                }
            }
            404 => "the server could not find the requested resource".to_owned(),
            405 => "the server does not allow this method on the requested resource".to_owned(),
            429 => "the server has received too many requests and has asked us to try again later"
                .to_owned(),
            503 => "the server is currently unable to handle the request".to_owned(),
            504 => "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned(),
            500.. => {
                let body: String = String::from_utf8_lossy(body).chars().take(2048).collect();
                let body = if is_text { body.trim() } else { "unknown" };
                format!("an error on the server ({body:?}) has prevented the request from succeeding")
            }
            code => format!("the server responded with the status code {code} but did not return more information"),
        });
        CallError::Status { code, text }
    }

    pub(super) fn transport(url: &str, error: &(dyn Error + 'static)) -> Self {
        CallError::Transport {
            url: url.to_owned(),
            reason: reason(error),
        }
    }
}

/// The innermost reason, as Go words it where clients look for it.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    loop {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::UnexpectedEof {
                return "EOF".to_owned();
            }
            // An error that wraps another shows the same text itself.
            match io.get_ref() {
                Some(wrapped) => match wrapped.downcast_ref::<rustls::Error>() {
                    Some(tls) => return tls_reason(tls),
                    None => return io.to_string(),
                },
                None => return said(io).map_or_else(|| io.to_string(), str::to_owned),
            }
        }
        match inner.source() {
            Some(source) => inner = source,
            None => return inner.to_string(),
        }
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    let text = match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "certificate signed by unknown authority".to_owned(),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "certificate has expired or is not yet valid".to_owned(),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("certificate is not valid for that name: {error}"),
        Error::InvalidCertificate(other) => other.to_string(),
        other => return format!("remote error: tls: {other}"),
    };
    format!("tls: failed to verify certificate: x509: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_connection_is_told_as_go_does() {
        let cut = io::Error::from_raw_os_error(104);
        let told = CallError::transport("https://hook/", &cut).to_string();
        assert_eq!(told, "Post \"https://hook/\": connection reset by peer");
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words_if_it_has_any() {
        let text = |code: u16, body: &str| {
            CallError::status(StatusCode::from_u16(code).unwrap(), true, body.as_bytes())
                .to_string()
        };
        assert_eq!(
            text(500, "boom"),
            "an error on the server (\"boom\") has prevented the request from succeeding"
        );
        assert_eq!(
            text(500, ""),
            "an error on the server (\"\") has prevented the request from succeeding"
        );
        assert_eq!(
            text(503, "away"),
            "the server is currently unable to handle the request"
        );
        assert_eq!(
            text(404, "404 page not found"),
            "the server could not find the requested resource"
        );
        assert_eq!(
            text(409, r#"{"kind":"Status","message":"not now"}"#),
            "not now"
        );
    }
}

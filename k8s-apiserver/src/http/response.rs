//! Answers: JSON, YAML or protobuf, compressed where it pays.

use http::{HeaderValue, Response, StatusCode, Uri, header};
use k8s_model::protobuf::{self, EncodeError};
use serde::Serialize;

use super::{
    body::Body,
    gzip,
    negotiate::{Format, Wanted, not_acceptable},
};
use crate::{Error, Result};

/// An answer with a body that is JSON already, in the format that is wanted.
pub(crate) fn json(code: StatusCode, wanted: &Wanted, body: Body) -> Result<Response<Body>> {
    let body = match wanted.format {
        Format::Json if !wanted.pretty => body,
        Format::Json => Body::from(indent(&join(body)?)),
        Format::Yaml => {
            let value: serde_json::Value =
                serde_json::from_slice(&join(body)?).map_err(Error::internal)?;
            Body::from(serde_saphyr::to_string(&value).map_err(Error::internal)?)
        }
        Format::Protobuf => {
            let encoded = protobuf::encode(&join(body)?);
            Body::from(encoded.map_err(|error| match error {
                EncodeError::UnknownKind { .. } => not_acceptable(),
                error => Error::internal(error),
            })?)
        }
    };
    Ok(encoded(code, wanted, body))
}

/// An answer with a body that is in the format that is wanted already.
pub(crate) fn encoded(code: StatusCode, wanted: &Wanted, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(wanted.format.media_type()),
    );
    compressed(response, wanted)
}

/// An answer, compressed if it is long and the client takes that.
pub(crate) fn compressed(response: Response<Body>, wanted: &Wanted) -> Response<Body> {
    if !wanted.gzip {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let (body, compressed) = gzip::compress(body);
    if compressed {
        let headers = &mut parts.headers;
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Response::from_parts(parts, body)
}

/// An answer with a value.
pub(crate) fn value(
    code: StatusCode,
    wanted: &Wanted,
    value: &impl Serialize,
) -> Result<Response<Body>> {
    let mut bytes = serde_json::to_vec(value).map_err(Error::internal)?;
    bytes.push(b'\n');
    json(code, wanted, Body::from(bytes))
}

/// The answer to a request that was refused.
pub(crate) fn error(error: &Error, wanted: &Wanted) -> Response<Body> {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(
        code,
        &Wanted {
            gzip: false,
            ..*wanted
        },
        error.status(),
    )
    .unwrap_or_else(|_| text(code, error.to_string()));
    let retry = error
        .status()
        .details
        .as_ref()
        .and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = retry {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The answer where the server itself failed before the request was known: upstream's `responsewriters.InternalError`, a
/// text and no `Status`.
pub(crate) fn internal(uri: &Uri, error: &str) -> Response<Body> {
    let url = uri.path_and_query().map_or("", |url| url.as_str());
    let text = format!("Internal Server Error: {url:?}: {error}\n");
    self::text(StatusCode::INTERNAL_SERVER_ERROR, sanitized(&text))
}

/// A text that nothing takes for HTML, as upstream has it.
pub(crate) fn sanitized(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The answer to somebody who may not do what they ask.
pub(crate) fn forbidden(error: &Error, wanted: &Wanted) -> Response<Body> {
    let mut response = self::error(error, wanted);
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// More is asked than can be served now.
pub(crate) fn too_many_requests() -> Response<Body> {
    let text = "Too many requests, please try again later.\n";
    self::text(StatusCode::TOO_MANY_REQUESTS, text)
}

/// What upstream's router answers where there is nothing.
pub(crate) fn page_not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn join(body: Body) -> Result<Vec<u8>> {
    let mut chunks = body
        .into_chunks()
        .map_err(|_| Error::internal("an answer that never ends has one format"))?;
    let mut out = Vec::new();
    while let Some(chunk) = chunks() {
        out.extend_from_slice(&chunk.map_err(Error::internal)?);
    }
    Ok(out)
}

/// Indents compact JSON by two spaces, keeping the order of members.
pub(crate) fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut at) = (0usize, 0);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + depth * 2, b' ');
    };
    while at < json.len() {
        match json[at] {
            b'"' => {
                let start = at;
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                out.extend_from_slice(&json[start..(at + 1).min(json.len())]);
            }
            open @ (b'{' | b'[') => {
                out.push(open);
                if matches!(json.get(at + 1), Some(b'}' | b']')) {
                    out.push(json[at + 1]);
                    at += 1;
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            close @ (b'}' | b']') => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(close);
            }
            b',' => {
                out.push(b',');
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'\n' | b' ' if depth > 0 => {}
            other => out.push(other),
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_keeps_order_and_strings() {
        let json = br#"{"b":[1,{"a":"x,{\"}"}],"c":{},"d":[]}"#;
        let text = String::from_utf8(indent(json)).unwrap();
        assert_eq!(
            text,
            "{\n  \"b\": [\n    1,\n    {\n      \"a\": \"x,{\\\"}\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}"
        );
    }
}

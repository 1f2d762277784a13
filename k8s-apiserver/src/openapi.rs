//! `/openapi/v3`: the schemas of all served resources, by group and version.
//!
//! `/openapi/v2` is there for clients that look into it when v3 does not know a kind: it says what the server
//! is, and describes nothing, since all descriptions are in v3.
//!
//! Documents are written when they are asked for: clients keep them, by the hash in their address.

use http::{HeaderValue, Response, StatusCode, header};
use k8s_model::openapi;

use crate::{
    Result,
    endpoints::{Call, cached},
    http::{Body, response, uri},
};

/// How long a client may keep a document whose hash is in its address; as upstream.
const FOREVER: &str = "public, immutable";

pub(crate) fn serve(call: &Call, path: &str) -> Result<Response<Body>> {
    let served = call.server.registry.served.load();
    let table = &served.table;
    if path == "/openapi/v2" {
        return Ok(v2(call));
    }
    if path == "/openapi/v3" {
        let index = openapi::index(table);
        return response::json(StatusCode::OK, &call.wanted.as_json(), Body::from(index));
    }
    let Some(version) = path.strip_prefix("/openapi/v3/") else {
        return Ok(response::page_not_found());
    };
    let (group, version) = match version.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return Ok(response::page_not_found()),
    };
    let hash = openapi::hash(table, group, version);
    let asked = uri::query_value(call.parts.uri.query(), "hash");
    if asked.as_deref().is_some_and(|asked| asked != hash) {
        let mut response = response::text(StatusCode::MOVED_PERMANENTLY, "");
        let address = format!("{path}?hash={hash}");
        if let Ok(address) = HeaderValue::from_str(&address) {
            response.headers_mut().insert(header::LOCATION, address);
        }
        return Ok(response);
    }
    let Some(document) = openapi::v3(table, group, version) else {
        return Ok(response::page_not_found());
    };
    let mut response = cached(call, document, &hash, "application/json");
    if asked.is_some() {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static(FOREVER));
    }
    Ok(response)
}

/// The media type of v2 in protobuf, as it is asked for and as it is answered.
const V2_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_ANSWERED: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

fn v2(call: &Call) -> Response<Body> {
    let title = "Kubernetes";
    let version = format!("v1.{}.0", crate::version::minor());
    let accept = call
        .parts
        .headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok());
    let (body, media_type) = if accept.is_some_and(|accept| accept.contains(V2_ASKED)) {
        // Fields 1 (`swagger`), 2 (`info`, with 1 `title` and 2 `version`) and 8 (`paths`, empty); every
        // length fits one byte.
        let info = [field(1, title.as_bytes()), field(2, version.as_bytes())].concat();
        let document = [field(1, b"2.0"), field(2, &info), field(8, b"")].concat();
        (document, V2_ANSWERED)
    } else {
        let document = serde_json::json!({
            "swagger": "2.0", "info": {"title": title, "version": version}, "paths": {},
        });
        (document.to_string().into_bytes(), "application/json")
    };
    let mut response = Response::new(Body::from(body));
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

/// A field of bytes, fewer than 128, in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or_default();
    [&[number << 3 | 2, length], bytes].concat()
}

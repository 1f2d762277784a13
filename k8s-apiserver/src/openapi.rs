//! `/openapi/v3`: the schemas of all served resources, by group and version.
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
    let table = call.server.registry.table;
    if path == "/openapi/v3" {
        let index = openapi::index(table);
        return response::json(StatusCode::OK, &call.wanted, Body::from(index));
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

//! `/openapi/v3`: the schemas of all served resources, by group and version.
//!
//! `/openapi/v2` has the same in one document, for older clients.
//!
//! Documents are written when they are asked for: clients keep them, by the hash in their address.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use k8s_model::openapi::{
    self,
    v2::{self, Form},
};

use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    endpoints::{Call, cached},
    http::{Body, response, uri},
    registry::Served,
};

/// How long a client may keep a document whose hash is in its address; as upstream.
const FOREVER: &str = "public, immutable";

pub(crate) async fn serve(call: &Call, path: &str) -> Result<Response<Body>> {
    let served = call.server.registry.served.load_full();
    if path == "/openapi/v2" {
        return whole(call, served).await;
    }
    let table = &served.table;
    if path == "/openapi/v3" {
        let index = openapi::index(table);
        return response::json(StatusCode::OK, &call.wanted.as_json(), Body::from(index));
    }
    let Some(below) = path.strip_prefix("/openapi/v3/") else {
        return Ok(response::page_not_found());
    };
    let version = match below.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", *version)),
        ["apis", group, version] => Some((*group, *version)),
        _ => None,
    };
    let hash = match version {
        Some((group, version)) => openapi::hash(table, group, version),
        None => openapi::place_hash(below),
    };
    let document = match version {
        Some((group, version)) => openapi::v3(table, group, version),
        None => openapi::place(table, below),
    };
    let Some(document) = document else {
        return Ok(response::page_not_found());
    };
    let asked = uri::query_value(call.parts.uri.query(), "hash");
    if asked.as_deref().is_some_and(|asked| asked != hash) {
        let mut response = response::text(StatusCode::MOVED_PERMANENTLY, "");
        let address = format!("{path}?hash={hash}");
        if let Ok(address) = HeaderValue::from_str(&address) {
            response.headers_mut().insert(header::LOCATION, address);
        }
        return Ok(response);
    }
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

/// All group versions in one document of v2, those of servers behind too. It is long, rarely asked for and kept by clients, which
/// come back with its tag: so it is written anew, away from what serves requests.
async fn whole(call: &Call, served: Arc<Served>) -> Result<Response<Body>> {
    let mut accept = call.parts.headers.get_all(header::ACCEPT).iter();
    let in_protobuf = accept.any(|v| v.to_str().is_ok_and(|v| v.contains(V2_ASKED)));
    let (form, media_type, mark) = match in_protobuf {
        true => (Form::Protobuf, V2_ANSWERED, "P"),
        false => (Form::Json, "application/json", "J"),
    };
    let (others, tags) = call.server.aggregation.specifications();
    let mut tag = format!("{mark}{}", v2::hash(&served.table));
    if !tags.is_empty() {
        let digest = Sha256::digest(&tags);
        tag.extend(digest[..8].iter().map(|b| format!("{b:02X}")));
    }
    let known = cached(call, Bytes::new(), &tag, media_type);
    if known.status() == StatusCode::NOT_MODIFIED {
        return Ok(known);
    }
    let written = move || v2::merged(&served.table, form, others);
    let document = tokio::task::spawn_blocking(written).await;
    let answer = cached(call, document.map_err(Error::internal)?, &tag, media_type);
    Ok(response::compressed(answer, &call.wanted))
}

//! Paths that are no resources: discovery, version, health, metrics, OpenAPI.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::Call;
use crate::{
    Error, Result,
    discovery::{Form, in_order},
    flow::Dump,
    http::{Body, negotiate::not_produced_but, response, uri},
};

/// Where others find out by which keys tokens of service accounts are signed.
const OPENID_CONFIGURATION: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/openid/v1/jwks";

const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

pub(crate) async fn serve(call: Call, refused: Option<Error>) -> Result<Response<Body>> {
    let aggregation = call.server.aggregation.clone();
    let call = match aggregation.path(call, &refused).await? {
        Ok(answer) => return Ok(answer),
        Err(call) => call,
    };
    let path = call.info.path.as_str();
    let trimmed = path.trim_end_matches('/');
    // These don't look at the method.
    if let Some(answer) = health(&call, trimmed).await {
        return Ok(answer);
    }
    if let Some(dump) = flow_dump(&call).and_then(|dump| {
        let now = call.server.registry.now();
        call.server.flow.dump(dump, now)
    }) {
        return Ok(response::text(StatusCode::OK, dump));
    }
    if !described(&call, trimmed) {
        return Err(Error::no_such_path());
    }
    if let Some(produced) = produced(&call, trimmed) {
        if call.parts.method != Method::GET {
            return Err(Error::method_not_allowed());
        }
        if let Some(media_type) = produced
            && let Some(error) = not_produced_but(&call.parts.headers, media_type)
        {
            return Err(error);
        }
    }
    match trimmed {
        "" => return index(&call),
        "/version" => {
            // Upstream indents it for everybody.
            let info = serde_json::to_string_pretty(&crate::version::info());
            let info = Body::from(info.map_err(Error::internal)?);
            return response::json(StatusCode::OK, &call.wanted.as_json(), info);
        }
        // That would set them back.
        "/metrics" | "/metrics/slis" if call.parts.method == Method::DELETE => {
            return Ok(response::page_not_found());
        }
        "/metrics" => return Ok(page(crate::metrics::page(&call.server).await)),
        "/metrics/slis" => return Ok(page(call.server.checked.page())),
        OPENID_CONFIGURATION => {
            let address = match call.server.address.as_str() {
                "" => call.server.tokens.issuer().trim_end_matches('/').to_owned(),
                address => format!("https://{address}"),
            };
            let document = call.server.tokens.discovery(&format!("{address}{JWKS}"));
            return Ok(openid(&document, "application/json"));
        }
        JWKS => {
            return Ok(openid(
                &call.server.tokens.jwks(),
                "application/jwk-set+json",
            ));
        }
        "/api" | "/apis" => {
            let accept = call
                .parts
                .headers
                .get(header::ACCEPT)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            let form = Form::from_accept(accept);
            if form != Form::Legacy {
                return Ok(aggregated(&call, trimmed, form));
            }
        }
        _ => {}
    }
    if trimmed.starts_with("/openapi/") {
        return crate::openapi::serve(&call, trimmed).await;
    }
    if let Some(document) = call
        .server
        .registry
        .served
        .load()
        .discovery()
        .legacy(trimmed)
    {
        if let Some(error) = refused {
            return Err(error);
        }
        return response::json(StatusCode::OK, &call.wanted, Body::from(document));
    }
    // A version that a group doesn't have.
    let group = trimmed
        .strip_prefix("/apis/")
        .and_then(|rest| rest.split_once('/'));
    if trimmed.starts_with("/api/") || group.is_some_and(|(group, _)| super::is_builtin(group)) {
        return Err(Error::no_such_path());
    }
    Ok(response::page_not_found())
}

/// The media type of what is read at a path and cannot be asked for anything else; nothing of those where everything is
/// an answer to all methods, and no media type where there are several.
fn produced(call: &Call, path: &str) -> Option<Option<&'static str>> {
    match path {
        "/version" | OPENID_CONFIGURATION => return Some(Some("application/json")),
        JWKS => return Some(Some("application/jwk-set+json")),
        _ => {}
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let served = call.server.registry.served.load();
    let is_there = || served.discovery().legacy(path).is_some();
    let is_routed = match parts[..] {
        ["api"] | ["api", _] => is_there(),
        ["apis", group, version] => {
            is_there() && call.server.registry.fixed.contains(&(group, version))
        }
        _ => false,
    };
    is_routed.then_some(None)
}

/// Whether upstream's router knows nothing at a path and says so, as there is something above.
fn described(call: &Call, path: &str) -> bool {
    let above = ["/version", OPENID_CONFIGURATION, JWKS];
    let is_below = above.iter().any(|above| {
        let rest = path.strip_prefix(above);
        rest.is_some_and(|rest| rest.starts_with('/'))
    });
    !is_below || call.info.is_resource
}

/// What a health check says, if one is meant.
async fn health(call: &Call, path: &str) -> Option<Response<Body>> {
    for kind in HEALTH {
        match path.strip_prefix(kind) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let one = rest.trim_start_matches('/');
                return Some(crate::health::serve(call, kind, one).await);
            }
            _ => {}
        }
    }
    None
}

/// Which table of flow control is asked for, if one is.
fn flow_dump(call: &Call) -> Option<Dump> {
    let table = call
        .info
        .path
        .strip_prefix("/debug/api_priority_and_fairness/dump_")?;
    match table {
        "priority_levels" => Some(Dump::Levels),
        "queues" => Some(Dump::Queues),
        "requests" => {
            let details = uri::query_value(call.parts.uri.query(), "includeRequestDetails");
            Some(Dump::Requests {
                details: details.is_some_and(|value| !value.is_empty()),
            })
        }
        _ => None,
    }
}

fn aggregated(call: &Call, path: &str, form: Form) -> Response<Body> {
    let served = call.server.registry.served.load();
    let Some((document, tag)) = served.discovery().aggregated(path, form) else {
        return response::page_not_found();
    };
    cached(call, document, tag, form.content_type())
}

/// A document that a client may keep as long as its tag holds.
pub(crate) fn cached(
    call: &Call,
    document: Bytes,
    tag: &str,
    content_type: &'static str,
) -> Response<Body> {
    let tag = format!("\"{tag}\"");
    let same = call
        .parts
        .headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split(',').any(|t| t.trim() == tag));
    let mut response = Response::new(if same {
        Body::empty()
    } else {
        Body::from(document)
    });
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn index(call: &Call) -> Result<Response<Body>> {
    let served = call.server.registry.served.load();
    let mut paths: Vec<String> = served.discovery().paths().map(str::to_owned).collect();
    for kind in HEALTH {
        paths.push(kind.to_owned());
        paths.extend(crate::health::checks(kind).map(|check| format!("{kind}/{check}")));
    }
    paths.extend(
        [
            OPENID_CONFIGURATION,
            "/apis/",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/",
            JWKS,
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.sort_unstable();
    response::value(
        StatusCode::OK,
        &call.wanted.as_json(),
        &json!({"paths": paths}),
    )
}

fn openid(document: &serde_json::Value, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(in_order(document)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    let hour = HeaderValue::from_static("public, max-age=3600");
    headers.insert(header::CACHE_CONTROL, hour);
    response
}

/// A page of metrics.
fn page(text: String) -> Response<Body> {
    let mut response = response::text(StatusCode::OK, text);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

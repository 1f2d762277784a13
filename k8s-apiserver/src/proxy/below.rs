//! What the proxies of pods, Services and nodes do so that a backend can live below a path: as upstream's
//! `apimachinery/pkg/util/proxy`.

use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority,
};
use k8s_streaming::is_upgrade;

use super::{
    dial::ByteStream,
    forward::{Forwarder, drop_connection_headers},
    links::rewritten,
    target::{path_and_query, prefix},
};
use crate::{Error, http::Body};

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// What a backend allows other sites is not for the API server's clients.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// The answer to who reads a proxy's own path: relative links need its slash. `depth` is how many segments it has.
pub(super) fn with_slash(request: &Request<Body>, depth: usize) -> Option<Response<Body>> {
    let (uri, method) = (request.uri(), request.method());
    let reads = matches!(*method, Method::GET | Method::HEAD) && !is_upgrade(request.headers());
    if !reads || prefix(uri, depth) != uri.path() {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}"));
    let place = format!("{}/{}", uri.path(), query.unwrap_or_default());
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let place = HeaderValue::from_str(&place).ok()?;
    answer.headers_mut().insert(header::LOCATION, place);
    Some(answer)
}

impl Forwarder {
    /// As [`forward`](Self::forward), to a backend below a path of so many segments, which hears of that and of the host
    /// that the client knows.
    pub(super) async fn below(
        &self,
        stream: Box<dyn ByteStream>,
        backend: &str,
        (depth, rest): (usize, &str),
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let uri = request.uri().clone();
        let path = path_and_query(&uri, depth, rest);
        let host = request.headers().get(header::HOST);
        let host = (host.and_then(|host| host.to_str().ok()))
            .or_else(|| uri.authority().map(Authority::as_str))
            .unwrap_or(backend)
            .to_owned();
        if is_upgrade(request.headers()) {
            return self.forward(stream, &host, &path, request).await;
        }
        drop_connection_headers(request.headers_mut());
        if let Ok(value) = HeaderValue::from_str(uri.path()) {
            request.headers_mut().insert(FORWARDED_URI, value);
        }
        let mut answer = self.forward(stream, &host, &path, request).await?;
        let headers = answer.headers_mut();
        for name in CORS {
            headers.remove(name);
        }
        let (prefix, backend) = (prefix(&uri, depth).to_owned(), backend.to_owned());
        let moved = move |place: &str| moved(place, &prefix, &backend, &host);
        let Some(place) = headers.get(header::LOCATION) else {
            return Ok(rewritten(answer, moved));
        };
        let place = place.to_str().ok().and_then(moved);
        if let Some(place) = place.and_then(|place| HeaderValue::from_str(&place).ok()) {
            headers.insert(header::LOCATION, place);
        }
        Ok(answer)
    }
}

/// Where the client finds a place that the backend names, if that is another: one at the backend, by its own address or
/// the client's name for it.
fn moved(place: &str, prefix: &str, backend: &str, client: &str) -> Option<String> {
    let is_scheme = |text: &str| {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        text.is_empty() || text.strip_suffix(':').is_some_and(|s| s.chars().all(part))
    };
    let (host, path) = match place.split_once("//") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (&rest[..end], &rest[end..])
        }
        _ => ("", place),
    };
    if !path.starts_with('/') || !["", backend, client].contains(&host) {
        return None;
    }
    let origin = match host == client {
        true => &place[..place.len() - path.len()],
        false => "",
    };
    let prefix = match path.starts_with(prefix) {
        true => "",
        false => prefix,
    };
    Some(format!("{origin}{prefix}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_at_the_backend_are_below_the_proxy() {
        let prefix = "/api/v1/nodes/n/proxy";
        for (place, wanted) in [
            ("/a/?q=1#f", Some("/api/v1/nodes/n/proxy/a/?q=1#f")),
            ("http://10.0.0.7:80/a", Some("/api/v1/nodes/n/proxy/a")),
            ("//10.0.0.7:80/a", Some("/api/v1/nodes/n/proxy/a")),
            (
                "https://api:6443/a",
                Some("https://api:6443/api/v1/nodes/n/proxy/a"),
            ),
            ("/api/v1/nodes/n/proxy/b", Some("/api/v1/nodes/n/proxy/b")),
            (
                "/a?to=http://x/y",
                Some("/api/v1/nodes/n/proxy/a?to=http://x/y"),
            ),
            ("a/b", None),
            ("?q=1", None),
            ("http://10.0.0.7:80", None),
            ("http://example.com/a", None),
        ] {
            let found = moved(place, prefix, "10.0.0.7:80", "api:6443");
            assert_eq!(found.as_deref(), wanted, "{place}");
        }
    }

    #[test]
    fn only_who_reads_the_path_itself_is_sent_to_its_slash() {
        let to = |method: &str, uri: &str| {
            let request = Request::builder().method(method).uri(uri);
            let answer = with_slash(&request.body(Body::empty()).unwrap(), 5)?;
            assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
            let place = answer.headers()[header::LOCATION].to_str().unwrap();
            Some(place.to_owned())
        };
        let found = to("GET", "/api/v1/nodes/n/proxy?q=1");
        assert_eq!(found.as_deref(), Some("/api/v1/nodes/n/proxy/?q=1"));
        let found = to("HEAD", "/api/v1/nodes/n/proxy");
        assert_eq!(found.as_deref(), Some("/api/v1/nodes/n/proxy/"));
        assert_eq!(to("POST", "/api/v1/nodes/n/proxy"), None);
        assert_eq!(to("GET", "/api/v1/nodes/n/proxy/"), None);
        assert_eq!(to("GET", "/api/v1/nodes/n/proxy/a"), None);
    }
}

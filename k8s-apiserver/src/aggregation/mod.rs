//! Aggregation: groups that other API servers serve, as if they were this server's own.
//!
//! An `APIService` names a group, a version, and the Service of the API server behind it. Requests are authenticated and
//! authorized here, and passed on over TLS with the user's name and groups in headers; discovery and OpenAPI have
//! what is behind, too. See
//! <https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/>.
//!
//! What differs: a group and version that the server serves itself stays with it, whatever an APIService says; the
//! Service's endpoints are reached directly (upstream's `--enable-aggregator-routing`).

mod availability;
mod backend;
mod discovery;
pub(crate) mod registration;
mod table;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use k8s_model::openapi::v2::Foreign;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{backend::Backend, table::Table};
use crate::{
    Result,
    admission::{
        follow::Follower,
        reader::{ObjectReader, RawEvent},
    },
    auth::{Identity, RequestHeaders},
    endpoints::Call,
    http::{Body, response},
    metrics::{Counts, Writer, quoted},
    pki::FrontProxy,
    proxy::Forwarder,
    registry::Registry,
};

const GROUP: &str = "apiregistration.k8s.io";
const RESOURCE: &str = "apiservices";

/// The API servers behind this one.
pub(crate) struct Aggregation {
    table: Arc<Table>,
    reader: Arc<dyn ObjectReader>,
    identity: ArcSwapOption<FrontProxy>,
    forwarder: Forwarder,
    following: OnceLock<Follower>,
    /// How often APIServices became unavailable, by name and reason.
    lost: Counts,
}

impl std::fmt::Debug for Aggregation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregation").finish_non_exhaustive()
    }
}

impl Aggregation {
    pub(crate) fn new(reader: Arc<dyn ObjectReader>, identity: Option<FrontProxy>) -> Arc<Self> {
        Arc::new(Aggregation {
            table: Arc::default(),
            reader,
            identity: ArcSwapOption::new(identity.map(Arc::new)),
            forwarder: Forwarder::default(),
            following: OnceLock::new(),
            lost: Counts::default(),
        })
    }

    /// What is shown to the servers behind from now on.
    pub(crate) fn show(&self, identity: FrontProxy) {
        self.identity.store(Some(Arc::new(identity)));
    }

    /// Follows the APIServices, in tasks of the server's own; with `register`, keeps those of custom
    /// resources too, from when it becomes true on: then all definitions are known.
    pub(crate) fn start(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
        register: Option<watch::Receiver<bool>>,
    ) {
        if registry.stored_row(GROUP, RESOURCE).is_none() {
            return;
        }
        let mut follower = Follower::new();
        let (table, weak) = (self.table.clone(), Arc::downgrade(registry));
        follower.follow(&*self.reader, GROUP, RESOURCE, move |event| {
            let deleted = matches!(event, RawEvent::Deleted(_));
            table.apply(event);
            // One that the server keeps comes back.
            if deleted && let Some(registry) = weak.upgrade() {
                registry.served_changed.notify_one();
            }
        });
        let _ = self.following.set(follower);
        if let Some(defined) = register {
            let keeping = registration::run(registry.clone(), registry.fork_random(), defined);
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(keeping).await;
            });
        }
        let (this, registry, stop) = (self.clone(), registry.clone(), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(availability::run(this, registry))
                .await;
        });
    }

    pub(crate) fn write_metrics(&self, out: &mut Writer) {
        let mut all = self.table.all();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        if all.is_empty() {
            return;
        }
        out.family(
            "aggregator_unavailable_apiservice",
            "gauge",
            "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.",
        );
        for backend in &all {
            let unavailable = !backend.is_local() && !backend.is_available();
            let labels = format!("name=\"{}\"", quoted(&backend.name));
            out.sample("", &labels, f64::from(u8::from(unavailable)));
        }
        self.lost.write(
            out,
            "aggregator_unavailable_apiservice_total",
            "[ALPHA] Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
        );
    }

    /// Who serves the group and version, if that is somebody else.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Backend>> {
        let all = self.table.proxied();
        all.iter()
            .find(|b| b.group == group && b.version == version)
            .cloned()
    }

    /// The OpenAPI v2 documents of the servers behind, the most important first; and what changes when they do.
    pub(crate) fn specifications(&self) -> (Vec<Foreign>, String) {
        let all = self.table.proxied();
        let found = all.iter().filter_map(|backend| backend.found().spec);
        let mut tags = String::new();
        let documents = found
            .filter(|spec| !spec.document.is_empty())
            .map(|spec| {
                tags.push_str(&spec.tag);
                spec.document.clone()
            })
            .collect();
        (documents, tags)
    }

    /// Passes a request on.
    pub(crate) async fn pass_on(
        &self,
        backend: &Backend,
        call: Call,
        body: Body,
    ) -> Result<Response<Body>> {
        if !backend.is_available() {
            return Ok(unavailable("service unavailable"));
        }
        let mut parts = call.parts;
        // The client says which headers are its connection's alone: what is said of it must not be among them.
        crate::proxy::drop_connection_headers(&mut parts.headers);
        identify(&mut parts.headers, &call.user);
        let answer = self.send(backend, Request::from_parts(parts, body)).await?;
        if leads_elsewhere(&answer) {
            let text = "the backend attempted to redirect this request, which is not permitted";
            return Ok(response::text(StatusCode::BAD_GATEWAY, text));
        }
        Ok(answer)
    }

    async fn send(&self, backend: &Backend, request: Request<Body>) -> Result<Response<Body>> {
        let Some((host, port)) = backend.address(&*self.reader).await? else {
            return Ok(unavailable("service unavailable"));
        };
        let identity = self.identity.load_full();
        let stream = match backend.dial(&host, port, identity.as_deref()).await {
            Ok(stream) => stream,
            Err(error) => {
                let text = format!("error trying to reach service: {error}");
                return Ok(unavailable(text));
            }
        };
        let path = request
            .uri()
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string);
        let host = backend.server_name();
        match self.forwarder.forward(stream, &host, &path, request).await {
            Ok(response) => Ok(response),
            Err(error) => Ok(unavailable(error.to_string())),
        }
    }

    /// Asks the server behind for a path, as the aggregator itself; for what has another tag than what is known, if
    /// something is.
    async fn ask(
        &self,
        backend: &Backend,
        path: &str,
        known: Option<&str>,
    ) -> Result<Response<Body>> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path.parse().map_err(crate::Error::internal)?;
        let headers = request.headers_mut();
        let accept = HeaderValue::from_static("application/json");
        headers.insert(http::header::ACCEPT, accept);
        if let Some(tag) = known.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(http::header::IF_NONE_MATCH, tag);
        }
        identify(
            headers,
            &Identity::user("system:kube-aggregator").group("system:masters"),
        );
        self.send(backend, request).await
    }

    /// The ConfigMap by which API servers behind know this one, and its clients.
    pub(crate) fn authentication(&self) -> Option<ConfigMap> {
        let identity = self.identity.load_full()?;
        // What this server tells is what it believes itself.
        let headers = RequestHeaders::new([crate::pki::FRONT_PROXY_CLIENT]);
        let list = |values: &[String]| serde_json::json!(values).to_string();
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some("kube-system".to_owned());
        map.metadata.name = Some("extension-apiserver-authentication".to_owned());
        let data = [
            ("client-ca-file", identity.client_ca.clone()),
            ("requestheader-client-ca-file", identity.ca.clone()),
            ("requestheader-allowed-names", list(&headers.allowed_names)),
            (
                "requestheader-username-headers",
                list(&headers.username_headers),
            ),
            ("requestheader-uid-headers", list(&headers.uid_headers)),
            ("requestheader-group-headers", list(&headers.group_headers)),
            (
                "requestheader-extra-headers-prefix",
                list(&headers.extra_header_prefixes),
            ),
        ];
        map.data = Some(data.map(|(k, v)| (k.to_owned(), v)).into());
        Some(map)
    }
}

/// Whether an answer sends the client to another place: it would go there with the credentials that it has for this
/// server (CVE-2022-3172).
fn leads_elsewhere(answer: &Response<Body>) -> bool {
    let location = answer.headers().get(http::header::LOCATION);
    answer.status().is_redirection() && location.is_some_and(|location| !location.is_empty())
}

fn unavailable(text: impl Into<String>) -> Response<Body> {
    let mut text: String = text.into();
    text.push('\n');
    response::text(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Says who the user is, whatever the client says.
fn identify(headers: &mut HeaderMap, user: &Identity) {
    let told: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in told {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        for value in values {
            add(&name, value);
        }
    }
}

/// A key as part of a header's name: what is no token is written `%2F`.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_said_by_the_server_and_not_by_the_client() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        let mut user = Identity::user("bob").group("dev").group("ops");
        user.uid = "u1".to_owned();
        let key = "example.com/Team".to_owned();
        user.extra.insert(key, vec!["x".to_owned()]);
        identify(&mut headers, &user);
        assert_eq!(headers["x-remote-user"], "bob");
        assert_eq!(headers["x-remote-uid"], "u1");
        assert_eq!(headers.get_all("x-remote-group").iter().count(), 2);
        assert_eq!(headers["x-remote-extra-example.com%2fteam"], "x");
        assert!(!headers.contains_key("x-remote-extra-a"));
    }
}

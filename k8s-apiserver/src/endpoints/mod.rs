//! The way of a request: who asks, for what, may they, and which part answers.

mod acting;
mod body;
mod components;
mod connect;
mod events;
mod framing;
mod lists;
mod objects;
mod paths;
mod render;
mod resources;
mod subresources;
mod table;
mod websocket;
pub(crate) mod yaml;

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use k8s_model::ResourceTable;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{
    Error, Result,
    admission::Warnings,
    audit::{self, BodyKind, Trail, Unanswered},
    auth::{AUTHENTICATED, Identity, token::is_spaced},
    authz::{Attributes, Decision, Selectors, denied},
    flow::Pass,
    http::{
        Body, RequestInfo,
        deadline::{LONGEST, deadline},
        negotiate::{Form, Wanted, not_produced},
        response, trace,
    },
    metrics::{Label, Outcome},
    registry::{CreateGate, Row},
    serve::AtLeisure,
    server::Inner,
};

use self::acting::acting;
pub(crate) use self::{body::LIMIT as BODY_LIMIT, paths::cached};

/// What those are told whose token is not seen.
const SPACED: &str = "the provided Authorization header contains extra space before the bearer token, and is ignored";

/// A request that has been let in.
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) parts: Parts,
    pub(crate) info: RequestInfo,
    pub(crate) user: Identity,
    pub(crate) wanted: Wanted,
    /// What the client is told besides the answer.
    pub(crate) warnings: Warnings,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// Answers a request.
pub(crate) async fn serve(server: Arc<Inner>, request: Request<Body>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    if let Some(refused) = framing::refused(&parts) {
        return refused;
    }
    let info = RequestInfo::new(&parts.method, &parts.uri);
    websocket::take_token(&mut parts.headers);
    let socket = match websocket::Asked::take(&mut parts, &info) {
        Ok(socket) => socket,
        Err(error) => return response::error(&error, &Wanted::default()),
    };
    let row = server
        .registry
        .row(&info.group, &info.version, &info.resource);
    let series = server
        .registry
        .requests
        .series(Label::new(row.as_deref(), &info, &parts));
    let span = trace::span(&parts.method, &parts.headers, &info);
    let started = tokio::time::Instant::now();
    let long = is_long(&info);
    let _served = (!long).then(|| server.ending.requests.token());
    let trail = server
        .audit
        .as_ref()
        .map(|audit| Trail::begin(audit.clone(), server.registry.clock.clone(), &parts));
    let name = match trail {
        Some(_) => None,
        None => audit::name(&parts.headers),
    };
    let is_watch = info.verb == "watch";
    let watched = row.clone().filter(|_| is_watch);
    let answer = answer(server.clone(), parts, body, info, row, trail.clone());
    // In a box, so that it is not copied into each of the futures around it.
    let answer = Box::pin(answer.instrument(span.clone()));
    let unanswered = Unanswered::new(trail.clone());
    let answer = match &trail {
        None => AssertUnwindSafe(answer).catch_unwind().await,
        Some(trail) => {
            let answer = Box::pin(crate::audit::CURRENT.scope(trail.clone(), answer));
            AssertUnwindSafe(answer).catch_unwind().await
        }
    };
    let mut response = answer.unwrap_or_else(|_| {
        tracing::error!("a request handler panicked");
        if let Some(trail) = &trail {
            trail.panicked();
        }
        response::error(
            &Error::internal(
                "This request caused apiserver to panic. Look in the logs for details.",
            ),
            &Wanted::default(),
        )
    });
    if let Some(trail) = &trail {
        response = trail.answered(response, long);
    }
    unanswered.end();
    if long && response.status().as_u16() < 400 {
        let watching = watched.map(|row| row.watching());
        response = response.map(|body| body.keeping((series.run(), watching)));
    }
    if let Some(socket) = socket {
        response = socket.serve(&server, response);
    }
    if !is_watch && is_tunnel(long, response.status()) {
        response.extensions_mut().insert(AtLeisure);
    }
    series.count(response.status(), started.elapsed());
    span.record("code", response.status().as_u16());
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
    response.headers_mut().extend(name);
    response
}

async fn answer(
    server: Arc<Inner>,
    parts: Parts,
    body: Body,
    info: RequestInfo,
    row: Option<Arc<Row>>,
    trail: Option<Arc<Trail>>,
) -> Response<Body> {
    if !info.is_resource && !info.api_prefix.is_empty() && info.has_verb_in_path() {
        let url = parts.uri.path_and_query().map_or("", |url| url.as_str());
        let text = format!(
            "failed to create RequestInfo: unable to determine kind and namespace from url, {url}"
        );
        return response::internal(&parts.uri, &text);
    }
    let has = |form| {
        row.as_ref().is_none_or(|row| match form {
            Form::Protobuf => row.protobuf().is_some(),
            Form::Table => {
                server.create_only(row, &info.subresource).is_none()
                    && has_table(row, info.subresource.as_str())
            }
        })
    };
    let wanted = Wanted::new(&parts.headers, parts.uri.query(), has);
    let mut misfit = None;
    let (wanted, refused) = match wanted {
        Ok(wanted) => match check_shape(&wanted, row.as_deref(), &info) {
            Ok(()) => (wanted, None),
            Err(error) => {
                misfit = Some(error);
                (Wanted::default(), None)
            }
        },
        Err(error) => {
            let routed = routed(&server, row.as_deref(), &info)
                .then(|| not_produced(&parts.headers, is_listed(&info)));
            (Wanted::default(), Some(routed.flatten().unwrap_or(error)))
        }
    };
    if server.is_draining() && info.is_resource {
        return response::error(
            &Error::service_unavailable("the server is shutting down"),
            &wanted,
        );
    }
    let long = is_long(&info);
    let deadline = match (long, deadline(parts.uri.query())) {
        (true, _) => None,
        (false, Ok(deadline)) => Some(deadline),
        (false, Err(error)) => return response::error(&error, &wanted),
    };
    let way = Way {
        trail,
        wanted,
        refused,
        misfit,
    };
    // In a box: what waits for it would else be copied with all that it has.
    let answer = Box::pin(admitted(server, parts, body, info, row, way));
    match deadline {
        None => answer.await,
        Some(deadline) => tokio::time::timeout(deadline, answer)
            .await
            .unwrap_or_else(|_| {
                let text = "request did not complete within the allotted timeout";
                response::error(&k8s_model::status::timeout(text, 0).into(), &wanted)
            }),
    }
}

/// Whether the answer may last as long as somebody looks at it.
fn is_tunnel(long: bool, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || long && status.is_success()
}

/// Whether upstream shows a subresource as a table: these it forgot.
fn has_table(row: &Row, subresource: &str) -> bool {
    match subresource {
        "ephemeralcontainers" => !row.is("", "pods"),
        "approval" => !row.is("certificates.k8s.io", "certificatesigningrequests"),
        "status" => {
            !row.is("apiextensions.k8s.io", "customresourcedefinitions")
                && !row.is("apiregistration.k8s.io", "apiservices")
        }
        _ => true,
    }
}

/// Whether upstream's router knows the path: then the router refuses media types, in words of its own. Custom resources
/// and lists of groups are served around it.
fn routed(server: &Inner, row: Option<&Row>, info: &RequestInfo) -> bool {
    if info.is_resource {
        return row.is_some_and(|row| row.custom().is_none());
    }
    let parts: Vec<&str> = info
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    match parts[..] {
        ["api"] | ["api", _] => true,
        ["apis", group, version] => server.registry.fixed.contains(&(group, version)),
        _ => false,
    }
}

/// Refuses the metadata of a list where there is an object, and the other way round.
fn check_shape(wanted: &Wanted, row: Option<&Row>, info: &RequestInfo) -> Result<()> {
    let Some(row) = row else {
        return Ok(());
    };
    let is_list = match info.verb.as_str() {
        "list" | "deletecollection" => true,
        // These are answered by somebody else, or with a `Status`.
        _ if is_long(info) || matches!(info.subresource.as_str(), "binding" | "eviction") => {
            return Ok(());
        }
        _ if row.is("", "bindings") => return Ok(()),
        "get" | "create" | "update" | "patch" => false,
        _ => return Ok(()),
    };
    let resource = &row.resource;
    let own =
        |sub: &&k8s_model::Subresource| sub.name == info.subresource && !sub.version.is_empty();
    let kind = match resource.subresources.iter().find(own) {
        Some(sub) => (sub.group, sub.kind),
        None => (resource.group, resource.kind),
    };
    let is_typed = row.custom().is_none() || !info.subresource.is_empty();
    wanted.check_shape(is_list, is_typed.then_some(kind))
}

/// What the body of a create or update is read as.
fn body_kind(row: Option<&Row>, info: &RequestInfo) -> Option<BodyKind> {
    if !matches!(info.verb.as_str(), "create" | "update") {
        return None;
    }
    let row = row?;
    let resource = &row.resource;
    let own =
        |sub: &&k8s_model::Subresource| sub.name == info.subresource && !sub.version.is_empty();
    let (api_version, kind) = match resource.subresources.iter().find(own) {
        Some(sub) => (k8s_model::api_version(sub.group, sub.version), sub.kind),
        None => (row.api_version.clone(), resource.kind),
    };
    Some(BodyKind {
        api_version,
        kind: kind.to_owned(),
    })
}

/// Whether it is a list, or a watch, which is a list there.
fn is_listed(info: &RequestInfo) -> bool {
    info.subresource.is_empty() && matches!(info.verb.as_str(), "list" | "watch")
}

/// What goes along with a request.
struct Way {
    trail: Option<Arc<Trail>>,
    wanted: Wanted,
    /// Why no answer can be written in a format that is wanted.
    refused: Option<Error>,
    /// Why what is asked for has not the shape that is wanted: told when it is there, as upstream does.
    misfit: Option<Error>,
}

/// Answers a request that has its time.
async fn admitted(
    server: Arc<Inner>,
    mut parts: Parts,
    body: Body,
    info: RequestInfo,
    row: Option<Arc<Row>>,
    way: Way,
) -> Response<Body> {
    let Way {
        trail,
        wanted,
        refused,
        misfit,
    } = way;
    let warnings = Warnings::default();
    // There is something to say of some tokens.
    if parts.headers.contains_key(header::AUTHORIZATION) {
        parts.extensions.insert(warnings.clone());
        if is_spaced(&parts.headers) {
            warnings.add(SPACED);
        }
    }
    let is_http2 = parts.version == http::Version::HTTP_2;
    let user = match authenticate(&server, &mut parts).await {
        Ok(user) => user,
        Err(error) => {
            if let Some(trail) = &trail {
                trail.unauthenticated(&parts, &info).await;
            }
            let mut response = response::error(&error, &wanted);
            warn(&mut response, &warnings.take());
            if is_http2 {
                close(&mut response);
            }
            return response;
        }
    };
    let unknown = is_http2 && user.is_anonymous();
    if let Some(trail) = &trail {
        trail.authenticated(&parts, &user, &info).await;
    }
    let user = match acting(&server, user, &mut parts, &info, trail.as_deref()).await {
        Ok(user) => user,
        Err(error) => return response::forbidden(&error, &wanted),
    };
    let long = is_long(&info);
    tracing::Span::current().record("user", user.name.as_str());
    // A watch counts until it has begun, where counting is fair.
    let pass = if long && (info.verb != "watch" || !server.flow.is_fair()) {
        None
    } else {
        match server
            .flow
            .enter(&user, &info, &parts, row.as_deref())
            .await
        {
            Ok(pass) => Some(pass),
            Err(rejected) => {
                let mut response = response::too_many_requests();
                rejected.mark(response.headers_mut());
                if unknown {
                    close(&mut response);
                }
                return response;
            }
        }
    };
    if let Err(refused) = authorize(&server, &user, &info, trail.as_deref()).await {
        let mut response = match refused {
            Refused::Forbidden(error) => response::forbidden(&error, &wanted),
            Refused::Failed(error) => response::internal(&parts.uri, &error),
        };
        warn(&mut response, &warnings.take());
        if let Some(pass) = &pass {
            pass.mark(response.headers_mut());
        }
        if unknown {
            close(&mut response);
        }
        return response;
    }
    let body = match &trail {
        Some(trail) if info.is_resource && !long => {
            trail.body(&parts, body, body_kind(row.as_deref(), &info))
        }
        _ => body,
    };
    let call = Call {
        server,
        parts,
        info,
        user,
        wanted,
        warnings: warnings.clone(),
    };
    let answer = async {
        // Upstream's router looks at the path as it is, though what is asked for can be told without these slashes.
        if call.info.path.starts_with("//") {
            Ok(response::page_not_found())
        } else if call.info.is_resource {
            match row {
                Some(row) => Box::pin(resources::serve(call, &row, body, refused)).await,
                None => Box::pin(elsewhere(call, body)).await,
            }
        } else {
            Box::pin(paths::serve(call, refused)).await
        }
    };
    let mut result = answer.await;
    if let (Ok(response), Some(error)) = (&result, misfit)
        && response.status().is_success()
    {
        result = Err(error);
    }
    let mut response = result.unwrap_or_else(|error| response::error(&error, &wanted));
    warn(&mut response, &warnings.take());
    if unknown {
        close(&mut response);
    }
    if let Some(pass) = pass {
        pass.mark(response.headers_mut());
        if response.body().is_unfinished() {
            response = response.map(|body| body.keeping(released(pass)));
        }
    }
    response
}

/// Has the connection ended that the answer is sent on, if it is one of HTTP/2: as upstream, since 1.29, those who
/// are not known do not keep what makes asking cheap.
fn close(response: &mut Response<Body>) {
    (response.headers_mut()).insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// A pass that ends with its task, or when the request has had all the time that it may take: a client that does not
/// read its answer must not keep others out.
fn released(pass: Pass) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let _pass = pass;
        tokio::time::sleep(LONGEST).await;
    }))
}

/// Whether a request lasts as long as its client wants.
fn is_long(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "watch" | "proxy")
        || matches!(
            info.subresource.as_str(),
            "exec" | "attach" | "portforward" | "proxy" | "log"
        )
}

async fn authenticate(server: &Inner, parts: &mut Parts) -> Result<Identity> {
    let user = match parts.extensions.get::<Identity>() {
        Some(user) => user.clone(),
        None => {
            let started = tokio::time::Instant::now();
            let found = server.authenticator.authenticate(parts).await;
            let outcome = match &found {
                Ok(Some(_)) => Outcome::Yes,
                Ok(None) => Outcome::No,
                Err(_) => Outcome::Otherwise,
            };
            let counted = &server.metrics.authentication;
            counted.count(outcome, started.elapsed());
            match found {
                Ok(Some(user)) => user,
                Ok(None) => return Err(Error::unauthorized()),
                Err(error) => {
                    tracing::debug!(%error, "unable to authenticate the request");
                    return Err(Error::unauthorized());
                }
            }
        }
    };
    crate::auth::request_header::strip(&mut parts.headers);
    Ok(if user.is_anonymous() {
        user
    } else {
        user.group(AUTHENTICATED)
    })
}

/// Why a request may not go on.
enum Refused {
    /// Nobody allows it.
    Forbidden(Error),
    /// Nobody allows it, and somebody could not be asked.
    Failed(String),
}

async fn authorize(
    server: &Inner,
    user: &Identity,
    info: &RequestInfo,
    trail: Option<&Trail>,
) -> Result<(), Refused> {
    let selectors = Selectors::of(info);
    let attributes = Attributes::of(user, info, selectors.as_ref());
    let started = tokio::time::Instant::now();
    let decision = server.authorizer.authorize(&attributes).await;
    let outcome = match &decision {
        Decision::Allow => Outcome::Yes,
        _ if decision.error().is_some() => Outcome::Failed,
        Decision::Deny { .. } => Outcome::No,
        Decision::NoOpinion { .. } => Outcome::Otherwise,
    };
    let counted = &server.metrics.authorization;
    counted.count(outcome, started.elapsed());
    if let Some(trail) = trail.filter(|trail| trail.is_on()) {
        let (verdict, reason) = match (decision.is_allowed(), decision.error()) {
            (true, _) => (Some("allow"), server.authorizer.explain(&attributes).await),
            // What went wrong is not for everybody who reads the log.
            (false, Some(_)) => (None, "internal error".to_owned()),
            (false, None) => (Some("forbid"), decision.reason().to_owned()),
        };
        if let Some(verdict) = verdict {
            trail.annotate("authorization.k8s.io/decision".into(), verdict.into());
        }
        trail.annotate("authorization.k8s.io/reason".into(), reason);
    }
    match (decision.is_allowed(), decision.error()) {
        (true, _) => Ok(()),
        (false, Some(error)) => Err(Refused::Failed(error.to_owned())),
        (false, None) => Err(Refused::Forbidden(denied(&attributes, decision.reason()))),
    }
}

/// Refuses those who may not create what comes to be by a request that is not called a create.
async fn allow_create(call: &Call, name: &str) -> Result<()> {
    let info = &call.info;
    let attributes = Attributes {
        verb: "create",
        name,
        resource_request: true,
        ..Attributes::of(&call.user, info, None)
    };
    let decision = call.server.authorizer.authorize(&attributes).await;
    match (decision.is_allowed(), decision.error()) {
        (true, _) => Ok(()),
        (false, Some(error)) => Err(Error::internal(error)),
        // Upstream says no more here.
        (false, None) => {
            let (group, resource) = (&info.group, &info.resource);
            Err(Error::forbidden(group, resource, name, decision.reason()))
        }
    }
}

#[async_trait]
impl CreateGate for Call {
    async fn may_create(&self, name: &str) -> Result<()> {
        allow_create(self, name).await
    }
}

/// A request for a resource that only an API server behind this one may know.
async fn elsewhere(call: Call, body: Body) -> Result<Response<Body>> {
    let info = &call.info;
    if info.api_prefix == "apis" && info.group.is_empty() {
        return Ok(response::page_not_found());
    }
    let aggregation = call.server.aggregation.clone();
    match aggregation.find(&call.info.group, &call.info.version) {
        Some(backend) => aggregation.pass_on(&backend, call, body).await,
        None if is_builtin(&call.info.group) => Err(Error::no_such_path()),
        None => Ok(response::page_not_found()),
    }
}

/// Whether upstream serves a group itself: what is not there is told by a `Status`, and not as a page.
fn is_builtin(group: &str) -> bool {
    let mut rows = ResourceTable::builtin().rows().iter();
    rows.any(|row| row.group == group)
}

/// Puts the warnings into the answer, as RFC 2616 has them.
fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let clean: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// The `Status` of something that was done.
fn success(call: &Call, code: StatusCode) -> Result<Response<Body>> {
    let status = k8s_openapi::apimachinery::pkg::apis::meta::v1::Status {
        status: Some("Success".into()),
        code: (code != StatusCode::OK).then(|| i32::from(code.as_u16())),
        ..Default::default()
    };
    response::value(code, &call.wanted, &status)
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;
    use crate::{ApiServer, auth::Standard};

    #[tokio::test]
    async fn who_is_not_known_loses_the_connection_if_it_is_of_http2() {
        let builder = ApiServer::builder().authenticator(Arc::new(Standard::new(None)));
        let server = builder.build().await.unwrap();
        let ask = async |version, path: &str, user: Option<Identity>| {
            let mut request = Request::builder().version(version).uri(path);
            if let Some(user) = user {
                request = request.extension(user);
            }
            let answer = server.handle(request.body(Body::default()).unwrap());
            let answer = answer.await;
            let closes = answer.headers().get(header::CONNECTION).cloned();
            (answer.status().as_u16(), closes)
        };
        let close = Some(HeaderValue::from_static("close"));
        for (path, code) in [("/livez", 200), ("/api/v1/pods", 401)] {
            let answer = ask(Version::HTTP_2, path, None).await;
            assert_eq!(answer, (code, close.clone()), "{path}");
            let answer = ask(Version::HTTP_11, path, None).await;
            assert_eq!(answer, (code, None), "{path}");
            let admin = Some(Identity::system_masters());
            let answer = ask(Version::HTTP_2, path, admin).await;
            assert_eq!(answer, (200, None), "{path}");
        }
    }
}

//! [`Trail`]: what is recorded of one request.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    Audit, AuthenticationMetadata, Event, Level, ObjectReference, Stage, UserInfo,
    latencies::Latencies,
    policy::Verdict,
    queue::Room,
    record::{BodyKind, Raw, Record},
};
use crate::{
    auth::{Identity, PeerCertificates},
    endpoints::BODY_LIMIT,
    http::{Body, RequestInfo, body::BoxError, uri},
    registry::Clock,
    serve::PeerAddress,
};

/// Names a request in the audit log; clients may choose the name.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const MAX_ID: usize = 64;

/// The name of a request: the client's, or a random one.
fn id_of(headers: &HeaderMap) -> String {
    let asked = headers
        .get(AUDIT_ID)
        .and_then(|v| v.to_str().ok())
        .filter(|id| !id.is_empty());
    match asked {
        Some(id) => id.chars().take(MAX_ID).collect(),
        None => {
            let random = fastrand::u128(..).to_ne_bytes();
            let id = uuid::Builder::from_random_bytes(random).into_uuid();
            id.to_string()
        }
    }
}

/// The header by which an answer names its request, where nothing is recorded of it: logs of others tell of it still.
pub(crate) fn name(headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    Some((AUDIT_ID, HeaderValue::try_from(id_of(headers)).ok()?))
}

const MAX_USER_AGENT: usize = 1024;

tokio::task_local! {
    /// The trail of the request that the task serves.
    pub(crate) static CURRENT: Arc<Trail>;
}

/// What is recorded of one request while it is served.
pub(crate) struct Trail {
    audit: Arc<Audit>,
    clock: Clock,
    id: String,
    received: Timestamp,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verdict: Verdict,
    /// Once it is known who asks.
    event: Option<Event>,
    annotations: BTreeMap<String, String>,
    latencies: Latencies,
    /// The body of the request, as it was read.
    request: Raw,
    /// For the first record that is sent.
    room: Option<Room>,
}

impl Trail {
    /// Begins; nothing is recorded before [`authenticated`](Self::authenticated).
    pub(crate) fn begin(audit: Arc<Audit>, clock: Clock, parts: &Parts) -> Arc<Self> {
        Arc::new(Trail {
            received: clock(),
            audit,
            clock,
            id: id_of(&parts.headers),
            state: Mutex::default(),
        })
    }

    /// Now it is known who asks, and so whether that is recorded.
    pub(crate) async fn authenticated(&self, parts: &Parts, user: &Identity, info: &RequestInfo) {
        let verdict = self.audit.policy.evaluate(user, info);
        self.audit.count(verdict.level);
        if verdict.level == Level::None {
            return;
        }
        let event = self.event(parts, user, info, verdict.level);
        {
            let mut state = self.state.lock();
            state.verdict = verdict;
            state.event = Some(event);
        }
        self.wait_for_room().await;
        self.send(Stage::RequestReceived, None, None);
    }

    async fn wait_for_room(&self) {
        let room = self.audit.room().await;
        self.state.lock().room = room;
    }

    /// Nobody knows who asks: recorded as far as anonymous requests would be.
    pub(crate) async fn unauthenticated(&self, parts: &Parts, info: &RequestInfo) {
        let verdict = self.audit.policy.evaluate(&Identity::default(), info);
        self.audit.count(verdict.level);
        if verdict.level == Level::None {
            return;
        }
        let event = self.event(parts, &Identity::default(), info, verdict.level);
        {
            let mut state = self.state.lock();
            state.verdict = verdict;
            state.event = Some(event);
        }
        self.wait_for_room().await;
        let attempted = attempted(parts);
        let text = match attempted.is_empty() {
            true => "Authentication failed, no credentials provided".to_owned(),
            false => format!("Authentication failed, attempted: {}", attempted.join(", ")),
        };
        let status = json!({"metadata": {}, "status": "Failure", "message": text, "reason": "Unauthorized", "code": 401});
        self.send(Stage::ResponseStarted, Some(status), None);
        // That was all.
        self.state.lock().event = None;
    }

    /// The user acts as another one, by that verb if it is not the classic one.
    pub(crate) fn impersonated(&self, user: &Identity, constraint: Option<&str>) {
        if let Some(event) = &mut self.state.lock().event {
            event.impersonated_user = Some(UserInfo::from(user));
            event.authentication_metadata = constraint.map(|verb| AuthenticationMetadata {
                impersonation_constraint: verb.to_owned(),
            });
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.state.lock().event.is_some()
    }

    /// Whether the objects of the request are recorded.
    pub(crate) fn records_requests(&self) -> bool {
        let state = self.state.lock();
        let event = state.event.as_ref();
        event.is_some_and(|event| event.level >= Level::Request)
    }

    /// What was read as an object is recorded as such: with its defaults, and without what it does not have.
    pub(crate) fn object_read(&self, json: Vec<u8>) {
        let request = &mut self.state.lock().request;
        *request = Raw::json(json, request.kind.take());
    }

    pub(crate) fn waited_for_webhooks(&self, step: &'static str, took: Duration) {
        self.state.lock().latencies.add(step, took);
    }

    pub(crate) fn annotate(&self, key: String, value: String) {
        let mut state = self.state.lock();
        if state.event.is_some() {
            state.annotations.entry(key).or_insert(value);
        }
    }

    /// As [`annotate`](Self::annotate), before it is known whether the request is recorded.
    pub(crate) fn annotate_early(&self, key: &str, value: String) {
        let annotations = &mut self.state.lock().annotations;
        annotations.entry(key.to_owned()).or_insert(value);
    }

    /// The body of the request, which is recorded while it is read.
    pub(crate) fn body(
        self: &Arc<Self>,
        parts: &Parts,
        body: Body,
        kind: Option<BodyKind>,
    ) -> Body {
        if !self.is_on() || body.is_empty() {
            return body;
        }
        self.state.lock().request = Raw {
            // Nobody unpacks what clients send: it may be a thousand times as long as what is taken.
            gzip: false,
            kind,
            ..Raw::of(&parts.headers)
        };
        let trail = self.clone();
        Body::wrap(body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                let request = &mut trail.state.lock().request;
                request.len += data.len();
                if request.len <= BODY_LIMIT {
                    request.slices.push(data.clone());
                } else {
                    // The request will be refused.
                    request.slices.clear();
                }
            }
            frame
        }))
    }

    /// The answer is there: recorded now, or, if `long`, now and when its body ends, which is at once if it is refused.
    pub(crate) fn answered(
        self: &Arc<Self>,
        response: Response<Body>,
        long: bool,
    ) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            parts.headers.insert(AUDIT_ID, id);
        }
        let level = match &self.state.lock().event {
            Some(event) => event.level,
            None => return Response::from_parts(parts, body),
        };
        let status = json!({"metadata": {}, "code": parts.status.as_u16()});
        if long && parts.status.as_u16() < 400 {
            self.send(Stage::ResponseStarted, Some(status.clone()), None);
            // What lasts must not keep others out, if no record of it was sent so far.
            self.state.lock().room = None;
            let body = Body::wrap(Ending {
                body,
                trail: self.clone(),
                status,
            });
            return Response::from_parts(parts, body);
        }
        let mut recorded = None;
        let body = if level >= Level::RequestResponse || parts.status.as_u16() >= 400 {
            match body.into_chunks() {
                Ok(next) => match std::iter::from_fn(next).collect::<Result<Vec<Bytes>, _>>() {
                    Ok(slices) => {
                        let mut raw = Raw::of(&parts.headers);
                        raw.slices.clone_from(&slices);
                        recorded = Some(raw);
                        Body::from_slices(slices)
                    }
                    Err(error) => Body::from_stream(futures::stream::once(async { Err(error) })),
                },
                Err(body) => body,
            }
        } else {
            body
        };
        if long {
            self.send(
                Stage::ResponseStarted,
                Some(status.clone()),
                recorded.clone(),
            );
        }
        self.send(Stage::ResponseComplete, Some(status), recorded);
        Response::from_parts(parts, body)
    }

    /// The server failed in an unforeseen way.
    pub(crate) fn panicked(&self) {
        let status = json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError",
            "message": "APIServer panic'd", "code": StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
        });
        self.send(Stage::Panic, Some(status), None);
        self.state.lock().event = None;
    }

    /// Nobody waits for the answer any more. What was begun may have been done all the same.
    pub(crate) fn left(&self) {
        let status = json!({
            "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200,
        });
        self.send(Stage::ResponseComplete, Some(status), None);
    }

    fn send(&self, stage: Stage, status: Option<Value>, response: Option<Raw>) {
        let now = match stage {
            Stage::RequestReceived => self.received,
            _ => (self.clock)(),
        };
        let (record, room) = {
            let mut state = self.state.lock();
            let Some(event) = &state.event else { return };
            if state.verdict.omit_stages.contains(&stage) {
                return;
            }
            let mut annotations = state.annotations.clone();
            if stage == Stage::ResponseComplete {
                let took = now.duration_since(self.received);
                annotations.extend(state.latencies.annotations(took));
            }
            let record = Record {
                event: Event {
                    stage,
                    stage_timestamp: micros(now),
                    response_status: status,
                    annotations,
                    ..event.clone()
                },
                request: state.request.clone(),
                response,
                omit_managed_fields: state.verdict.omit_managed_fields,
            };
            (record, state.room.take())
        };
        self.audit.send(record, room);
    }

    fn event(&self, parts: &Parts, user: &Identity, info: &RequestInfo, level: Level) -> Event {
        let agent = parts
            .headers
            .get(header::USER_AGENT)
            .map(|v| String::from_utf8_lossy(v.as_bytes()))
            .unwrap_or_default();
        let user_agent = match agent.char_indices().nth(MAX_USER_AGENT) {
            Some((at, _)) => format!("{}...TRUNCATED", &agent[..at]),
            None => agent.into_owned(),
        };
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id: self.id.clone(),
            stage: Stage::RequestReceived,
            request_uri: parts
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            verb: info.verb.clone(),
            user: UserInfo::from(user),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(parts),
            user_agent,
            object_ref: info.is_resource.then(|| ObjectReference {
                resource: info.resource.clone(),
                namespace: info.namespace.clone(),
                name: info.name.clone(),
                api_group: info.group.clone(),
                api_version: info.version.clone(),
                subresource: info.subresource.clone(),
                ..ObjectReference::default()
            }),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: micros(self.received),
            stage_timestamp: String::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// How a client tried to say who it is, as upstream lists it.
fn attempted(parts: &Parts) -> Vec<&'static str> {
    let header = parts.headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let (scheme, rest) = header
        .and_then(|value| value.trim().split_once(' '))
        .unwrap_or_default();
    let token = uri::query_value(parts.uri.query(), "access_token");
    let peer = parts.extensions.get::<PeerCertificates>();
    let ways = [
        (
            "basic",
            scheme.eq_ignore_ascii_case("basic") && !rest.is_empty(),
        ),
        ("bearer", scheme.eq_ignore_ascii_case("bearer")),
        (
            "access_token",
            token.is_some_and(|token| !token.trim().is_empty()),
        ),
        ("x509", peer.is_some()),
    ];
    (ways.into_iter())
        .filter_map(|(way, tried)| tried.then_some(way))
        .collect()
}

/// The addresses that proxies name, and the peer's own last.
fn source_ips(parts: &Parts) -> Vec<String> {
    let addresses = |name: &'static str| -> Vec<IpAddr> {
        parts
            .headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|v| v.trim().parse().ok())
            .collect()
    };
    let mut out = addresses("x-forwarded-for");
    for real in addresses("x-real-ip").into_iter().take(1) {
        if !out.contains(&real) {
            out.push(real);
        }
    }
    if let Some(PeerAddress(peer)) = parts.extensions.get::<PeerAddress>()
        && out.last() != Some(&peer.ip())
    {
        out.push(peer.ip());
    }
    out.iter().map(ToString::to_string).collect()
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Sees to it that a request is recorded to its end whose client goes before it is answered.
pub(crate) struct Unanswered(Option<Arc<Trail>>);

impl Unanswered {
    pub(crate) fn new(trail: Option<Arc<Trail>>) -> Self {
        Unanswered(trail)
    }

    pub(crate) fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(trail) = &self.0 {
            trail.left();
        }
    }
}

/// A body whose end is recorded, however it comes.
struct Ending {
    body: Body,
    trail: Arc<Trail>,
    status: Value,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.trail
            .send(Stage::ResponseComplete, Some(self.status.take()), None);
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::mpsc};

    use futures::FutureExt;
    use http::Request;

    use super::*;
    use crate::audit::{AuditSink, Policy};

    /// Counts the events that it takes, when it may.
    #[derive(Debug)]
    struct Gate {
        open: Mutex<mpsc::Receiver<()>>,
        taken: Arc<Mutex<usize>>,
    }

    impl AuditSink for Gate {
        fn write(&mut self, events: &[Event]) -> io::Result<()> {
            // It stays open once nobody holds the other end.
            let _ = self.open.lock().recv();
            *self.taken.lock() += events.len();
            Ok(())
        }
    }

    async fn begun(audit: &Arc<Audit>) -> Arc<Trail> {
        let request = Request::get("/api/v1/namespaces/x/configmaps").body(());
        let (parts, ()) = request.unwrap().into_parts();
        let trail = Trail::begin(audit.clone(), Arc::new(Timestamp::now), &parts);
        let info = RequestInfo::new(&parts.method, &parts.uri);
        trail
            .authenticated(&parts, &Identity::user("alice"), &info)
            .await;
        trail
    }

    #[test]
    fn what_a_client_tried_is_listed() {
        let attempted = |uri: &str, authorization: &str, shows: bool| {
            let request = Request::get(uri).header("authorization", authorization);
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            if shows {
                parts.extensions.insert(PeerCertificates::new([]));
            }
            super::attempted(&parts).join(" ")
        };
        assert_eq!(attempted("/", "", false), "");
        assert_eq!(attempted("/", "Basic eDp5", false), "basic");
        assert_eq!(attempted("/", " bearer x", true), "bearer x509");
        assert_eq!(
            attempted("/?access_token=x", "Other x", false),
            "access_token"
        );
    }

    #[tokio::test]
    async fn requests_wait_while_the_sink_stalls_and_none_of_their_events_is_lost() {
        for (omitted, of_each) in [("", 2), ("RequestReceived", 1)] {
            let policy = format!(
                "{{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [{omitted}], rules: [{{level: Metadata}}]}}"
            );
            let (gate, open) = mpsc::channel();
            let taken = Arc::<Mutex<usize>>::default();
            let sink = Gate {
                open: Mutex::new(open),
                taken: taken.clone(),
            };
            let policy = Policy::parse(&policy).unwrap();
            let audit = Audit::with_room(policy, Box::new(sink), 2).unwrap();
            let first = [begun(&audit).await, begun(&audit).await];
            let mut third = Box::pin(begun(&audit));
            assert!(third.as_mut().now_or_never().is_none());
            for trail in &first {
                trail.answered(Response::new(Body::empty()), false);
            }
            assert!(third.as_mut().now_or_never().is_none());
            drop(gate);
            third.await.answered(Response::new(Body::empty()), false);
            audit.flush().await;
            assert_eq!(*taken.lock(), 3 * of_each);
        }
    }
}

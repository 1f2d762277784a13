//! The audit log, as requests fill it.

use std::{io, sync::Arc};

use crate::common::{MAPS, config_map};
use futures::StreamExt;
use http::Request;
use k8s_apiserver::{
    ApiServer,
    audit::{AuditSink, Event, Policy},
    auth::Identity,
    http::Body,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Keeps events, as they would be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Value>>>);

impl AuditSink for Kept {
    fn write(&mut self, events: &[Event]) -> io::Result<()> {
        let values = events.iter().map(|e| serde_json::to_value(e).unwrap());
        self.0.lock().extend(values);
        Ok(())
    }
}

impl Kept {
    /// The events of that verb.
    pub(crate) fn of(&self, verb: &str) -> Vec<Value> {
        let all = self.0.lock();
        all.iter().filter(|e| e["verb"] == verb).cloned().collect()
    }
}

async fn server(rules: &str) -> (ApiServer, Kept) {
    let text = format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{rules}]}}");
    let kept = Kept::default();
    let server = ApiServer::builder()
        .audit(Policy::parse(&text).unwrap(), kept.clone())
        .build()
        .await
        .unwrap();
    kept.0.lock().clear();
    (server, kept)
}

#[tokio::test]
async fn a_write_is_recorded_with_its_bodies_at_the_highest_level() {
    let (server, kept) = server("{level: RequestResponse, omitManagedFields: true}").await;
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "test/1"),
        ("audit-id", "chosen"),
        ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
    ];
    let mut map = config_map("a");
    map["metadata"]["managedFields"] = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:a": {}}},
    }]);
    let response = crate::common::send(&server, "POST", MAPS, &headers, map.to_string()).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["audit-id"], "chosen");
    server.shutdown().await;
    let events = kept.of("create");
    let [received, complete] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(received["stage"], "RequestReceived");
    assert_eq!(received.get("responseStatus"), None);
    assert_eq!(complete["kind"], "Event");
    assert_eq!(complete["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(complete["stage"], "ResponseComplete");
    assert_eq!(complete["auditID"], "chosen");
    assert_eq!(complete["requestURI"], MAPS);
    assert_eq!(complete["userAgent"], "test/1");
    assert_eq!(complete["sourceIPs"], json!(["10.0.0.1", "10.0.0.2"]));
    assert_eq!(complete["user"]["username"], "system:apiserver");
    assert_eq!(
        complete["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(
        complete["responseStatus"],
        json!({"metadata": {}, "code": 201})
    );
    assert_eq!(complete["requestObject"]["data"]["a"], "1");
    assert!(complete["responseObject"]["metadata"]["uid"].is_string());
    for body in ["requestObject", "responseObject"] {
        assert_eq!(complete[body]["metadata"].get("managedFields"), None);
    }
    assert_eq!(
        complete["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
}

#[tokio::test]
async fn what_is_sent_compressed_is_not_unpacked_to_be_recorded() {
    use std::io::Write;
    let (server, kept) = server("{level: Request, omitStages: [RequestReceived]}").await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let map = config_map("packed").to_string();
    packed.write_all(map.as_bytes()).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let packed = packed.finish().unwrap();
    let response = crate::common::send(&server, "POST", MAPS, &headers, packed).await;
    assert_eq!(response.status(), 400);
    server.shutdown().await;
    let [refused] = kept.of("create").try_into().unwrap();
    assert_eq!(refused.get("requestObject"), None);
    assert_eq!(refused["objectRef"].get("name"), None);
}

#[tokio::test]
async fn an_object_that_does_not_say_its_kind_is_recorded_with_it() {
    let (server, kept) = server("{level: Request, omitStages: [RequestReceived]}").await;
    let map = json!({"metadata": {"name": "a"}});
    crate::common::call(&server, "POST", MAPS, map.clone()).await;
    crate::common::call(&server, "PATCH", &format!("{MAPS}/a"), map).await;
    server.shutdown().await;
    let [created] = kept.of("create").try_into().unwrap();
    assert_eq!(created["requestObject"]["kind"], "ConfigMap");
    assert_eq!(created["requestObject"]["apiVersion"], "v1");
    let [patched] = kept.of("patch").try_into().unwrap();
    assert_eq!(
        patched["requestObject"],
        json!({"metadata": {"name": "a"}}),
        "a patch is what it is"
    );
}

#[tokio::test]
async fn what_is_made_is_recorded_as_it_was_read_with_its_defaults() {
    let (server, kept) = server("{level: Request, omitStages: [RequestReceived]}").await;
    let body = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {b: c}\nnone: 1";
    let headers = [("content-type", "application/yaml")];
    let path = "/api/v1/namespaces/default/secrets";
    let response = crate::common::send(&server, "POST", path, &headers, body).await;
    assert_eq!(response.status(), 201);
    server.shutdown().await;
    let [created] = kept.of("create").try_into().unwrap();
    let object = &created["requestObject"];
    assert_eq!(object["type"], "Opaque", "{object}");
    assert_eq!(object.get("none"), None);
    assert_eq!(
        object["metadata"].get("uid"),
        None,
        "as it was before it was made"
    );
    assert_eq!(created["objectRef"]["name"], "a");
}

#[tokio::test]
async fn levels_below_leave_bodies_out_and_none_leaves_all_out() {
    let (server, kept) = server(
        "{level: None, verbs: [get]}, {level: Request, verbs: [create]}, \
         {level: Metadata, omitStages: [RequestReceived]}",
    )
    .await;
    crate::common::call(&server, "POST", MAPS, config_map("a")).await;
    crate::common::get(&server, &format!("{MAPS}/a")).await;
    crate::common::call(&server, "DELETE", &format!("{MAPS}/a"), Value::Null).await;
    server.shutdown().await;
    assert!(kept.of("get").is_empty());
    let created = &kept.of("create")[1];
    assert!(created["requestObject"].is_object());
    assert_eq!(created.get("responseObject"), None);
    let deleted = kept.of("delete");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0]["stage"], "ResponseComplete");
    assert_eq!(deleted[0].get("requestObject"), None);
}

#[tokio::test]
async fn a_refusal_is_recorded_with_its_reason_and_who_acts_for_whom() {
    let (server, kept) = server("{level: Metadata}").await;
    let admin = crate::common::client(&server);
    let bindings: kube::Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = kube::Api::all(admin);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "viewers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "auditors"}],
    });
    let binding = serde_json::from_value(binding).unwrap();
    bindings
        .create(&Default::default(), &binding)
        .await
        .unwrap();
    let ask = async |method: &str| {
        let request = Request::builder()
            .method(method)
            .uri(format!("{MAPS}/nothing"))
            .header("impersonate-user", "alice")
            .header("impersonate-group", "auditors")
            .extension(Identity::system_masters());
        server
            .handle(request.body(Body::empty()).unwrap())
            .await
            .status()
    };
    while ask("GET").await != 404 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask("DELETE").await, 403);
    server.shutdown().await;
    let allowed = kept.of("get").pop().unwrap();
    assert_eq!(allowed["user"]["username"], "system:apiserver");
    assert_eq!(allowed["impersonatedUser"]["username"], "alice");
    assert_eq!(
        allowed["authenticationMetadata"],
        json!({"impersonationConstraint": "impersonate:user-info"})
    );
    assert_eq!(
        allowed["annotations"]["authorization.k8s.io/reason"],
        "RBAC: allowed by ClusterRoleBinding \"viewers\" of ClusterRole \"view\" to Group \"auditors\""
    );
    assert_eq!(allowed["responseStatus"]["reason"], "NotFound");
    assert_eq!(allowed["responseStatus"]["code"], 404);
    let refused = kept.of("delete").pop().unwrap();
    assert_eq!(
        refused["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert_eq!(refused["responseStatus"]["reason"], "Forbidden");
}

#[tokio::test]
async fn who_acts_as_another_in_the_classic_way_has_no_constraint() {
    let (server, kept) = server("{level: Metadata}").await;
    let classic = [
        ("impersonate-user", "alice"),
        ("impersonate-group", "system:masters"),
    ];
    let answer = crate::common::send(&server, "GET", MAPS, &classic, "").await;
    assert_eq!(answer.status(), 200);
    server.shutdown().await;
    let [received, complete] = kept.of("list").try_into().unwrap();
    assert_eq!(received.get("impersonatedUser"), None);
    assert_eq!(
        complete["impersonatedUser"],
        json!({"username": "alice", "groups": ["system:masters", "system:authenticated"]})
    );
    assert_eq!(complete.get("authenticationMetadata"), None);
}

#[tokio::test]
async fn a_watch_has_a_beginning_and_an_end() {
    let (server, kept) = server("{level: RequestResponse}").await;
    crate::common::call(&server, "POST", MAPS, config_map("a")).await;
    let response = crate::common::send(&server, "GET", &format!("{MAPS}?watch=1"), &[], "").await;
    let mut body = http_body_util::BodyStream::new(response.into_body());
    body.next().await.unwrap().unwrap();
    drop(body);
    server.shutdown().await;
    let stages: Vec<Value> = kept
        .of("watch")
        .iter()
        .map(|e| e["stage"].clone())
        .collect();
    assert_eq!(
        stages,
        ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    );
}

#[tokio::test]
async fn what_would_have_lasted_and_is_refused_has_a_beginning_too() {
    let (server, kept) = server("{level: Metadata}").await;
    let logs = "/api/v1/namespaces/default/pods/none/log";
    assert_eq!(crate::common::get(&server, logs).await.0, 404);
    server.shutdown().await;
    let events = kept.of("get");
    let stages: Vec<&Value> = events.iter().map(|e| &e["stage"]).collect();
    assert_eq!(
        stages,
        ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    );
    for event in &events[1..] {
        assert_eq!(event["responseStatus"]["code"], 404);
    }
}

#[tokio::test]
async fn who_is_not_known_is_recorded_once() {
    let (server, kept) = server("{level: Metadata}").await;
    let request = Request::get(MAPS).header("authorization", "Bearer nonsense");
    let response = server.handle(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 401);
    server.shutdown().await;
    let events = kept.of("list");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["stage"], "ResponseStarted");
    assert_eq!(
        events[0]["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );
}

/// Says yes, but to Sloth only when the gate opens.
#[derive(Debug, Default)]
struct Gate {
    reached: tokio::sync::Notify,
    open: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl k8s_apiserver::authz::Authorizer for Gate {
    async fn authorize(
        &self,
        attributes: &k8s_apiserver::authz::Attributes<'_>,
    ) -> k8s_apiserver::authz::Decision {
        if attributes.user.name == "sloth" {
            self.reached.notify_one();
            self.open.notified().await;
        }
        k8s_apiserver::authz::Decision::Allow
    }
}

#[tokio::test]
async fn what_is_too_much_at_once_is_asked_to_come_again() {
    let gate = Arc::new(Gate::default());
    let server = ApiServer::builder()
        .authorizer(gate.clone())
        .priority_and_fairness(false)
        .max_in_flight(k8s_apiserver::MaxInFlight {
            reading: 1,
            mutating: 1,
        })
        .build()
        .await
        .unwrap();
    let ask = |user: &str, method: &str, uri: &str| {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .extension(Identity::user(user));
        let request = request.body(Body::empty()).unwrap();
        let server = server.clone();
        async move { server.handle(request).await }
    };
    let slow = tokio::spawn(ask("sloth", "GET", MAPS));
    gate.reached.notified().await;
    let refused = ask("bob", "GET", MAPS).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let (_, text) = crate::common::text(refused).await;
    assert_eq!(text, "Too many requests, please try again later.\n");
    // Writers, watches and masters are not in its way.
    assert_ne!(
        ask("bob", "DELETE", &format!("{MAPS}/x")).await.status(),
        429
    );
    assert_eq!(
        ask("bob", "GET", &format!("{MAPS}?watch=1")).await.status(),
        200
    );
    assert_eq!(crate::common::get(&server, MAPS).await.0, 200);
    gate.open.notify_one();
    assert_eq!(slow.await.unwrap().status(), 200);
    // Its place is free soon after its answer is gone.
    while ask("bob", "GET", MAPS).await.status() == 429 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_pod_security_finds_is_annotated() {
    let (server, kept) = server("{level: Metadata, resources: [{resources: [pods]}]}").await;
    let labels = json!({"metadata": {"labels": {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/audit": "restricted",
    }}});
    crate::common::call(&server, "PATCH", "/api/v1/namespaces/default", labels).await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    crate::common::call(&server, "POST", accounts, account).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let pods = "/api/v1/namespaces/default/pods";
    let (code, said) = crate::common::call(&server, "POST", pods, pod).await;
    assert_eq!(code, 201, "{said}");
    server.shutdown().await;
    let events = kept.of("create");
    let annotations = &events.last().unwrap()["annotations"];
    assert_eq!(
        annotations["pod-security.kubernetes.io/enforce-policy"],
        "baseline:latest"
    );
    let found = annotations["pod-security.kubernetes.io/audit-violations"].as_str();
    assert!(
        found.is_some_and(|v| v.starts_with("would violate PodSecurity \"restricted:latest\": ")),
        "{annotations}"
    );
}

/// Lets writes wait.
#[derive(Debug, Default)]
struct Slow {
    reached: tokio::sync::Notify,
    open: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl k8s_apiserver::admission::AdmissionPlugin for Slow {
    fn name(&self) -> &str {
        "Slow"
    }

    fn handles(&self, operation: k8s_apiserver::admission::Operation) -> bool {
        operation == k8s_apiserver::admission::Operation::Create
    }

    fn concerns(&self, _group: &str, resource: &str) -> bool {
        resource == "configmaps"
    }

    async fn validate(
        &self,
        request: &k8s_apiserver::admission::AdmissionRequest<'_>,
    ) -> Result<(), k8s_apiserver::admission::AdmissionError> {
        if request.name == "slow" {
            self.reached.notify_one();
            self.open.notified().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn who_goes_before_the_answer_is_recorded_to_the_end() {
    let text = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: Metadata}]}";
    let (kept, slow) = (Kept::default(), Arc::new(Slow::default()));
    let server = ApiServer::builder()
        .audit(Policy::parse(text).unwrap(), kept.clone())
        .admission(vec![slow.clone()])
        .build()
        .await
        .unwrap();
    kept.0.lock().clear();
    let asked = server.clone();
    let asking = tokio::spawn(async move {
        crate::common::call(&asked, "POST", MAPS, config_map("slow")).await;
    });
    slow.reached.notified().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    server.shutdown().await;
    let events = kept.of("create");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["stage"], "ResponseComplete");
    assert_eq!(
        events[0]["responseStatus"],
        json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200})
    );
}

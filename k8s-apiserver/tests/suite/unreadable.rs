//! Stored values that this server cannot read: those of a later version, on the same etcd, and damaged ones. They are
//! told with an error, and never taken for objects that are gone.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use http::StatusCode;
use k8s_apiserver::ApiServer;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_store::{Entry, Expect, List, MemoryStore, Op, Store, Write};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::{
    common::{MAPS, call, client, config_map, get},
    watches::{Lines, brief},
};

/// How a value of a later version might begin.
fn of_a_later_version(value: &Bytes) -> Bytes {
    let mut later = value.to_vec();
    later[1] = 200;
    later.into()
}

/// A value whose labels are none.
fn damaged(value: &Bytes) -> Bytes {
    let text = r#"{"app":"x"}"#.as_bytes();
    let at = value.windows(text.len()).position(|part| part == text);
    let mut damaged = value.to_vec();
    damaged[at.unwrap()..][..text.len()].copy_from_slice(br#"["app","x"]"#);
    damaged.into()
}

async fn server_on(store: &MemoryStore) -> ApiServer {
    let server = ApiServer::builder().seed(1).store(Arc::new(store.clone()));
    server.build().await.unwrap()
}

async fn stored(store: &MemoryStore, end: &str) -> Entry {
    let all = store.list(List::default()).await.unwrap();
    let mut all = all.entries.into_iter();
    all.find(|entry| entry.key.ends_with(end.as_bytes()))
        .unwrap()
}

async fn write(store: &MemoryStore, key: &Bytes, op: Op) {
    let write = Write {
        key: key.clone(),
        expect: Expect::Any,
        op,
    };
    store.commit(vec![write]).await.unwrap();
}

async fn put(store: &MemoryStore, key: &Bytes, value: Bytes) {
    write(store, key, Op::Put { value, ttl: None }).await;
}

async fn version(server: &ApiServer) -> String {
    let (_, list) = get(server, "/api/v1/namespaces/kube-public/configmaps").await;
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Why a watch ends whose client is to list again.
async fn failure(lines: &mut Lines) -> Value {
    let told = lines.next().await.unwrap();
    assert_eq!(told["type"], "ERROR", "{told}");
    assert_eq!(told["object"]["code"], 410, "{told}");
    assert_eq!(lines.next().await, None);
    why(told["object"]["message"].as_str().unwrap()).into()
}

const JSON: &str = "application/json";
const SELECTED: &str = "labelSelector=app%3Dx";
const LATER: &str = "a stored value is not an object of this server: written by another version";

/// Why the map `a` cannot be read, of what is told about it in upstream's words.
fn why(told: &str) -> &str {
    let begin = "StorageError: corrupt object, Code: 7, Key: /registry/configmaps/default/a, ResourceVersion: 0, \
                 AdditionalErrorMsg: object not decodable revision=";
    let rest = told.strip_prefix(begin);
    let (revision, why) = rest.and_then(|rest| rest.split_once(": ")).expect(told);
    assert!(revision.parse::<u64>().is_ok_and(|n| n > 0), "{told}");
    why
}

/// What a request is answered that such a value concerns.
async fn refusal(server: &ApiServer, query: &str) -> String {
    let (code, answer) = get(server, &format!("{MAPS}?{query}")).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{query}: {answer}");
    let message = answer["message"].as_str().unwrap();
    let reason = message.strip_prefix("Internal error occurred: ");
    why(reason.unwrap_or_else(|| panic!("{message}"))).to_owned()
}

fn labelled() -> Value {
    let mut map = config_map("a");
    map["metadata"]["labels"] = json!({"app": "x"});
    map
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_an_error_and_is_not_gone() {
    let store = MemoryStore::new();
    let server = server_on(&store).await;
    for map in [labelled(), config_map("b")] {
        assert_eq!(call(&server, "POST", MAPS, map).await.0, 201);
    }
    let good = stored(&store, "/a").await;
    let from = version(&server).await;
    let watch = |query: String| {
        let uri = format!("{MAPS}?watch=true&resourceVersion={from}&{query}");
        let server = server.clone();
        async move { Lines::open(&server, &uri, JSON).await }
    };
    let mut all = watch(String::new()).await;
    let mut selected = watch(SELECTED.to_owned()).await;
    let mut other = watch("fieldSelector=metadata.name%3Db".to_owned()).await;

    put(&store, &good.key, of_a_later_version(&good.value)).await;
    assert_eq!(failure(&mut all).await, LATER);
    assert_eq!(failure(&mut selected).await, LATER);
    let patch = json!({"data": {"a": "2"}});
    call(&server, "PATCH", &format!("{MAPS}/b"), patch).await;
    assert_eq!(brief(&other.next().await.unwrap()), ("MODIFIED", "b"));

    for query in ["", SELECTED, "watch=true", "watch=true&resourceVersion=0"] {
        assert_eq!(refusal(&server, query).await, LATER, "{query}");
    }
    let patch = json!({"data": {"a": "2"}});
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", config_map("a")),
        ("PATCH", patch),
        ("DELETE", Value::Null),
    ] {
        let (code, answer) = call(&server, method, &format!("{MAPS}/a"), body).await;
        assert_eq!(
            code,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{method}: {answer}"
        );
        let message = answer["message"].as_str().unwrap();
        let reason = message.strip_prefix("Internal error occurred: ");
        assert_eq!(why(reason.expect(message)), LATER, "{method}");
    }
    // Those who watch from before it are told, too, from the history.
    assert_eq!(failure(&mut watch(String::new()).await).await, LATER);
    let elsewhere = format!("/api/v1/namespaces/kube-public/configmaps?{SELECTED}");
    assert_eq!(get(&server, &elsewhere).await.0, StatusCode::OK);

    let after = version(&server).await;
    let after = format!("{MAPS}?watch=true&{SELECTED}&resourceVersion={after}");
    let mut mended = Lines::open(&server, &after, JSON).await;
    put(&store, &good.key, good.value.clone()).await;
    assert_eq!(brief(&mended.next().await.unwrap()), ("MODIFIED", "a"));
    let (code, list) = get(&server, &format!("{MAPS}?{SELECTED}")).await;
    assert_eq!(
        (code, list["items"].as_array().unwrap().len()),
        (StatusCode::OK, 1)
    );

    // It goes when it does, whether it can be read or not.
    put(&store, &good.key, of_a_later_version(&good.value)).await;
    assert_eq!(failure(&mut mended).await, LATER);
    let after = version(&server).await;
    let after = format!("{MAPS}?watch=true&{SELECTED}&resourceVersion={after}");
    let mut gone = Lines::open(&server, &after, JSON).await;
    write(&store, &good.key, Op::Delete).await;
    assert_eq!(brief(&gone.next().await.unwrap()), ("DELETED", "a"));
    let (code, list) = get(&server, &format!("{MAPS}?{SELECTED}")).await;
    assert_eq!(
        (code, list["items"].as_array().unwrap().len()),
        (StatusCode::OK, 0)
    );
}

/// A client that resumed from where it was would come to the same error again when all is well.
#[tokio::test]
async fn a_client_gets_over_it_when_it_is_mended() {
    let store = MemoryStore::new();
    let server = server_on(&store).await;
    assert_eq!(call(&server, "POST", MAPS, labelled()).await.0, 201);
    let good = stored(&store, "/a").await;
    let api = Api::<ConfigMap>::namespaced(client(&server), "default");
    let config = watcher::Config::default().labels("app=x");
    let mut seen = pin!(watcher(api, config).default_backoff());
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(30), seen.try_next());
        next.await.expect("an event or an error")
    };
    while !matches!(next().await, Ok(Some(watcher::Event::InitDone))) {}
    put(&store, &good.key, of_a_later_version(&good.value)).await;
    let mut errors = 0;
    while errors < 2 {
        match next().await {
            Err(_) => errors += 1,
            Ok(Some(watcher::Event::Init)) => {}
            told => panic!("{told:?}"),
        }
    }
    put(&store, &good.key, good.value.clone()).await;
    while !matches!(next().await, Ok(Some(watcher::Event::InitDone))) {}
}

#[tokio::test]
async fn an_object_whose_labels_cannot_be_read_may_be_selected() {
    let store = MemoryStore::new();
    let server = server_on(&store).await;
    assert_eq!(call(&server, "POST", MAPS, labelled()).await.0, 201);
    let good = stored(&store, "/a").await;
    let from = version(&server).await;
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}&{SELECTED}");
    let mut selected = Lines::open(&server, &uri, JSON).await;
    put(&store, &good.key, damaged(&good.value)).await;
    let text = "a stored value is not an object of this server: it cannot be decoded";
    assert_eq!(failure(&mut selected).await, text);
    for query in [SELECTED, "watch=true&labelSelector=app"] {
        assert_eq!(refusal(&server, query).await, text, "{query}");
    }
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Has a role of a name let a user read.
async fn allow(server: &ApiServer, role: &str, user: &str) {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let made = json!({"kind": "ClusterRole", "metadata": {"name": role}, "rules": rules});
    let (code, answer) = call(server, "POST", &format!("{RBAC}/clusterroles"), made).await;
    assert_eq!(code, 201, "{answer}");
    let group = "rbac.authorization.k8s.io";
    let binding = json!({"kind": "ClusterRoleBinding", "metadata": {"name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role}});
    let bindings = format!("{RBAC}/clusterrolebindings");
    let (code, answer) = call(server, "POST", &bindings, binding).await;
    assert_eq!(code, 201, "{answer}");
}

async fn may_read(server: &ApiServer, user: &str) -> bool {
    let asked = json!({"resource": "configmaps", "verb": "get", "namespace": "default"});
    let review = json!({"kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked}});
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (code, review) = call(server, "POST", reviews, review).await;
    assert_eq!(code, 201, "{review}");
    review["status"]["allowed"] == true
}

/// Waits until the server has heard that a user may read.
async fn until_allowed(server: &ApiServer, user: &str) {
    let allowed = async {
        while !may_read(server, user).await {
            tokio::task::yield_now().await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(30), allowed).await;
    assert!(heard.is_ok(), "{user} may not read");
}

#[tokio::test]
async fn a_server_that_begins_with_what_it_cannot_read_serves_the_rest() {
    let store = MemoryStore::new();
    let first = server_on(&store).await;
    assert_eq!(call(&first, "POST", MAPS, labelled()).await.0, 201);
    first.shutdown().await;
    let good = stored(&store, "/a").await;
    put(&store, &good.key, of_a_later_version(&good.value)).await;

    let server = server_on(&store).await;
    assert_eq!(get(&server, "/readyz").await.0, StatusCode::OK);
    assert_eq!(call(&server, "POST", MAPS, config_map("b")).await.0, 201);
    assert_eq!(get(&server, &format!("{MAPS}/b")).await.0, StatusCode::OK);
    for query in [SELECTED, "watch=true"] {
        assert_eq!(refusal(&server, query).await, LATER, "{query}");
    }
    put(&store, &good.key, of_a_later_version(&good.value)).await;
    assert_eq!(refusal(&server, SELECTED).await, LATER);
    let (_, page) = get(&server, "/metrics").await;
    let family = "apiserver_storage_decode_errors_total";
    let told = format!("{family}{{group=\"\",resource=\"configmaps\"}} 2");
    assert!(
        page.as_str().unwrap().lines().any(|line| line == told),
        "{page}"
    );
}

/// What the server itself knows stays as it could be read last.
#[tokio::test]
async fn a_role_that_cannot_be_read_is_not_taken_away() {
    let store = MemoryStore::new();
    let server = server_on(&store).await;
    allow(&server, "readers", "ann").await;
    until_allowed(&server, "ann").await;
    let good = stored(&store, "clusterroles/readers").await;
    put(&store, &good.key, of_a_later_version(&good.value)).await;
    // Of this the server hears after that.
    allow(&server, "others", "bob").await;
    until_allowed(&server, "bob").await;
    assert!(may_read(&server, "ann").await);
}

//! A store that is away for a while, as an etcd is without a majority.

use std::{pin::pin, sync::Arc, time::Duration};

use crate::{
    common::{MAPS, call, client, config_map, get, send},
    legacy_tokens::show,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use http::StatusCode;
use k8s_apiserver::{
    ApiServer,
    auth::{DEFAULT_ISSUER, ServiceAccountTokens},
    pki::Pki,
};
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use k8s_store::{
    Committed, Entry, Error, List, MemoryStore, Op, Page, Revision, Store, WatchStream, Write,
    testing::FaultyStore,
};
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        wait::{await_condition, conditions},
        watcher,
    },
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn while_the_store_is_away_requests_fail_and_afterwards_all_goes_on() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let server = ApiServer::builder().seed(1).store(store.clone());
    let server = server.build().await.unwrap();
    let made = call(&server, "POST", MAPS, config_map("a")).await;
    assert_eq!(made.0, StatusCode::CREATED);
    let api = Api::<ConfigMap>::namespaced(client(&server), "default");
    let config = watcher::Config::default().fields("metadata.name!=kube-root-ca.crt");
    let mut seen = pin!(watcher(api, config).default_backoff().applied_objects());
    let first = seen.try_next().await.unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("a"));

    store.set_away(true);
    let one = format!("{MAPS}/a");
    let (code, answer) = get(&server, &one).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    assert_eq!(answer["status"], "Failure");
    assert_eq!(answer["message"], "etcdserver: request timed out");
    let (code, text) = get(&server, "/readyz").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let text = text.as_str().unwrap_or_default();
    assert!(text.contains("[-]etcd failed: reason withheld"), "{text}");
    // Who asks about the store alone is told why.
    let (code, text) = get(&server, "/readyz/etcd").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let text = text.as_str().unwrap_or_default();
    assert!(text.contains("error getting data from etcd: "), "{text}");
    // What can be told without it is, and as upstream says that of the rest.
    let (code, page) = get(&server, "/metrics").await;
    assert_eq!(code, StatusCode::OK);
    let page = page.as_str().unwrap();
    assert!(page.contains("apiserver_storage_objects{resource=\"configmaps\"} -1\n"));
    assert!(page.contains("apiserver_request_total{"));
    assert!(!page.contains("nodeport_allocator_allocated_ports"));

    store.set_away(false);
    let (_, page) = get(&server, "/metrics").await;
    let page = page.as_str().unwrap();
    assert!(
        page.contains("apiserver_storage_objects{resource=\"configmaps\"} 2\n"),
        "{page}"
    );
    let made = call(&server, "POST", MAPS, config_map("b")).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    assert_eq!(get(&server, "/readyz").await.0, StatusCode::OK);
    // Errors on the way are the client's to get over.
    let later = loop {
        match seen.try_next().await {
            Ok(Some(map)) if map.metadata.name.as_deref() == Some("b") => break map,
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => panic!("the watch ended"),
        }
    };
    assert_eq!(later.data.unwrap()["a"], "1");
}

#[tokio::test]
async fn while_the_store_is_away_who_is_known_reads_what_is_at_hand() {
    let pki = Pki::in_memory().unwrap();
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let builder = ApiServer::builder().seed(1).store(store.clone());
    let (key, reader) = (pki.service_account_key(), builder.reader());
    let tokens = ServiceAccountTokens::new(key, DEFAULT_ISSUER, reader).unwrap();
    let server = builder.tokens(Arc::new(tokens)).build().await.unwrap();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let bot = json!({"metadata": {"name": "bot"}});
    assert_eq!(
        call(&server, "POST", accounts, bot).await.0,
        StatusCode::CREATED
    );
    let asked = call(&server, "POST", &format!("{accounts}/bot/token"), json!({})).await;
    let token = asked.1["status"]["token"].as_str().unwrap().to_owned();
    // Its first use has the server get to know the service accounts.
    let (code, _, answer) = show(&server, &token).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    for name in ["a", "b"] {
        let made = call(&server, "POST", MAPS, config_map(name)).await;
        assert_eq!(made.0, StatusCode::CREATED);
    }
    // Somebody looks at the maps.
    let api = Api::<ConfigMap>::namespaced(client(&server), "default");
    let config = watcher::Config::default().streaming_lists();
    let mut seen = pin!(watcher(api, config).applied_objects());
    while seen
        .try_next()
        .await
        .unwrap()
        .unwrap()
        .metadata
        .name
        .as_deref()
        != Some("b")
    {}

    store.set_away(true);
    let known = async {
        while show(&server, &token).await.0 != StatusCode::CREATED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let known = tokio::time::timeout(Duration::from_secs(20), known).await;
    assert!(known.is_ok(), "nobody is known any more");
    let one = format!("{MAPS}/a");
    until(&server, &format!("{one}?resourceVersion=0"), |code, map| {
        code == StatusCode::OK && map["data"]["a"] == "1"
    })
    .await;
    for selector in ["", "&fieldSelector=metadata.name%3Da", "&limit=1"] {
        let (code, list) = get(&server, &format!("{MAPS}?resourceVersion=0{selector}")).await;
        assert_eq!(code, StatusCode::OK, "{list}");
        let names = list["items"].as_array().unwrap().iter();
        let names: Vec<_> = names.map(|item| &item["metadata"]["name"]).collect();
        assert!(names.contains(&&json!("a")), "{names:?}");
    }
    // Who is not content with that is told that the store is away; so is who asks for what nobody looked at.
    for path in [
        one.as_str(),
        MAPS,
        "/apis/apps/v1/deployments?resourceVersion=0",
    ] {
        let (code, answer) = get(&server, path).await;
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    }

    // What was taken from who bears a token counts as soon as it is taken.
    store.set_away(false);
    let bot = format!("{accounts}/bot");
    let gone = call(&server, "DELETE", &bot, Value::Null).await;
    assert_eq!(gone.0, StatusCode::OK, "{}", gone.1);
    let (code, _, answer) = show(&server, &token).await;
    assert_eq!(code, StatusCode::UNAUTHORIZED, "{answer}");
}

#[tokio::test]
async fn metrics_do_not_wait_for_a_store_that_says_nothing() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let server = ApiServer::builder().seed(1).store(store.clone());
    let server = server.build().await.unwrap();
    tokio::time::pause();
    store.set_silent(true);
    let asked = get(&server, "/metrics");
    let (code, page) = tokio::time::timeout(Duration::from_secs(5), asked)
        .await
        .unwrap();
    assert_eq!(code, StatusCode::OK);
    let page = page.as_str().unwrap();
    assert!(page.contains("apiserver_storage_objects{resource=\"configmaps\"} -1\n"));
}

/// A store that cannot delete one object, and deletes no other before it has said so.
#[derive(Debug, Default)]
struct Stuck {
    inner: MemoryStore,
    said: CancellationToken,
}

#[async_trait]
impl Store for Stuck {
    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.inner.get(key, at).await
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        self.inner.list(list).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        let gone = writes.iter().find(|write| write.op == Op::Delete);
        match gone {
            Some(write) if write.key.ends_with(b"/stuck") => {
                self.said.cancel();
                let source = Arc::new(std::io::ErrorKind::StorageFull.into());
                return Err(Error::ReadOnly { source });
            }
            Some(_) => self.said.cancelled().await,
            None => {}
        }
        self.inner.commit(writes).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        self.inner.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

#[tokio::test]
async fn where_one_of_a_collection_cannot_be_deleted_those_begun_are_and_no_more_are_begun() {
    let store = Arc::new(Stuck::default());
    let server = ApiServer::builder().seed(1).store(store.clone());
    let server = server.build().await.unwrap();
    let secrets = "/api/v1/namespaces/default/secrets";
    // Sixteen are deleted at a time: those before it are begun when it fails.
    let before = (0..15).map(|i| format!("a-{i}"));
    let after = ["stuck", "z-0", "z-1"].map(str::to_owned);
    for name in before.chain(after) {
        let secret = json!({"metadata": {"name": name}});
        let made = call(&server, "POST", secrets, secret).await;
        assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    }
    let (code, answer) = call(&server, "DELETE", secrets, Value::Null).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    let left = get(&server, secrets).await.1;
    let names = left["items"].as_array().unwrap().iter();
    let names: Vec<&str> = names
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["stuck", "z-0", "z-1"]);
}

/// Asks until the answer is as wanted.
async fn until(server: &ApiServer, path: &str, wanted: impl Fn(StatusCode, &Value) -> bool) {
    let waiting = async {
        loop {
            let (code, answer) = get(server, path).await;
            if wanted(code, &answer) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(20), waiting);
    assert!(waiting.await.is_ok(), "{path} never answers as wanted");
}

#[tokio::test]
async fn what_the_server_could_not_write_by_itself_is_written_later() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let server = ApiServer::builder().seed(1).store(store.clone());
    let server = server.build().await.unwrap();

    // The status of a definition, and then the APIService of its version.
    store.refuse_values("NamesAccepted", 2);
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({"metadata": {"name": "as.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "as", "kind": "A"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = call(&server, "POST", path, definition).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    let definitions = Api::<CustomResourceDefinition>::all(client(&server));
    let established = await_condition(
        definitions,
        "as.example.com",
        conditions::is_crd_established(),
    );
    let established = tokio::time::timeout(Duration::from_secs(20), established).await;
    established.expect("it is established").unwrap();

    store.refuse_values("v2.example.com", 2);
    let version = json!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let more = json!([{"op": "add", "path": "/spec/versions/-", "value": version}]);
    let definition = format!("{path}/as.example.com");
    let kind = [("content-type", "application/json-patch+json")];
    let answer = send(&server, "PATCH", &definition, &kind, more.to_string()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let local = "/apis/apiregistration.k8s.io/v1/apiservices/v2.example.com";
    until(&server, local, |code, _| code == StatusCode::OK).await;

    // What a FlowSchema's priority level is.
    store.refuse_values("there is no such object", 2);
    let schema = json!({"metadata": {"name": "lost"},
        "spec": {"priorityLevelConfiguration": {"name": "nowhere"}, "matchingPrecedence": 9000}});
    let path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let made = call(&server, "POST", path, schema).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    until(&server, &format!("{path}/lost"), |_, schema| {
        schema["status"]["conditions"][0]["status"] == "True"
    })
    .await;
}

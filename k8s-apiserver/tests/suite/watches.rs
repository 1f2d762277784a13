//! Watches: what they begin with, what they tell, and how they end.

use std::time::Duration;

use crate::common::{MAPS, call, client, config_map, get, server};
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use http_body_util::BodyExt;
use k8s_apiserver::ApiServer;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

/// The lines of a watch.
pub(crate) struct Lines {
    body: k8s_apiserver::http::Body,
    rest: String,
}

impl Lines {
    pub(crate) async fn open(server: &ApiServer, uri: &str, accept: &str) -> Lines {
        let response = crate::common::send(server, "GET", uri, &[("accept", accept)], "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Lines {
            body: response.into_body(),
            rest: String::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.rest = rest.to_owned();
                return Some(value);
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame())
                .await
                .expect("an event")?;
            self.rest
                .push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }
}

async fn version(server: &ApiServer) -> String {
    get(server, MAPS).await.1["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(crate) fn brief(event: &Value) -> (&str, &str) {
    (
        event["type"].as_str().unwrap(),
        event["object"]["metadata"]["name"]
            .as_str()
            .unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let from = version(&server).await;
    let mut watch = api
        .watch(&WatchParams::default(), &from)
        .await
        .unwrap()
        .boxed();
    call(&server, "POST", MAPS, config_map("x")).await;
    call(
        &server,
        "PATCH",
        &format!("{MAPS}/x"),
        json!({"data": {"b": "2"}}),
    )
    .await;
    call(&server, "DELETE", &format!("{MAPS}/x"), json!(null)).await;
    let WatchEvent::Added(added) = watch.try_next().await.unwrap().unwrap() else {
        panic!()
    };
    let WatchEvent::Modified(modified) = watch.try_next().await.unwrap().unwrap() else {
        panic!()
    };
    let WatchEvent::Deleted(deleted) = watch.try_next().await.unwrap().unwrap() else {
        panic!()
    };
    assert_eq!(deleted.data, modified.data);
    let versions: Vec<u64> = [added, modified, deleted]
        .iter()
        .map(|m| {
            m.metadata
                .resource_version
                .as_deref()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test]
async fn watches_that_wait_end_when_the_server_drains() {
    let server = server().await;
    let from = version(&server).await;
    let secret = json!({"metadata": {"name": "other"}});
    call(
        &server,
        "POST",
        "/api/v1/namespaces/default/secrets",
        secret,
    )
    .await;
    // The cache starts with this watch, after a change: it waits for the store's history, and the next for the ring.
    let past = format!("{MAPS}?watch=true&resourceVersion={from}");
    let mut open = Vec::new();
    for uri in [past, format!("{MAPS}?watch=true")] {
        let mut waiting = Lines::open(&server, &uri, "*/*").await;
        assert!(futures::poll!(std::pin::pin!(waiting.next())).is_pending());
        open.push(waiting);
    }
    server.drain(Duration::ZERO).await;
    for mut waiting in open {
        assert!(waiting.next().await.is_none());
    }
}

#[tokio::test]
async fn a_watch_can_begin_in_the_past() {
    let server = server().await;
    let from = version(&server).await;
    call(&server, "POST", MAPS, config_map("x")).await;
    // The cache starts with this watch, after the change: it comes from the store's history.
    let mut lines = Lines::open(
        &server,
        &format!("{MAPS}?watch=true&resourceVersion={from}"),
        "*/*",
    )
    .await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
    call(&server, "POST", MAPS, config_map("y")).await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "y"));
    // And now from the ring.
    let mut lines = Lines::open(
        &server,
        &format!("{MAPS}?watch=true&resourceVersion={from}"),
        "*/*",
    )
    .await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "y"));
}

#[tokio::test]
async fn a_watch_from_nowhere_begins_with_what_there_is() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    for version in ["", "&resourceVersion=0"] {
        let mut lines = Lines::open(&server, &format!("{MAPS}?watch=true{version}"), "*/*").await;
        assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let uri = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut lines = Lines::open(&server, &uri, "*/*").await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
}

#[tokio::test]
async fn a_watch_from_nowhere_is_told_where_the_beginning_ends() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    for version in ["", "&resourceVersion=", "&resourceVersion=0"] {
        let uri = format!("{MAPS}?watch=true&allowWatchBookmarks=true{version}");
        let mut lines = Lines::open(&server, &uri, "*/*").await;
        assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
        let bookmark = lines.next().await.unwrap();
        let annotations = &bookmark["object"]["metadata"]["annotations"];
        assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    }
    // Who asks by the old path is not.
    let uri = "/api/v1/watch/namespaces/default/configmaps?allowWatchBookmarks=true";
    let mut lines = Lines::open(&server, uri, "*/*").await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
    call(&server, "POST", MAPS, config_map("y")).await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "y"));
}

#[tokio::test]
async fn kube_watchers_work_with_both_ways_to_begin() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
        let mut stream = watcher(api, config).applied_objects().boxed();
        let first = stream.try_next().await.unwrap().unwrap();
        assert_eq!(first.metadata.name.as_deref(), Some("x"));
        call(
            &server,
            "PATCH",
            &format!("{MAPS}/x"),
            json!({"data": {"n": first.metadata.resource_version}}),
        )
        .await;
        let second = stream.try_next().await.unwrap().unwrap();
        assert_ne!(
            second.metadata.resource_version,
            first.metadata.resource_version
        );
    }
}

#[tokio::test]
async fn an_object_comes_and_goes_with_its_labels() {
    let server = server().await;
    let from = version(&server).await;
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}&labelSelector=on%3Dyes");
    let mut lines = Lines::open(&server, &uri, "*/*").await;
    let x = format!("{MAPS}/x");
    call(&server, "POST", MAPS, config_map("x")).await;
    call(
        &server,
        "PATCH",
        &x,
        json!({"metadata": {"labels": {"on": "yes"}}}),
    )
    .await;
    call(&server, "PATCH", &x, json!({"data": {"b": "2"}})).await;
    call(
        &server,
        "PATCH",
        &x,
        json!({"metadata": {"labels": {"on": "no"}}}),
    )
    .await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "x"));
    assert_eq!(brief(&lines.next().await.unwrap()), ("MODIFIED", "x"));
    let gone = lines.next().await.unwrap();
    assert_eq!(brief(&gone), ("DELETED", "x"));
    assert_eq!(
        gone["object"]["metadata"]["labels"]["on"], "yes",
        "the object as it was when it was selected"
    );
}

#[tokio::test]
async fn one_name_can_be_watched() {
    let server = server().await;
    let from = version(&server).await;
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}&fieldSelector=metadata.name%3Dy");
    let mut lines = Lines::open(&server, &uri, "*/*").await;
    call(&server, "POST", MAPS, config_map("x")).await;
    call(&server, "POST", MAPS, config_map("y")).await;
    assert_eq!(brief(&lines.next().await.unwrap()), ("ADDED", "y"));
}

#[tokio::test]
async fn compacted_history_is_gone() {
    let store = std::sync::Arc::new(k8s_store::MemoryStore::new());
    let server = ApiServer::builder()
        .store(store.clone())
        .build()
        .await
        .unwrap();
    let from = version(&server).await;
    call(&server, "POST", MAPS, config_map("x")).await;
    call(&server, "POST", MAPS, config_map("y")).await;
    let store: std::sync::Arc<dyn k8s_store::Store> = store;
    store
        .compact(store.revision().await.unwrap())
        .await
        .unwrap();
    let mut lines = Lines::open(
        &server,
        &format!("{MAPS}?watch=true&resourceVersion={from}"),
        "*/*",
    )
    .await;
    let error = lines.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert!(
        error["object"]["message"]
            .as_str()
            .unwrap()
            .starts_with(&format!("too old resource version: {from} ("))
    );
    assert!(lines.next().await.is_none());
    let exact = format!("{MAPS}?resourceVersion={from}&resourceVersionMatch=Exact");
    let (status, error) = get(&server, &exact).await;
    assert_eq!(
        (status, error["reason"].as_str()),
        (StatusCode::GONE, Some("Expired"))
    );
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_a_watch_ends_on_time() {
    let server = server().await;
    let from = version(&server).await;
    let uri = format!(
        "{MAPS}?watch=true&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=100"
    );
    let response = crate::common::send(&server, "GET", &uri, &[], "").await;
    let started = tokio::time::Instant::now();
    let (_, text) = crate::common::text(response).await;
    assert_eq!(started.elapsed(), Duration::from_secs(100));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|l| l.contains("BOOKMARK")));
}

#[tokio::test]
async fn tables_are_watched_too() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=true"), accept).await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "x");
    call(&server, "POST", MAPS, config_map("y")).await;
    let second = lines.next().await.unwrap();
    assert!(second["object"]["columnDefinitions"].is_null());
    assert_eq!(
        second["object"]["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
}

#[tokio::test]
async fn shutdown_ends_watches() {
    let server = server().await;
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=true"), "*/*").await;
    tokio::join!(server.shutdown(), async {
        while let Some(event) = lines.next().await {
            assert_ne!(event["type"], "ERROR");
        }
    });
    let (status, _) = get(&server, MAPS).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

//! A store that is away for a while, as an etcd is without a majority.

use std::{pin::pin, sync::Arc};

use crate::common::{MAPS, call, client, config_map, get};
use futures::TryStreamExt;
use http::StatusCode;
use k8s_apiserver::ApiServer;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_store::{MemoryStore, testing::FaultyStore};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};

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

    store.set_away(false);
    let made = call(&server, "POST", MAPS, config_map("b")).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    assert_eq!(get(&server, "/readyz").await.0, StatusCode::OK);
    // The watch breaks off, and resumes; errors on the way are its client's to get over.
    let later = loop {
        match seen.try_next().await {
            Ok(Some(map)) if map.metadata.name.as_deref() == Some("b") => break map,
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => panic!("the watch ended"),
        }
    };
    assert_eq!(later.data.unwrap()["a"], "1");
}

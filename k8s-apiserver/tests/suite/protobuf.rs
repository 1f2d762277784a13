//! Answers in protobuf, as clients in Go ask for them.

use std::io::Read;

use crate::common::{MAPS, call, config_map, get, send, server, text};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use k8s_apiserver::{ApiServer, http::Body};
use k8s_model::protobuf::{decode, encode};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What client-go sends.
const ACCEPT: (&str, &str) = (
    "accept",
    "application/vnd.kubernetes.protobuf,application/json",
);

async fn bytes(server: &ApiServer, uri: &str, headers: &[(&str, &str)]) -> (StatusCode, Bytes) {
    let response = send(server, "GET", uri, headers, "").await;
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let said = response.body().len();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said.unwrap_or(bytes.len() as u64), bytes.len() as u64);
    (status, bytes)
}

async fn object(server: &ApiServer, uri: &str) -> Value {
    decode(&bytes(server, uri, &[ACCEPT]).await.1).unwrap()
}

#[tokio::test]
async fn objects_go_in_and_come_out() {
    let server = server().await;
    let body = encode(config_map("x").to_string().as_bytes()).unwrap();
    let headers = [ACCEPT, ("content-type", PROTOBUF)];
    let response = send(&server, "POST", MAPS, &headers, body).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let created = response.into_body().collect().await.unwrap().to_bytes();
    let uri = format!("{MAPS}/x");
    let (_, got) = bytes(&server, &uri, &[ACCEPT]).await;
    assert_eq!(got, created);
    let (_, json) = get(&server, &uri).await;
    assert_eq!(got, encode(json.to_string().as_bytes()).unwrap());
    assert_eq!(decode(&got).unwrap(), json);
}

#[tokio::test]
async fn a_refusal_is_a_status_in_protobuf() {
    let server = server().await;
    let (status, body) = bytes(&server, &format!("{MAPS}/none"), &[ACCEPT]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let status = decode(&body).unwrap();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["reason"], "NotFound");
    assert_eq!(status["details"]["name"], "none");
    assert_eq!(status["code"], 404);
}

#[tokio::test]
async fn subresources_and_discovery_have_the_form_too() {
    let server = server().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    let uri = "/apis/apps/v1/namespaces/default/deployments";
    call(&server, "POST", uri, deployment).await;
    let scale = object(&server, &format!("{uri}/web/scale")).await;
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 3);
    assert_eq!(object(&server, "/api").await["kind"], "APIVersions");
    assert_eq!(object(&server, "/apis").await["kind"], "APIGroupList");
    let resources = object(&server, "/api/v1").await;
    assert_eq!(resources["kind"], "APIResourceList");
    let pods = &resources["resources"].as_array().unwrap();
    assert!(
        pods.iter()
            .any(|r| r["name"] == "pods" && r["verbs"][0] == "create")
    );
}

#[tokio::test]
async fn lists_hold_what_they_hold_in_json() {
    let server = server().await;
    for i in 0..5 {
        call(&server, "POST", MAPS, config_map(&format!("x{i}"))).await;
    }
    for uri in [
        MAPS.to_owned(),
        format!("{MAPS}?limit=2"),
        "/api/v1/nodes".to_owned(),
    ] {
        let (_, json) = get(&server, &uri).await;
        let list = object(&server, &uri).await;
        assert_eq!(list["kind"], json["kind"]);
        assert_eq!(list["metadata"], json["metadata"], "{uri}");
        let none = json!([]);
        assert_eq!(list.get("items").unwrap_or(&none), &json["items"], "{uri}");
    }
    // Another version than the stored one.
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (_, json) = get(&server, events).await;
    assert_eq!(object(&server, events).await["metadata"], json["metadata"]);
}

#[tokio::test]
async fn a_list_longer_than_what_is_kept_is_whole() {
    let server = server().await;
    for i in 0..30 {
        let mut map = config_map(&format!("x{i:02}"));
        map["data"]["a"] = format!("{i}").repeat(200_000 / (1 + i / 10)).into();
        call(&server, "POST", MAPS, map).await;
    }
    let (_, json) = get(&server, MAPS).await;
    let (_, plain) = bytes(&server, MAPS, &[ACCEPT]).await;
    assert!(plain.len() > 4 * 1024 * 1024, "{}", plain.len());
    assert_eq!(decode(&plain).unwrap()["items"], json["items"]);
    // The same, compressed on the way.
    let headers = [ACCEPT, ("accept-encoding", "gzip")];
    let (_, small) = bytes(&server, MAPS, &headers).await;
    let mut back = Vec::new();
    flate2::read::GzDecoder::new(&small[..])
        .read_to_end(&mut back)
        .unwrap();
    assert!(back == plain && small.len() < plain.len() / 50);
}

#[tokio::test]
async fn metadata_alone_can_be_had() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let accept = |kind: &str| format!("{PROTOBUF};as={kind};g=meta.k8s.io;v=v1,application/json");
    let one = accept("PartialObjectMetadata");
    let (_, one) = bytes(&server, &format!("{MAPS}/x"), &[("accept", &one)]).await;
    let one = decode(&one).unwrap();
    assert_eq!(one["kind"], "PartialObjectMetadata");
    assert_eq!(one["metadata"]["name"], "x");
    assert_eq!(one.get("data"), None);
    let list = accept("PartialObjectMetadataList");
    let (_, list) = bytes(&server, MAPS, &[("accept", &list)]).await;
    let list = decode(&list).unwrap();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(list["items"][0]["metadata"], one["metadata"]);
}

/// The next piece of a watch that has something to tell.
async fn piece(body: &mut Body) -> Bytes {
    let frame = body.frame().await.unwrap().unwrap();
    frame.into_data().unwrap()
}

/// The events in a piece: their types and objects.
fn events(mut piece: &[u8]) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while let Some((length, rest)) = piece.split_first_chunk::<4>() {
        let (mut event, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        piece = rest;
        // The type, then the object in a message of its own.
        assert_eq!(event[0], 0x0a);
        let kind = std::str::from_utf8(&event[2..2 + event[1] as usize])
            .unwrap()
            .to_owned();
        let at = event.windows(4).position(|w| w == b"k8s\0").unwrap();
        event = &event[at..];
        events.push((kind, decode(event).unwrap()));
    }
    events
}

#[tokio::test]
async fn watches_are_frames_encoded_once_for_all_watchers() {
    let server = server().await;
    let (_, list) = get(&server, MAPS).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let uri = format!("{MAPS}?watch=true&resourceVersion={from}&allowWatchBookmarks=true");
    let accept = [("accept", "application/vnd.kubernetes.protobuf;stream=watch")];
    let mut watches = Vec::new();
    for _ in 0..3 {
        let response = send(&server, "GET", &uri, &accept, "").await;
        let media_type = format!("{PROTOBUF};stream=watch");
        assert_eq!(response.headers()["content-type"], media_type.as_str());
        watches.push(response.into_body());
    }
    let (_, made) = call(&server, "POST", MAPS, config_map("x")).await;
    let mut places = Vec::new();
    for watch in &mut watches {
        let piece = piece(watch).await;
        assert_eq!(events(&piece), [("ADDED".to_owned(), made.clone())]);
        places.push(piece.as_ptr());
    }
    assert!(
        places.iter().all(|at| *at == places[0]),
        "one encoding for all"
    );
    call(&server, "DELETE", &format!("{MAPS}/x"), Value::Null).await;
    let gone = events(&piece(&mut watches[0]).await);
    assert_eq!(gone[0].0, "DELETED");
    assert_eq!(gone[0].1["metadata"]["name"], "x");
}

#[tokio::test]
async fn a_watch_tells_of_the_beginning_s_end_and_of_errors_in_frames() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let uri = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut watch = send(&server, "GET", &uri, &[ACCEPT], "").await.into_body();
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(events(&piece(&mut watch).await));
    }
    assert_eq!(told[0].0, "ADDED");
    assert_eq!(told[1].0, "BOOKMARK");
    let annotations = &told[1].1["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");

    let accept = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let mut watch = send(&server, "GET", &uri, &[("accept", &accept)], "")
        .await
        .into_body();
    let told = events(&piece(&mut watch).await);
    assert_eq!(told[0].1["kind"], "PartialObjectMetadata");
    assert_eq!(told[0].1["metadata"]["name"], "x");
}

#[tokio::test]
async fn what_cannot_be_had_is_named() {
    let server = server().await;
    let ask = async |uri: &str, accept: &str| {
        let (status, body) = text(send(&server, "GET", uri, &[("accept", accept)], "").await).await;
        assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
        let status: Value = serde_json::from_str(&body).unwrap();
        status["message"].as_str().unwrap().to_owned()
    };
    let only = "only the following media types are accepted";
    assert_eq!(
        ask(&format!("{MAPS}/x"), "text/html").await,
        format!(
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, {PROTOBUF}"
        )
    );
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(
        ask(MAPS, &table).await,
        format!("{only}: application/json, application/yaml, {PROTOBUF}")
    );
    let watch = format!("{MAPS}?watch=true&resourceVersion=1");
    let (status, body) = text(
        send(
            &server,
            "GET",
            &watch,
            &[("accept", "application/yaml")],
            "",
        )
        .await,
    )
    .await;
    assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
    assert!(
        body.contains(&format!(
            "application/json;stream=watch, {PROTOBUF};stream=watch"
        )),
        "{body}"
    );
}

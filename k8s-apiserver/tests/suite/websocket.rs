//! Watches and logs over WebSocket, without any channels: what browsers use.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, header};
use k8s_apiserver::{ApiServer, http::Body, proxy::Connecter};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::common::{
    MAPS, config_map,
    wire::{Cluster, cluster, cluster_of},
};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn connect(
    cluster: &Cluster,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
    let mut request = format!("wss://localhost{path}").into_client_request()?;
    let origin = http::HeaderValue::from_static("https://localhost");
    request.headers_mut().insert(header::ORIGIN, origin);
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = cluster.connect(&cluster.admin, b"http/1.1").await;
    tokio_tungstenite::client_async(request, stream).await
}

async fn event(socket: &mut Socket) -> (Value, Value) {
    let Message::Text(text) = socket.next().await.unwrap().unwrap() else {
        panic!("an event is text");
    };
    let event: Value = serde_json::from_str(&text).unwrap();
    (
        event["type"].clone(),
        event["object"]["metadata"]["name"].clone(),
    )
}

#[tokio::test]
async fn a_watch_sends_each_event_as_a_message_of_text() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    for name in ["a", "b"] {
        wire.post(MAPS, config_map(name).to_string().as_bytes())
            .await;
    }
    let path = format!("{MAPS}?watch=1");
    let (mut socket, answer) = connect(&cluster, &path, &[]).await.unwrap();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(event(&mut socket).await, (json!("ADDED"), json!("a")));
    assert_eq!(event(&mut socket).await, (json!("ADDED"), json!("b")));
    wire.ask("DELETE", &format!("{MAPS}/b"), "", b"").await;
    assert_eq!(event(&mut socket).await, (json!("DELETED"), json!("b")));
    // What a client says is no reason to stop.
    socket.send(Message::text("hello")).await.unwrap();
    wire.post(MAPS, config_map("c").to_string().as_bytes())
        .await;
    assert_eq!(event(&mut socket).await, (json!("ADDED"), json!("c")));
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_watch_in_protobuf_sends_bytes() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    wire.post(MAPS, config_map("a").to_string().as_bytes())
        .await;
    let accept = "application/vnd.kubernetes.protobuf;stream=watch";
    let path = format!("{MAPS}?watch=1");
    let (mut socket, _) = connect(&cluster, &path, &[("accept", accept)])
        .await
        .unwrap();
    let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() else {
        panic!("protobuf is bytes");
    };
    // The event's first field is its type.
    assert_eq!(bytes[..7], *b"\n\x05ADDED");
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_before_the_connection_changes() {
    let cluster = cluster().await;
    for (path, code) in [
        (format!("{MAPS}?watch=1&resourceVersion=x"), 400),
        ("/api/v1/namespaces/default/nopes?watch=1".to_owned(), 404),
        (format!("{MAPS}?watch=1&fieldSelector=spec.nope%3Dx"), 400),
    ] {
        match connect(&cluster, &path, &[]).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), code, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

/// Kubelets that have logged something.
#[derive(Debug)]
struct Logs;

#[async_trait]
impl Connecter for Logs {
    async fn connect(
        &self,
        _namespace: &str,
        _name: &str,
        subresource: &str,
        _rest: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        assert_eq!(subresource, "log");
        assert!(!request.headers().contains_key(header::UPGRADE));
        Response::new(Body::from("one\ntwo\n".to_owned().into_bytes()))
    }
}

#[tokio::test]
async fn a_log_comes_as_bytes_or_as_base64_in_text() {
    let cluster = cluster_of(ApiServer::builder().connecter("", "pods", Arc::new(Logs))).await;
    let mut wire = cluster.wire().await;
    let pods = "/api/v1/namespaces/default/pods";
    wire.post(
        "/api/v1/namespaces/default/serviceaccounts",
        br#"{"metadata":{"name":"default"}}"#,
    )
    .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "automountServiceAccountToken": false}});
    let made = wire.post(pods, pod.to_string().as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.message());
    let path = format!("{pods}/p/log?follow=true");
    let bytes = [
        Message::binary(&b""[..]),
        Message::binary(&b"one\ntwo\n"[..]),
    ];
    let base64 = [Message::text(""), Message::text("b25lCnR3bwo=")];
    let protocol = "sec-websocket-protocol";
    for (headers, expected) in [
        (vec![], &bytes),
        (vec![(protocol, "binary.k8s.io")], &bytes),
        (vec![(protocol, "base64.binary.k8s.io")], &base64),
    ] {
        let (mut socket, answer) = connect(&cluster, &path, &headers).await.unwrap();
        let agreed = answer.headers().get(protocol).map(|v| v.to_str().unwrap());
        assert_eq!(agreed, headers.first().map(|(_, name)| *name));
        let mut found = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() {
                found.push(message);
            }
        }
        assert_eq!(found, expected);
    }
    match connect(&cluster, &path, &[(protocol, "v5.channel.k8s.io")]).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_watch_is_for_those_who_say_where_they_come_from() {
    let cluster = cluster().await;
    let path = format!("{MAPS}?watch=1");
    for origin in ["", "null", "x"] {
        let refused = connect(&cluster, &path, &[("origin", origin)]).await;
        let Err(Error::Http(answer)) = refused else {
            panic!("{origin:?} is let in");
        };
        assert_eq!(answer.status(), 403);
    }
    assert!(connect(&cluster, &path, &[("origin", "/")]).await.is_ok());
}

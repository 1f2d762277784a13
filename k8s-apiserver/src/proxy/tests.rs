use std::{convert::Infallible, io};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::admission::memory::MemoryReader;

/// A kubelet within the process. It says what it was asked, echoes upgraded streams, and has a container
/// that isn't there yet.
#[derive(Debug)]
struct FakeKubelet;

async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(!request.headers().contains_key(header::AUTHORIZATION));
    let asked = request.uri().to_string();
    if asked.contains("/waiting") {
        let mut refusal = Response::new(Full::from(
            r#"container "waiting" in pod "p" is waiting to start: ContainerCreating"#,
        ));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    }
    if asked == "/seen" {
        let seen = |name: &str| {
            let value = request.headers().get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let seen = json!([seen("host"), seen("x-forwarded-uri")]);
        return Ok(Response::builder()
            .status(StatusCode::FOUND)
            .header(header::LOCATION, "http://10.0.0.7:10250/there")
            .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            .body(Full::from(seen.to_string()))
            .unwrap());
    }
    if asked == "/page" {
        return Ok(Response::builder()
            .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
            .body(Full::from("<a href=\"/rewriteme\">test</a>"))
            .unwrap());
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Ok(Response::new(Full::from(asked)));
    }
    let protocol = request.headers()["sec-websocket-protocol"].clone();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        stream.write_all(asked.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    Ok(Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-protocol", protocol)
        .body(Full::default())
        .unwrap())
}

#[async_trait]
impl NodeDialer for FakeKubelet {
    async fn dial(&self, endpoint: &NodeEndpoint) -> io::Result<Box<dyn ByteStream>> {
        if endpoint.node != "n" {
            return Err(io::Error::other("no such node"));
        }
        let (near, far) = tokio::io::duplex(1024);
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service_fn(kubelet))
                .with_upgrades(),
        );
        Ok(Box::new(near))
    }
}

fn pod(name: &str, node: &str, containers: &[&str]) -> Value {
    let containers: Vec<Value> = containers.iter().map(|c| json!({ "name": c })).collect();
    json!({
        "metadata": { "namespace": "ns", "name": name },
        "spec": { "nodeName": node, "containers": containers },
    })
}

fn pods() -> Arc<dyn Connecter> {
    let reader = MemoryReader::default();
    reader.put("", "pods", pod("p", "n", &["one", "waiting"]));
    reader.put("", "pods", pod("single", "n", &["only"]));
    reader.put("", "pods", pod("pending", "", &["only"]));
    reader.put(
        "",
        "nodes",
        json!({
            "metadata": { "name": "n" },
            "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.7" }] },
        }),
    );
    let reader: Arc<dyn ObjectReader> = Arc::new(reader);
    let dialer: Arc<dyn NodeDialer> = Arc::new(FakeKubelet);
    let (_, pods) = connecters(&reader, &dialer).remove(0);
    pods
}

async fn ask(name: &str, subresource: &str, query: &str) -> (StatusCode, String) {
    let request = Request::get(format!("/x?{query}"))
        .header(header::AUTHORIZATION, "Bearer secret")
        .body(Body::empty())
        .unwrap();
    let answer = pods().connect("ns", name, subresource, "", request).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn message(json: &str) -> String {
    let value: Value = serde_json::from_str(json).unwrap();
    value["message"].as_str().unwrap().to_owned()
}

/// The fake kubelet, found by the node's name.
#[derive(Debug)]
struct WithinTheProcess;

#[async_trait]
impl NodeDialer for WithinTheProcess {
    async fn dial(&self, endpoint: &NodeEndpoint) -> io::Result<Box<dyn ByteStream>> {
        FakeKubelet.dial(endpoint).await
    }

    fn dials(&self) -> bool {
        false
    }
}

async fn node_proxy(dialer: Arc<dyn NodeDialer>, kind: &str, address: &str, name: &str) -> String {
    let reader = MemoryReader::default();
    let addresses = json!([{ "type": kind, "address": address }]);
    let node = json!({ "metadata": { "name": "n" }, "status": { "addresses": addresses } });
    reader.put("", "nodes", node);
    let reader: Arc<dyn ObjectReader> = Arc::new(reader);
    let (_, nodes) = connecters(&reader, &dialer).remove(1);
    let request = Request::get(format!("/api/v1/nodes/{name}/proxy/healthz"));
    let request = request.body(Body::empty()).unwrap();
    let answer = nodes.connect("", name, "proxy", "healthz", request).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    match status {
        StatusCode::OK => text,
        status => format!("{}: {}", status.as_u16(), message(&text)),
    }
}

#[tokio::test]
async fn a_node_cannot_have_the_server_ask_itself() {
    for (kind, address) in [
        ("InternalIP", "127.0.0.1"),
        ("ExternalIP", "::ffff:127.0.0.1"),
        ("InternalIP", "169.254.169.254"),
        ("Hostname", "localhost"),
    ] {
        for name in ["n", "n:10250", "https:n:10250", "n:80"] {
            let refused = node_proxy(Arc::new(FakeKubelet), kind, address, name).await;
            assert_eq!(refused, "400: address not allowed", "{address} {name}");
        }
        // Nothing is dialled where the kubelet is known by its node's name; other ports are.
        let found = node_proxy(Arc::new(WithinTheProcess), kind, address, "n").await;
        assert_eq!(found, "/healthz");
        let refused = node_proxy(Arc::new(WithinTheProcess), kind, address, "n:80").await;
        assert_eq!(refused, "400: address not allowed", "{address}");
    }
    let found = node_proxy(Arc::new(FakeKubelet), "InternalIP", "10.0.0.7", "n").await;
    assert_eq!(found, "/healthz");
}

#[tokio::test]
async fn a_backend_below_a_path_hears_of_it_and_is_found_there() {
    let reader = MemoryReader::default();
    let addresses = json!([{ "type": "InternalIP", "address": "10.0.0.7" }]);
    let node = json!({ "metadata": { "name": "n" }, "status": { "addresses": addresses } });
    reader.put("", "nodes", node);
    let reader: Arc<dyn ObjectReader> = Arc::new(reader);
    let dialer: Arc<dyn NodeDialer> = Arc::new(FakeKubelet);
    let (_, nodes) = connecters(&reader, &dialer).remove(1);
    let ask = async |path: &str| {
        // A client cannot have the header taken away.
        let request = Request::get(format!("/api/v1/nodes/n/proxy{path}"))
            .header(header::HOST, "api.example:6443")
            .header(header::CONNECTION, "x-forwarded-uri")
            .body(Body::empty());
        let rest = path.trim_start_matches('/');
        nodes
            .connect("", "n", "proxy", rest, request.unwrap())
            .await
    };
    let answer = ask("/seen").await;
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert!(
        !answer
            .headers()
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
    assert_eq!(
        answer.headers()[header::LOCATION],
        "/api/v1/nodes/n/proxy/there"
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        seen,
        json!(["api.example:6443", "/api/v1/nodes/n/proxy/seen"])
    );
    let page = ask("/page").await.into_body().collect().await.unwrap();
    assert_eq!(
        page.to_bytes(),
        "<a href=\"/api/v1/nodes/n/proxy/rewriteme\">test</a>"
    );
    let answer = ask("").await;
    assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(answer.headers()[header::LOCATION], "/api/v1/nodes/n/proxy/");
}

#[tokio::test]
async fn logs_come_from_the_kubelet_of_the_pods_node() {
    let (status, text) = ask("single", "log", "follow=true&tailLines=3").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        text,
        "/containerLogs/ns/single/only?follow=true&tailLines=3"
    );
    let (status, text) = ask("pending", "log", "").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn which_container_is_meant_must_be_clear() {
    let (status, text) = ask("p", "log", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        message(&text),
        "a container name must be specified for pod p, choose one of: [one waiting]"
    );
    let (_, text) = ask("p", "log", "container=two").await;
    assert_eq!(message(&text), "container two is not valid for pod p");
    let (status, text) = ask("p", "log", "container=waiting").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        message(&text),
        r#"container "waiting" in pod "p" is waiting to start: ContainerCreating"#
    );
    let (status, text) = ask("none", "log", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(message(&text), r#"pods "none" not found"#);
}

#[tokio::test]
async fn streams_need_an_upgrade_and_a_node() {
    let (status, text) = ask("single", "exec", "command=sh").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(message(&text), "Upgrade request required");
    let (_, text) = ask("pending", "exec", "command=sh").await;
    assert_eq!(message(&text), "pod pending does not have a host assigned");
}

#[tokio::test]
async fn an_upgraded_stream_is_passed_on_both_ways() {
    // Tunnels last as long as their connecter.
    let held = pods();
    let connecter = held.clone();
    let (near, far) = tokio::io::duplex(1024);
    let service = service_fn(move |request: Request<Incoming>| {
        let connecter = connecter.clone();
        async move {
            let answer = connecter
                .connect("ns", "single", "exec", "", request.map(Body::wrap))
                .await;
            Ok::<_, Infallible>(answer)
        }
    });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), service)
            .with_upgrades(),
    );
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/exec?command=cat&stdin=true&stdout=true")
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "keep-alive, Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
        .body(Full::<Bytes>::default())
        .unwrap();
    let mut answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(
        answer.headers()["sec-websocket-protocol"],
        "v4.channel.k8s.io"
    );
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let greeting = "/exec/ns/single/only?input=1&output=1&command=cat";
    let mut read = vec![0; greeting.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(read, greeting.as_bytes());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"hello");
    drop(held);
}

#[tokio::test]
async fn a_service_leads_to_its_pods_alone() {
    let reader = Arc::new(MemoryReader::default());
    let meta = |name: &str| json!({"namespace": "default", "name": name});
    let service = json!({"metadata": meta("s"), "spec": {"ports": [{"port": 80}]}});
    reader.put("", "services", service);
    let pod = json!({"metadata": meta("p"), "spec": {"containers": []},
        "status": {"podIPs": [{"ip": "192.0.2.7"}]}});
    reader.put("", "pods", pod);
    let as_reader: Arc<dyn ObjectReader> = reader.clone();
    let services = super::services::Services::new(as_reader, Forwarder::default());
    let target = |name: &str| json!({"kind": "Pod", "namespace": "default", "name": name});
    let elsewhere = json!({"kind": "Pod", "namespace": "other", "name": "p"});
    for (address, target, expected) in [
        ("192.0.2.7", target("p"), Some("192.0.2.7")),
        // What slices say themselves leads nowhere: who writes them is not to reach what the server reaches.
        ("192.0.2.7", Value::Null, None),
        ("192.0.2.8", target("p"), None),
        ("192.0.2.7", target("gone"), None),
        ("192.0.2.7", elsewhere, None),
    ] {
        let mut slice = meta("s-1");
        slice["labels"] = json!({"kubernetes.io/service-name": "s"});
        let slice = json!({"metadata": slice, "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080}],
            "endpoints": [{"addresses": [address], "targetRef": target}]});
        reader.put("discovery.k8s.io", "endpointslices", slice);
        let chosen = services.choose("default", "s", "").await.unwrap();
        let expected = expected.map(|ip| (ip.to_owned(), 8080));
        assert_eq!(chosen, expected, "{address} {target}");
    }
}

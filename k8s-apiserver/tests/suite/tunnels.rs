//! exec and port-forward over WebSocket to a kubelet that speaks nothing but SPDY.

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_apiserver::{
    ApiServer,
    pki::Pki,
    proxy::{self, NodeDialer, TlsDialer},
    serve,
};
use k8s_streaming::{
    channel::{CLOSE, ERROR, Input, Output, RESIZE, STDERR, STDIN, STDOUT},
    spdy::{Event, Wire, process, upgrade},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest},
};
use tokio_util::task::AbortOnDropHandle;

use crate::common::wire::{Cluster, cluster_with};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

const POD: &str = "/api/v1/namespaces/default/pods/p";
const V5: &str = "v5.channel.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

fn refuse(status: StatusCode, text: &str) -> Response<String> {
    let mut refusal = Response::new(text.to_owned());
    *refusal.status_mut() = status;
    refusal
}

/// A kubelet from before it knew this WebSocket protocol.
async fn kubelet(
    mut request: Request<Incoming>,
    running: Arc<watch::Sender<usize>>,
) -> Result<Response<String>, Infallible> {
    assert!(!request.headers().contains_key(header::AUTHORIZATION));
    if !upgrade::is_asked_for(request.headers()) {
        return Ok(refuse(StatusCode::BAD_REQUEST, "only SPDY here"));
    }
    assert!(!request.headers().contains_key(header::SEC_WEBSOCKET_KEY));
    assert_eq!(request.method(), "POST");
    let uri = request.uri().to_string();
    let forwards = uri.starts_with("/portForward/");
    let known = match forwards {
        true => &upgrade::PORT_FORWARD[..],
        false => &upgrade::REMOTE_COMMAND,
    };
    if uri.contains("missing") {
        let text = "container not found (\"c\")";
        return Ok(refuse(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    let agreed = upgrade::Upgrade::accept(&mut request, known).unwrap();
    let (response, version, io) = agreed.into_parts();
    running.send_modify(|running| *running += 1);
    tokio::spawn(async move {
        let wire = Wire::raw(io.await.unwrap());
        match forwards {
            true => echo(wire).await,
            false => run(wire, version, &uri).await,
        }
        running.send_modify(|running| *running -= 1);
    });
    Ok(response.map(|()| String::new()))
}

/// Runs a process that has all that is sent to it, and its terminal's width, in capitals on its output.
async fn run(wire: Wire, version: u8, uri: &str) {
    assert_eq!(version, 4);
    let (connection, out, writer) = wire.into_parts();
    let streams = ["input=1", "output=1", "error=1", "tty=1"];
    let mut expected = 1 + streams.iter().filter(|name| uri.contains(*name)).count();
    if uri.contains("tty=1") && uri.contains("error=1") {
        expected -= 1;
    }
    let (to, mut from) = process::accept(connection, out, expected).await.unwrap();
    if uri.contains("command=vanish") {
        drop((to, from));
        let _ = writer.await;
        return;
    }
    let (mut input, mut width) = (Vec::new(), Value::Null);
    while uri.contains("input=1") {
        match from.next().await {
            Some((STDIN, data)) => input.extend(data.to_ascii_uppercase()),
            Some((RESIZE, size)) => {
                width = serde_json::from_slice::<Value>(&size).unwrap()["Width"].clone();
            }
            Some((CLOSE, which)) if which[0] == STDIN => break,
            Some(_) => {}
            // The client has left.
            None => return,
        }
    }
    input.extend(width.to_string().bytes());
    to.send(STDOUT, &input).await.unwrap();
    to.send(STDERR, b"oh").await.unwrap();
    let status = match uri.contains("command=fail") {
        true => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code: exit status 3",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}),
        false => json!({"metadata": {}, "status": "Success"}),
    };
    to.send(ERROR, status.to_string().as_bytes()).await.unwrap();
    to.end().await;
    drop(to);
    let _ = tokio::join!(from.drain(), writer);
}

/// Has the server of each port say what it hears.
async fn echo(wire: Wire) {
    let (mut connection, out, _writer) = wire.into_parts();
    let mut data_streams = Vec::new();
    while let Some(event) = connection.next().await {
        match event {
            Event::Opened { stream, headers } => {
                assert_eq!(headers.get("port"), Some("80"));
                connection.accept(stream).await.unwrap();
                if headers.get("streamtype") == Some("data") {
                    data_streams.push(stream);
                }
            }
            Event::Data { stream, data, last } if data_streams.contains(&stream) => {
                out.data(stream, &data, last).await.unwrap();
            }
            _ => {}
        }
    }
}

struct Node {
    cluster: Cluster,
    /// How many tunnels the kubelet has.
    running: watch::Receiver<usize>,
    _kubelet: AbortOnDropHandle<()>,
}

async fn node() -> Node {
    let pki = Pki::in_memory().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let credential = pki.issue_kubelet_server("n", &[Ipv4Addr::LOCALHOST.into()]);
    let tls = serve::server_config(&credential.unwrap(), pki.ca_der()).unwrap();
    let (sender, running) = watch::channel(0);
    let sender = Arc::new(sender);
    let kubelet = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            let service = service_fn(move |request| kubelet(request, sender.clone()));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await
            });
        }
    });
    let dialer: Arc<dyn NodeDialer> =
        Arc::new(TlsDialer::new(pki.ca_der(), &pki.kubelet_client().unwrap()).unwrap());
    let mut builder = ApiServer::builder();
    for (resource, connecter) in proxy::connecters(&builder.reader(), &dialer) {
        builder = builder.connecter("", resource, connecter);
    }
    let cluster = cluster_with(pki, builder).await;
    let mut wire = cluster.wire().await;
    let namespaced = |plural: &str| format!("/api/v1/namespaces/default/{plural}");
    let pod = |name: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {"nodeName": node, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i"}]}})
    };
    let node = |name: &str, port: u16| {
        json!({"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}})
    };
    let mut newest = node("newest", port);
    newest["status"]["declaredFeatures"] = json!(["ExtendWebSocketsToKubelet"]);
    for (path, object) in [
        (
            namespaced("serviceaccounts"),
            json!({"metadata": {"name": "default"}}),
        ),
        ("/api/v1/nodes".to_owned(), node("n", port)),
        // Nobody listens there.
        ("/api/v1/nodes".to_owned(), node("down", 1)),
        ("/api/v1/nodes".to_owned(), newest),
        (namespaced("pods"), pod("direct", "newest")),
        (namespaced("pods"), pod("p", "n")),
        (namespaced("pods"), pod("lost", "down")),
    ] {
        let made = wire.post(&path, object.to_string().as_bytes()).await;
        assert_eq!(made.status, 201, "{}", made.message());
    }
    Node {
        cluster,
        running,
        _kubelet: AbortOnDropHandle::new(kubelet),
    }
}

impl Node {
    async fn connect(
        &self,
        path: &str,
        protocols: &str,
    ) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
        let mut request = format!("wss://localhost{path}").into_client_request()?;
        let protocols = protocols.parse().unwrap();
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        let stream = (self.cluster.connect(&self.cluster.admin, b"http/1.1")).await;
        tokio_tungstenite::client_async(request, stream).await
    }

    async fn exec(&self, query: &str) -> Socket {
        // What older clients offer, too.
        let path = format!("{POD}/exec?{query}");
        let offered = format!("{V5}, v4.channel.k8s.io");
        let (socket, answer) = self.connect(&path, &offered).await.unwrap();
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], V5);
        socket
    }
}

async fn send(socket: &mut Socket, channel: u8, data: &[u8]) {
    let message = [&[channel], data].concat();
    socket.send(Message::binary(message)).await.unwrap();
}

/// All that comes on each channel until the server closes, and the status.
async fn read(socket: &mut Socket) -> (Vec<Vec<u8>>, Value) {
    let mut channels = vec![Vec::new(); 4];
    let mut greeted = false;
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(data) if !greeted => {
                assert_eq!(data.len(), 1, "the first message is empty");
                greeted = true;
            }
            Message::Binary(data) => channels[usize::from(data[0])].extend_from_slice(&data[1..]),
            Message::Close(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let status = serde_json::from_slice(&channels[3]).unwrap();
    (channels, status)
}

async fn status(socket: &mut Socket) -> Value {
    read(socket).await.1
}

#[tokio::test]
async fn a_terminal_has_input_output_sizes_an_end_of_input_and_an_exit_code() {
    let node = node().await;
    let mut socket = node
        .exec("command=fail&stdin=true&stdout=true&stderr=true&tty=true")
        .await;
    send(&mut socket, RESIZE, b"{\"Width\":132,\"Height\":24}").await;
    send(&mut socket, STDIN, b"hel").await;
    send(&mut socket, STDIN, b"").await;
    send(&mut socket, STDIN, b"lo ").await;
    send(&mut socket, CLOSE, &[STDIN]).await;
    let (channels, status) = read(&mut socket).await;
    // A terminal's errors are output.
    assert_eq!(
        (&channels[1][..], &channels[2][..]),
        (&b"HELLO 132"[..], &b""[..])
    );
    let text = "command terminated with non-zero exit code: command terminated with exit code 3";
    assert_eq!(
        status,
        json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": text,
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}})
    );
}

#[tokio::test]
async fn much_is_carried_whole_and_errors_apart_from_output() {
    let node = node().await;
    let mut socket = node
        .exec("command=cat&stdin=true&stdout=true&stderr=true")
        .await;
    let sent: Vec<u8> = (0..3 << 20).map(|i: u32| b'a' + (i % 23) as u8).collect();
    for message in sent.chunks(1 << 20) {
        send(&mut socket, STDIN, message).await;
    }
    send(&mut socket, CLOSE, &[STDIN]).await;
    let (channels, status) = read(&mut socket).await;
    assert_eq!(channels[2], b"oh");
    assert!(channels[1] == [&sent.to_ascii_uppercase()[..], b"null"].concat());
    assert_eq!(status, json!({"metadata": {}, "status": "Success"}));
}

#[tokio::test]
async fn what_fails_behind_the_server_is_told_on_the_error_channel() {
    let node = node().await;
    let told = |cause: &str| {
        json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {cause}"), "details": {"causes": [{"message": cause}]}})
    };
    let mut refused = node.exec("command=missing&stdout=true").await;
    let text = "unable to upgrade connection: container not found (\"c\")";
    assert_eq!(status(&mut refused).await, told(text));
    let mut vanished = node.exec("command=vanish&stdin=true").await;
    let text = "error reading from error stream: unexpected EOF";
    assert_eq!(status(&mut vanished).await, told(text));
    let lost = format!("{POD}/exec?command=sh&stdout=1").replace("pods/p", "pods/lost");
    let (mut lost, _) = node.connect(&lost, V5).await.unwrap();
    let text = "error sending request: Post \"https://127.0.0.1:1/exec/default/lost/c?output=1&command=sh\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(status(&mut lost).await, told(text));
}

#[tokio::test]
async fn older_protocols_and_those_that_it_declares_are_for_the_kubelet_itself() {
    let node = node().await;
    for (pod, request, protocol) in [
        ("p", "exec?command=sh&stdout=true", "v4.channel.k8s.io"),
        ("p", "exec?command=sh&stdout=true", "v5.other.k8s.io"),
        ("direct", "exec?command=sh&stdout=true", V5),
        ("direct", "portforward?ports=80", TUNNEL),
    ] {
        let path = format!("{POD}/{request}").replace("pods/p", &format!("pods/{pod}"));
        match node.connect(&path, protocol).await {
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 400);
                assert_eq!(answer.body().as_deref(), Some(&b"only SPDY here"[..]));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_passed_over_or_ends_the_session() {
    let node = node().await;
    // Nobody knows these channels, and these are no sizes.
    let mut socket = node.exec("command=cat&stdin=true&stdout=true").await;
    for (channel, data) in [
        (RESIZE, &b"{\"Width\":"[..]),
        (RESIZE, b"{\"Width\":-1,\"Height\":1e99}"),
        (STDOUT, b"mine"),
        (ERROR, b"{}"),
        (77, b"x"),
        (CLOSE, &[]),
        (CLOSE, &[CLOSE]),
        (CLOSE, &[STDOUT]),
    ] {
        send(&mut socket, channel, data).await;
    }
    socket.send(Message::binary(&b""[..])).await.unwrap();
    send(&mut socket, STDIN, b"ok ").await;
    send(&mut socket, CLOSE, &[STDIN]).await;
    // Too late.
    send(&mut socket, STDIN, b"no").await;
    send(&mut socket, CLOSE, &[STDIN]).await;
    let (channels, _) = read(&mut socket).await;
    assert_eq!(channels[1], b"OK null");
    // Frames that are too long, not masked, of no kind, or cut short by the end of the connection.
    for frame in [
        &[0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4][..],
        &[
            0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
        ],
        &[0x82, 0x01, 0x00],
        &[0x8f, 0x80, 0, 0, 0, 0],
        &[0x80, 0x80, 0, 0, 0, 0],
        &[0x82, 0xfe, 0xff],
    ] {
        let mut socket = node.exec("command=cat&stdin=true").await;
        let stream = socket.get_mut();
        stream.write_all(frame).await.unwrap();
        if frame.len() == 3 && frame[1] == 0xfe {
            stream.shutdown().await.unwrap();
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.len() < 1 << 10, "{frame:?}");
    }
}

#[tokio::test]
async fn tunnels_end_with_their_clients_however_those_leave() {
    let node = node().await;
    let mut running = node.running.clone();
    let exec = "exec?command=cat&stdin=true&stdout=true";
    for (path, protocol) in [(exec, V5), ("portforward?ports=80", TUNNEL)] {
        for leave in ["close", "half", "drop"] {
            let path = format!("{POD}/{path}");
            let (mut socket, _) = node.connect(&path, protocol).await.unwrap();
            running.wait_for(|running| *running == 1).await.unwrap();
            // In the middle of a message.
            let begun = [0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4, b'x'];
            match leave {
                "close" => socket.close(None).await.unwrap(),
                "half" => {
                    let stream = socket.get_mut();
                    stream.write_all(&begun).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
                _ => drop(socket),
            }
            running.wait_for(|running| *running == 0).await.unwrap();
        }
    }
}

#[tokio::test]
async fn streams_of_older_clients_are_passed_on_and_end_with_them() {
    let node = node().await;
    let mut running = node.running.clone();
    for leave in ["end of input", "half", "drop"] {
        let stream = (node.cluster.connect(&node.cluster.admin, b"http/1.1")).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        let path = format!("{POD}/exec?command=fail&stdin=true&stdout=true");
        let mut request = Request::post(path)
            .header(header::HOST, "localhost")
            .body(String::new())
            .unwrap();
        upgrade::ask(request.headers_mut(), "v4.channel.k8s.io");
        let mut answer = sender.send_request(request).await.unwrap();
        assert!(upgrade::is_agreed(&answer));
        let io = hyper::upgrade::on(&mut answer).await.unwrap();
        let (connection, out, writer) = Wire::raw(TokioIo::new(io)).into_parts();
        let opened = process::open(connection, out, &[ERROR, STDIN, STDOUT]).await;
        let (to, mut from) = opened.unwrap();
        to.send(STDIN, b"hello ").await.unwrap();
        running.wait_for(|running| *running == 1).await.unwrap();
        match leave {
            "end of input" => {
                to.finish(STDIN).await;
                let mut found = Vec::new();
                while found.len() < 4 {
                    found.push(from.next().await.unwrap());
                }
                assert_eq!(found[0], (STDOUT, "HELLO null".into()));
                // As the kubelet has said it.
                let said: Value = serde_json::from_slice(&found[1].1).unwrap();
                let text = "command terminated with non-zero exit code: exit status 3";
                assert_eq!(said["message"], text);
                drop((to, from, writer));
            }
            "half" => {
                drop(to);
                from.drain().await;
                writer.await.unwrap();
            }
            _ => drop((to, from, writer)),
        }
        running.wait_for(|running| *running == 0).await.unwrap();
    }
}

/// The client's end of a port-forward, as bytes of SPDY.
fn unpacked(mut socket: Socket) -> (DuplexStream, AbortOnDropHandle<()>) {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let pump = tokio::spawn(async move {
        let mut buffer = vec![0; 20_000];
        loop {
            tokio::select! {
                read = far.read(&mut buffer) => match read.unwrap() {
                    0 => return socket.close(None).await.unwrap(),
                    n => socket.send(Message::binary(buffer[..n].to_vec())).await.unwrap(),
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(data))) => far.write_all(&data).await.unwrap(),
                    _ => return,
                },
            }
        }
    });
    (near, AbortOnDropHandle::new(pump))
}

#[tokio::test]
async fn ports_are_forwarded_through_messages() {
    let node = node().await;
    let path = format!("{POD}/portforward?ports=80");
    let (socket, answer) = node.connect(&path, TUNNEL).await.unwrap();
    assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], TUNNEL);
    let (io, _pump) = unpacked(socket);
    let (mut connection, out, _writer) = Wire::raw(io).into_parts();
    let mut streams = Vec::new();
    for kind in ["error", "data"] {
        let headers = [("streamtype", kind), ("port", "80"), ("requestid", "0")];
        let stream = connection.open(&headers).await.unwrap();
        assert_eq!(connection.next().await, Some(Event::Accepted { stream }));
        streams.push(stream);
    }
    // More than all the buffers on the way hold.
    let sent: Vec<u8> = (0..2 << 20).map(|i: u32| (i % 251) as u8).collect();
    let sending = out.data(streams[1], &sent, true);
    let receiving = async {
        let mut received = Vec::new();
        while let Some(Event::Data { data, last, .. }) = connection.next().await {
            received.extend_from_slice(&data);
            if last {
                break;
            }
        }
        received
    };
    let (sent_all, received) = tokio::join!(sending, receiving);
    sent_all.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn a_kubelet_that_forwards_no_ports_says_so_itself() {
    let node = node().await;
    let path = format!("{POD}/portforward?ports=80");
    match node.connect(&path, "v4.channel.k8s.io").await {
        Err(Error::Http(answer)) => {
            assert_eq!(answer.body().as_deref(), Some(&b"only SPDY here"[..]));
        }
        other => panic!("{other:?}"),
    }
    let path = path.replace("pods/p", "pods/lost");
    match node.connect(&path, TUNNEL).await {
        Err(Error::Http(answer)) => {
            assert_eq!(answer.status(), 500);
            let body: Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
            assert_eq!(
                body["message"],
                "error dialing backend: dial tcp 127.0.0.1:1: connect: connection refused"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_carried_is_counted() {
    let node = node().await;
    let page = async || {
        let mut wire = node.cluster.wire().await;
        let page = wire.get("/metrics").await;
        String::from_utf8(page.body.clone()).unwrap()
    };
    assert!(!page().await.contains("apiserver_stream_"));
    status(&mut node.exec("command=missing&stdout=true").await).await;
    let mut vanished = node.exec("command=vanish&stdin=true").await;
    status(&mut vanished).await;
    let mut done = node.exec("command=cat&stdin=true&stdout=true").await;
    send(&mut done, CLOSE, &[STDIN]).await;
    assert_eq!(status(&mut done).await["metadata"], json!({}));
    let path = format!("{POD}/portforward?ports=80");
    let _forwarded = node.connect(&path, TUNNEL).await.unwrap();
    assert!(node.connect(&path, "v4.channel.k8s.io").await.is_err());
    let page = page().await;
    for line in [
        r#"apiserver_stream_translator_requests_total{code="200"} 1"#,
        r#"apiserver_stream_translator_requests_total{code="500"} 2"#,
        r#"apiserver_stream_tunnel_requests_total{code="101"} 1"#,
        r#"apiserver_websocket_streaming_requests_total{proxy_type="translated_at_apiserver",subresource="exec"} 3"#,
        r#"apiserver_websocket_streaming_requests_total{proxy_type="translated_at_apiserver",subresource="portforward"} 1"#,
        r#"apiserver_websocket_streaming_requests_total{proxy_type="proxied_to_kubelet",subresource="portforward"} 1"#,
    ] {
        assert!(page.lines().any(|l| l == line), "{line} in {page}");
    }
}

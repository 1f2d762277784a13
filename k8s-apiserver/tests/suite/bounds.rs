//! The bounds of a request: time, size, headers, streams; and how a server goes down.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_apiserver::{
    ApiServer,
    auth::Identity,
    http::Body,
    pki::{Credential, Pki},
    serve::{self, Limits, Server},
};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::common::{MAPS, client, config_map, get, listen, send, server, text};

fn never() -> Body {
    Body::from_stream(futures::stream::pending())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up_after_a_minute_or_sooner_if_the_client_says_so() {
    let server = server().await;
    for (query, seconds) in [("", 60), ("?timeout=3s", 3), ("?timeout=10m", 60)] {
        let started = tokio::time::Instant::now();
        let answer = send(&server, "POST", &format!("{MAPS}{query}"), &[], never()).await;
        assert_eq!(started.elapsed().as_secs(), seconds, "{query}");
        let (code, body) = text(answer).await;
        assert_eq!(code, StatusCode::GATEWAY_TIMEOUT);
        let status: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["reason"], "Timeout");
        assert_eq!(
            status["message"],
            "Timeout: request did not complete within the allotted timeout"
        );
    }
    let (code, status) = get(&server, &format!("{MAPS}?timeout=soon")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(
        status["message"],
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_as_long_as_its_client_wants() {
    let server = server().await;
    let uri = format!("{MAPS}?watch=1&timeout=1s");
    let mut watch = send(&server, "GET", &uri, &[], Body::empty())
        .await
        .into_body();
    tokio::time::sleep(Duration::from_secs(120)).await;
    send(&server, "POST", MAPS, &[], config_map("late").to_string()).await;
    let event = watch.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&event).contains("late"));
}

#[tokio::test]
async fn a_body_beyond_three_megabytes_is_refused_whether_it_says_so_or_not() {
    let server = server().await;
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    for declared in [true, false] {
        let pieces = vec![piece.clone(); 4];
        let body = match declared {
            true => Body::from_slices(pieces),
            false => Body::from_stream(futures::stream::iter(pieces.into_iter().map(Ok))),
        };
        let headers = [("content-length", "4194304")];
        let headers = if declared { &headers[..] } else { &[] };
        let answer = send(&server, "POST", MAPS, headers, body).await;
        let (code, body) = text(answer).await;
        assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(body.contains("limit is 3145728"), "{body}");
    }
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let server = server().await;
    let text = |code, body: Value| (code, body.as_str().unwrap().to_owned());
    let ask = async |uri: &str| {
        let (code, body) = get(&server, uri).await;
        text(code, body)
    };
    assert_eq!(ask("/livez").await, (StatusCode::OK, "ok".into()));
    assert_eq!(ask("/readyz/etcd").await, (StatusCode::OK, "ok".into()));
    let (_, all) = ask("/readyz?verbose").await;
    for line in [
        "[+]ping ok\n",
        "[+]informer-sync ok\n",
        // Which upstream's own tests ask for.
        "[+]poststarthook/bootstrap-controller ok\n",
        "[+]poststarthook/start-kube-aggregator-informers ok\n",
        "[+]autoregister-completion ok\n",
        "[+]shutdown ok\n",
    ] {
        assert!(all.contains(line), "{all}");
    }
    let (_, live) = ask("/livez?verbose").await;
    assert!(!live.contains("shutdown") && live.ends_with("livez check passed\n"));
    let (_, slis) = ask("/metrics/slis").await;
    for sample in [
        "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 2",
    ] {
        assert!(slis.lines().any(|line| line == sample), "{slis}");
    }
    let (code, some) = ask("/readyz?verbose&exclude=etcd&exclude=nothing").await;
    assert_eq!(code, StatusCode::OK);
    assert!(some.contains("[+]etcd excluded: ok\n"), "{some}");
    assert!(
        some.contains("warn: some health checks cannot be excluded: no matches for \"nothing\"\n"),
        "{some}"
    );
    assert_eq!(
        get(&server, "/livez/shutdown").await.0,
        StatusCode::NOT_FOUND
    );

    server.announce_shutdown();
    let (code, all) = ask("/readyz").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        all.contains("[-]shutdown failed: reason withheld\n"),
        "{all}"
    );
    assert!(all.ends_with("readyz check failed\n"));
    assert_eq!(ask("/readyz?exclude=shutdown").await.0, StatusCode::OK);
    assert_eq!(ask("/livez").await.0, StatusCode::OK);
    let (code, _) = get(&server, MAPS).await;
    assert_eq!(code, StatusCode::OK, "it serves until it drains");
}

#[tokio::test]
async fn draining_ends_watches_refuses_what_is_new_and_lets_the_rest_finish() {
    let server = server().await;
    let (mut sender, body) = futures::channel::mpsc::channel::<Bytes>(1);
    let slow = {
        let server = server.clone();
        let body = Body::from_stream(body.map(Ok));
        tokio::spawn(async move { text(send(&server, "POST", MAPS, &[], body).await).await })
    };
    // The body is asked for once the request is on its way.
    std::future::poll_fn(|cx| sender.poll_ready(cx))
        .await
        .unwrap();
    sender.try_send(Bytes::from_static(b" ")).unwrap();
    std::future::poll_fn(|cx| sender.poll_ready(cx))
        .await
        .unwrap();
    let watch = send(
        &server,
        "GET",
        &format!("{MAPS}?watch=1"),
        &[],
        Body::empty(),
    )
    .await;
    let draining = {
        let server = server.clone();
        tokio::spawn(async move { server.drain(Duration::from_secs(60)).await })
    };
    let (code, _) = text(watch).await;
    assert_eq!(code, StatusCode::OK, "the watch has ended");
    let (code, status) = get(&server, MAPS).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{status}");
    assert!(!draining.is_finished());
    let map = Bytes::from(config_map("finished").to_string());
    sender.try_send(map).unwrap();
    drop(sender);
    assert_eq!(slow.await.unwrap().0, StatusCode::CREATED);
    assert!(draining.await.unwrap(), "all requests have ended");
}

#[tokio::test(start_paused = true)]
async fn draining_waits_no_longer_than_it_is_told() {
    let server = server().await;
    let slow = {
        let server = server.clone();
        tokio::spawn(async move { send(&server, "POST", MAPS, &[], never()).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!server.drain(Duration::from_secs(5)).await);
    slow.abort();
}

struct Listening {
    pki: Pki,
    admin: Credential,
    listener: Server,
}

async fn listening(limits: Limits) -> Listening {
    let pki = Pki::in_memory().unwrap();
    let server = ApiServer::builder().build().await.unwrap();
    let listener = listen(&server, &pki, limits).await;
    let admin = pki.issue_client("root", &["system:masters"]).unwrap();
    Listening {
        pki,
        admin,
        listener,
    }
}

impl Listening {
    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let config =
            serve::client_config(self.pki.ca_der(), Some(&self.admin), &[protocol]).unwrap();
        let stream = TcpStream::connect(self.listener.addresses()[0])
            .await
            .unwrap();
        tokio_rustls::TlsConnector::from(config)
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    }

    /// Sends bytes over HTTP/1.1, and reads until the server ends the connection.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(b"http/1.1").await;
        // The server may refuse before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let limits = Limits {
        header: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = listening(limits).await;
    let said = server.say(b"GET /livez HTTP/1.1\r\nhost: x\r\n").await;
    assert!(!said.contains("200 OK"), "{said}");
}

#[tokio::test]
async fn floods_of_headers_are_refused_with_431_in_both_protocols() {
    let server = listening(Limits {
        header_bytes: 64 << 10,
        ..Limits::default()
    })
    .await;
    let mut many = String::from("GET /livez HTTP/1.1\r\nhost: x\r\n");
    for n in 0..2000 {
        many.push_str(&format!("x-{n}: y\r\n"));
    }
    many.push_str("\r\n");
    let long = format!(
        "GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(2 << 20)
    );
    for text in [many, long] {
        let said = server.say(text.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    }

    let stream = server.connect(b"h2").await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = |size: usize| {
        Request::get("https://localhost/livez")
            .header("x", "y".repeat(size))
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    let refused = sender.send_request(request(100 << 10)).await;
    assert!(
        refused.is_err_and(|e| e.to_string().contains("error"))
            || sender
                .send_request(request(100 << 10))
                .await
                .is_ok_and(|answer| answer.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    );
    let answer = sender.send_request(request(10)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "the connection lives");
}

#[tokio::test]
async fn a_flood_of_streams_is_refused_one_by_one_and_the_connection_lives() {
    let server = listening(Limits {
        streams: 8,
        ..Limits::default()
    })
    .await;
    let stream = server.connect(b"h2").await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let ask = || {
        let mut sender = sender.clone();
        async move {
            let request = Request::get("https://localhost/livez").body(Full::<Bytes>::default());
            let answer = sender.send_request(request.unwrap()).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            Ok::<_, hyper::Error>(status)
        }
    };
    // More than the server has said that it takes: the client does not know that yet.
    for answer in futures::future::join_all((0..200).map(|_| ask())).await {
        match answer {
            Ok(status) => assert_eq!(status, StatusCode::OK),
            Err(error) => assert!(format!("{error:?}").contains("REFUSED_STREAM"), "{error:?}"),
        }
    }
    for answer in futures::future::join_all((0..50).map(|_| ask())).await {
        assert_eq!(answer.unwrap(), StatusCode::OK, "by now it does");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_of_its_body_leaves_nothing_behind() {
    let server = Arc::new(server().await);
    let slow = {
        let server = server.clone();
        tokio::spawn(async move {
            let body = StreamBody::new(futures::stream::pending::<
                Result<hyper::body::Frame<Bytes>, std::io::Error>,
            >());
            let request = Request::post(MAPS).extension(Identity::system_masters());
            server.handle(request.body(body).unwrap()).await
        })
    };
    tokio::task::yield_now().await;
    slow.abort();
    let _ = slow.await;
    assert!(server.drain(Duration::from_secs(60)).await);
    drop(client(&server));
}

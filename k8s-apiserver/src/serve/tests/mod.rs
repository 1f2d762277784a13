mod endless;
mod untaken;

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_rustls::client::TlsStream;

use super::*;
use crate::{
    auth::{Authenticator, ClientCertificates},
    http::Body,
    pki::{Credential, Pki, ServerNames},
};

type Answer = Response<Full<Bytes>>;

const SOON: Duration = Duration::from_millis(50);

/// Answers with the client's name.
async fn who(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, _) = request.into_parts();
    assert!(parts.extensions.get::<PeerAddress>().is_some());
    let name = match ClientCertificates.authenticate(&parts).await {
        Ok(Some(identity)) => format!("{} {:?}", identity.name, identity.groups),
        Ok(None) => "nobody".to_owned(),
        Err(error) => error.to_string(),
    };
    Ok(Response::new(Full::from(name)))
}

struct Fixture {
    pki: Pki,
    server: Server,
}

async fn start<S, B>(service: S) -> Fixture
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    start_with(service, Limits::default()).await
}

async fn start_with<S, B>(service: S, limits: Limits) -> Fixture
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let pki = Pki::in_memory().unwrap();
    let names = ServerNames::for_apiserver("cluster.local", None);
    let tls = server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let server = serve(service, vec![listener], tls, limits).unwrap();
    Fixture { pki, server }
}

impl Fixture {
    async fn connect(
        &self,
        credential: Option<&Credential>,
        protocol: &[u8],
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = client_config(self.pki.ca_der(), credential, &[protocol]).unwrap();
        let stream = TcpStream::connect(self.server.addresses()[0]).await?;
        tokio_rustls::TlsConnector::from(config)
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }
}

async fn get1(stream: TlsStream<TcpStream>) -> Result<String, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/").body(Full::<Bytes>::default())?;
    let answer = sender.send_request(request).await?;
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec())?)
}

#[tokio::test]
async fn a_client_certificate_names_the_user_over_both_protocols() {
    let fixture = start(tower::service_fn(who)).await;
    let alice = fixture.pki.issue_client("alice", &["dev", "ops"]).unwrap();
    let stream = fixture.connect(Some(&alice), b"http/1.1").await.unwrap();
    assert_eq!(get1(stream).await.unwrap(), r#"alice ["dev", "ops"]"#);

    let stream = fixture.connect(Some(&alice), b"h2").await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes, r#"alice ["dev", "ops"]"#);
    fixture.server.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn somebody_may_be_of_hundreds_of_groups() {
    let fixture = start(tower::service_fn(async |request: Request<Incoming>| {
        let groups = request
            .headers()
            .get_all("impersonate-group")
            .iter()
            .count();
        Ok::<_, Infallible>(Response::new(Full::from(groups.to_string())))
    }))
    .await;
    for protocol in ["http/1.1", "h2"] {
        let stream = fixture.connect(None, protocol.as_bytes()).await.unwrap();
        let mut request = Request::get("https://localhost/");
        for group in 0..400 {
            request = request.header("impersonate-group", format!("group-{group}"));
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let answer = if protocol == "h2" {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(answer.status(), 200);
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes, "400", "{protocol}");
    }
    fixture.server.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn who_speaks_http_without_tls_is_told_so() {
    let fixture = start(tower::service_fn(who)).await;
    for request in [
        "GET /api HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /api HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(fixture.server.addresses()[0])
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(
            answer,
            "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        );
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_then_on_and_a_useless_one_never() {
    let pki = Pki::in_memory().unwrap();
    let names = ServerNames::for_apiserver("cluster.local", None);
    let issue = || pki.apiserver(&names).unwrap();
    let (first, second) = (issue(), issue());
    let tls = ServerTls::new(&first, pki.ca_der()).unwrap();
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let limits = Limits::default();
    let server = serve(tower::service_fn(who), vec![listener], tls.clone(), limits).unwrap();
    let fixture = Fixture { pki, server };
    let connect = async || fixture.connect(None, b"http/1.1").await.unwrap();
    let is_shown = |stream: &TlsStream<TcpStream>, credential: &Credential| {
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain[0] == credential.certificate_der().unwrap()
    };
    let before = connect().await;
    assert!(is_shown(&before, &first));
    tls.show(&second).unwrap();
    assert!(is_shown(&connect().await, &second));
    let mismatch = Credential {
        certificate: first.certificate.clone(),
        key: second.key.clone(),
    };
    let nonsense = Credential {
        certificate: "nonsense".to_owned(),
        key: second.key.clone(),
    };
    for useless in [mismatch, nonsense] {
        tls.show(&useless).unwrap_err();
        assert!(is_shown(&connect().await, &second));
    }
    assert_eq!(get1(before).await.unwrap(), "nobody");
    let foreign = ServerTls::from(server_config(&second, fixture.pki.ca_der()).unwrap());
    assert!(matches!(foreign.show(&second), Err(TlsError::Foreign)));
}

#[tokio::test]
async fn a_client_may_come_without_a_certificate() {
    let fixture = start(tower::service_fn(who)).await;
    let stream = fixture.connect(None, b"http/1.1").await.unwrap();
    assert_eq!(get1(stream).await.unwrap(), "nobody");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let fixture = start(tower::service_fn(who)).await;
    let mallory = Pki::in_memory()
        .unwrap()
        .issue_client("alice", &["system:masters"])
        .unwrap();
    // In TLS 1.3 the client learns of the refusal only when it reads.
    if let Ok(stream) = fixture.connect(Some(&mallory), b"http/1.1").await {
        get1(stream).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_so() {
    let first = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    assert_eq!(
        error.to_string(),
        format!("{address} is in use by another program")
    );
}

#[tokio::test]
async fn shutdown_lets_a_running_request_finish() {
    let (entered, mut running) = tokio::sync::mpsc::channel::<()>(1);
    let release = Arc::new(tokio::sync::Notify::new());
    let gate = release.clone();
    let service = tower::service_fn(move |_: Request<Incoming>| {
        let (entered, gate) = (entered.clone(), gate.clone());
        async move {
            let _ = entered.send(()).await;
            gate.notified().await;
            Ok::<_, Infallible>(Response::new(Full::from("done")))
        }
    });
    let fixture = start(service).await;
    let address = fixture.server.addresses()[0];
    let stream = fixture.connect(None, b"http/1.1").await.unwrap();
    let request = tokio::spawn(get1(stream));
    running.recv().await.unwrap();
    let drain = fixture.server.drain.clone();
    let shutdown = tokio::spawn(fixture.server.shutdown(Duration::from_secs(60)));
    drain.cancelled().await;
    release.notify_one();
    assert_eq!(request.await.unwrap().unwrap(), "done");
    shutdown.await.unwrap();
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end() {
    let (entered, mut running) = tokio::sync::mpsc::channel::<()>(1);
    let service = tower::service_fn(move |_: Request<Incoming>| {
        let entered = entered.clone();
        async move {
            let _ = entered.send(()).await;
            std::future::pending::<Result<Answer, Infallible>>().await
        }
    });
    let fixture = start(service).await;
    let stream = fixture.connect(None, b"http/1.1").await.unwrap();
    let request = tokio::spawn(get1(stream));
    running.recv().await.unwrap();
    fixture.server.shutdown(Duration::ZERO).await;
    request.await.unwrap().unwrap_err();
}

type Asker = http2::SendRequest<Full<Bytes>>;

/// A client over HTTP/2, with windows of that size, and the end of its connection.
async fn http2(
    fixture: &Fixture,
    window: u32,
) -> (Asker, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = fixture.connect(None, b"h2").await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

async fn get2(sender: &mut Asker, path: &str) -> hyper::Result<Response<Incoming>> {
    let request = Request::get(format!("https://localhost{path}"));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    sender.send_request(request).await
}

#[tokio::test]
async fn what_comes_after_a_goodbye_to_the_unwelcome_is_refused_and_much_of_it_ends_the_connection()
{
    let service = tower::service_fn(async |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let mut answer = Response::new(Body::from(path.clone()));
        if path == "/last" {
            let close = http::HeaderValue::from_static("close");
            answer.headers_mut().insert(http::header::CONNECTION, close);
        }
        if path == "/watch" {
            *answer.body_mut() = Body::from_stream(stream::pending());
            answer.extensions_mut().insert(Endless);
        }
        Ok::<_, Infallible>(answer)
    });
    let fixture = start(service).await;
    let mut stream = fixture.connect(None, b"h2").await.unwrap();
    // A client who does not know of goodbyes: requests by hand, whose heads are in the static table of HPACK but
    // for the path.
    let ask = |stream: u32, path: &str| {
        let mut head = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
        head.extend_from_slice(path.as_bytes());
        let length = u32::try_from(head.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[1, 5]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&head);
        frame
    };
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    said.extend(ask(1, "/watch"));
    said.extend(ask(3, "/last"));
    stream.write_all(&said).await.unwrap();
    let next = async |stream: &mut TlsStream<TcpStream>| {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], id, body))
    };
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    while next(&mut stream).await.unwrap().0 != GOAWAY {}
    stream.write_all(&ask(5, "/more")).await.unwrap();
    let reset = loop {
        let (kind, id, body) = next(&mut stream).await.unwrap();
        if id == 5 {
            break (kind, body);
        }
    };
    assert_eq!(reset, (RST_STREAM, REFUSED_STREAM.to_vec()));
    let mut id = 7;
    let (mut from, mut to) = tokio::io::split(stream);
    let flood = async {
        while to.write_all(&ask(id, "/more")).await.is_ok() {
            id += 2;
        }
    };
    let end = async { while from.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    tokio::join!(flood, end);
}

#[tokio::test]
async fn an_answer_that_closes_its_connection_says_goodbye_in_http2() {
    let service = tower::service_fn(async |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let mut answer = Response::new(Full::from(path.clone()));
        if path == "/last" {
            let close = http::HeaderValue::from_static("close");
            answer.headers_mut().insert(http::header::CONNECTION, close);
        }
        Ok::<_, Infallible>(answer)
    });
    let fixture = start(service).await;
    let (mut sender, ended) = http2(&fixture, 1000).await;
    for path in ["/first", "/second", "/last"] {
        let answer = get2(&mut sender, path).await.unwrap();
        assert!(!answer.headers().contains_key(http::header::CONNECTION));
        assert_eq!(answer.collect().await.unwrap().to_bytes(), path);
    }
    ended.await.unwrap().unwrap();
}

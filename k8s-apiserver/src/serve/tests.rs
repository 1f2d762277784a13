use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::{
    auth::{Authenticator, ClientCertificates},
    pki::{Credential, Pki, ServerNames},
};

type Answer = Response<Full<Bytes>>;

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

async fn start<S>(service: S) -> Fixture
where
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let pki = Pki::in_memory().unwrap();
    let names = ServerNames::for_apiserver("cluster.local", None);
    let tls = server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let server = serve(service, vec![listener], tls, Limits::default()).unwrap();
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

//! Requests that an authenticating proxy passes on, over TLS.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_apiserver::{
    ApiServer,
    auth::{RequestHeaders, Standard},
    pki::{Credential, FRONT_PROXY_CLIENT, Pki, ServerNames},
    serve::{self, Limits, Server, ServerTls},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;

struct Cluster {
    pki: Pki,
    _server: ApiServer,
    listener: Server,
}

async fn cluster() -> Cluster {
    let pki = Pki::in_memory().unwrap();
    let known = Standard::new(None).with_first(Arc::new(RequestHeaders::new([FRONT_PROXY_CLIENT])));
    let server = ApiServer::builder().authenticator(Arc::new(known));
    let server = server.build().await.unwrap();
    let names = ServerNames::for_apiserver("cluster.local", None);
    let proxies = CertificateDer::from_pem_slice(pki.front_proxy().unwrap().ca.as_bytes()).unwrap();
    let tls = ServerTls::with_front_proxy(&pki.apiserver(&names).unwrap(), pki.ca_der(), &proxies);
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let listener = serve::serve(
        server.clone(),
        vec![socket],
        tls.unwrap(),
        Limits::default(),
    )
    .unwrap();
    Cluster {
        pki,
        _server: server,
        listener,
    }
}

/// Whom the server takes the sender of these headers for.
async fn who(cluster: &Cluster, credential: &Credential, headers: &[(&str, &str)]) -> Value {
    let config =
        serve::client_config(cluster.pki.ca_der(), Some(credential), &[b"http/1.1"]).unwrap();
    let stream = tokio::net::TcpStream::connect(cluster.listener.addresses()[0])
        .await
        .unwrap();
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let mut request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("host", "localhost")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::from(Bytes::from_static(review.as_bytes())));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let user = value.pointer("/status/userInfo").cloned();
    user.unwrap_or(value)
}

const ALICE: &[(&str, &str)] = &[
    ("x-remote-user", "alice"),
    ("x-remote-uid", "u1"),
    ("x-remote-group", "dev"),
    ("x-remote-extra-scopes", "all"),
];

#[tokio::test]
async fn the_front_proxy_says_who_asks() {
    let cluster = cluster().await;
    let proxy = cluster.pki.front_proxy().unwrap().client;
    let user = who(&cluster, &proxy, ALICE).await;
    assert_eq!(user["username"], "alice");
    assert_eq!(user["uid"], "u1");
    assert_eq!(
        user["groups"],
        serde_json::json!(["dev", "system:authenticated"])
    );
    assert_eq!(user["extra"]["scopes"][0], "all");
    // By itself it is nobody.
    let refused = who(&cluster, &proxy, &[]).await;
    assert_eq!(refused["code"], 401);
}

#[tokio::test]
async fn a_client_cannot_say_that_it_is_somebody_else() {
    let cluster = cluster().await;
    let bob = cluster.pki.issue_client("bob", &["ops"]).unwrap();
    let user = who(&cluster, &bob, ALICE).await;
    assert_eq!(user["username"], "bob");
    // Nor one with the proxy's name, from the authority of clients.
    let false_proxy = cluster
        .pki
        .issue_client::<&str>(FRONT_PROXY_CLIENT, &[])
        .unwrap();
    let user = who(&cluster, &false_proxy, ALICE).await;
    assert_eq!(user["username"], FRONT_PROXY_CLIENT);
}

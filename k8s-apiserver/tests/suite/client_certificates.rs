//! Certificates that clients show, good ones and others, over TLS.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_apiserver::{
    ApiServer,
    auth::{DEFAULT_ISSUER, ServiceAccountTokens, Standard},
    pki::{Pki, ServerNames},
    serve::{self, Limits, Server, ServerTls},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SigningKey,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};

use crate::common::call;

/// A server that knows the clients of an authority that was made elsewhere.
struct Cluster {
    pki: Pki,
    clients: CertifiedIssuer<'static, KeyPair>,
    server: ApiServer,
    listener: Server,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(&[(DnType::CommonName, name)]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn subject(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for (kind, value) in parts {
        subject.push(kind.clone(), *value);
    }
    subject
}

/// A certificate and its key.
type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// Of `jane` in the group `dev`, good from a year before until so many hours from now.
fn jane(authority: &CertifiedIssuer<'_, KeyPair>, hours: i64) -> Shown {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(&[
        (DnType::CommonName, "jane"),
        (DnType::OrganizationName, "dev"),
    ]);
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(365 * 24 * 3600)).into();
    let end = Duration::from_secs(3600 * hours.unsigned_abs());
    params.not_after = (if hours < 0 { now - end } else { now + end }).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), der(&key))
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap()
}

fn again(shown: &Shown) -> Shown {
    (shown.0.clone(), shown.1.clone_key())
}

/// As it is: the library would refuse to show what it cannot read.
fn shown_as_it_is(shown: &Shown) -> CertifiedKey {
    let key = default_provider()
        .key_provider
        .load_private_key(shown.1.clone_key());
    CertifiedKey::new(vec![shown.0.clone()], key.unwrap())
}

/// The first value of DER's, with its head and without it, and what follows.
fn first(der: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (head, length) = match der[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let end = 2 + usize::from(long & 0x7f);
            let digits = der[2..end].iter();
            (
                end,
                digits.fold(0, |sum, digit| sum << 8 | usize::from(*digit)),
            )
        }
    };
    (
        &der[..head + length],
        &der[head..head + length],
        &der[head + length..],
    )
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match length {
        [0, short @ ..0x80] => vec![tag, short],
        [0, short] => vec![tag, 0x81, short],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&head[..], content].concat()
}

/// The same certificate as `openssl x509 -req` makes it: of X.509's first version, without extensions.
fn simple(shown: &Shown, authority: &CertifiedIssuer<'_, KeyPair>) -> Shown {
    const VERSION: u8 = 0xa0;
    const EXTENSIONS: u8 = 0xa3;
    let (_, certificate, _) = first(&shown.0);
    let (_, mut fields, rest) = first(certificate);
    let (algorithm, _, _) = first(rest);
    let mut kept = Vec::new();
    while !fields.is_empty() {
        let (field, _, rest) = first(fields);
        if !matches!(field[0], VERSION | EXTENSIONS) {
            kept.extend_from_slice(field);
        }
        fields = rest;
    }
    let kept = wrapped(0x30, &kept);
    let signature = authority.key().sign(&kept).unwrap();
    let signature = wrapped(0x03, &[&[0], &signature[..]].concat());
    let certificate = wrapped(0x30, &[&kept[..], algorithm, &signature].concat());
    (certificate.into(), shown.1.clone_key())
}

async fn cluster() -> Cluster {
    let (pki, clients) = (Pki::in_memory().unwrap(), authority("clients"));
    let names = ServerNames::for_apiserver("cluster.local", None);
    let tls = ServerTls::new(&pki.apiserver(&names).unwrap(), clients.der()).unwrap();
    let builder = ApiServer::builder();
    let key = pki.service_account_key();
    let tokens = ServiceAccountTokens::new(key, DEFAULT_ISSUER, builder.reader()).unwrap();
    let tokens = Arc::new(tokens);
    let known = Arc::new(Standard::new(Some(tokens.clone())));
    let server = builder.tokens(tokens).authenticator(known);
    let server = server.build().await.unwrap();
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let listener = serve::serve(server.clone(), vec![socket], tls, Limits::default()).unwrap();
    Cluster {
        pki,
        clients,
        server,
        listener,
    }
}

impl Cluster {
    /// A token of the ServiceAccount `bot`.
    async fn token(&self) -> String {
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        let bot = json!({"metadata": {"name": "bot"}});
        assert_eq!(call(&self.server, "POST", accounts, bot).await.0, 201);
        let request = json!({"spec": {"audiences": [DEFAULT_ISSUER]}});
        let path = format!("{accounts}/bot/token");
        let (code, made) = call(&self.server, "POST", &path, request).await;
        assert_eq!(code, 201, "{made}");
        made["status"]["token"].as_str().unwrap().to_owned()
    }

    /// What a client is told who shows that, and maybe a token: who it is.
    async fn who(
        &self,
        shown: &Shown,
        token: Option<&str>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> (StatusCode, Value) {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca_der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown_as_it_is(shown))));
        let address = self.listener.addresses()[0];
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
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
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::<Bytes>::from(review)).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let code = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let user = value.pointer("/status/userInfo").cloned();
        (code, user.unwrap_or(value))
    }
}

#[tokio::test]
async fn a_good_certificate_says_who_asks_with_extensions_or_without() {
    let cluster = cluster().await;
    let full = jane(&cluster.clients, 1);
    let simple = simple(&full, &cluster.clients);
    for (what, shown) in [("full", &full), ("simple", &simple)] {
        for version in [&TLS12, &TLS13] {
            let (code, user) = cluster.who(shown, None, version).await;
            assert_eq!(code, StatusCode::CREATED, "{what} {version:?}: {user}");
            assert_eq!(user["username"], "jane");
            let groups = json!(["dev", "system:authenticated"]);
            assert_eq!(user["groups"], groups);
        }
    }
}

/// They are told so in an answer; their connections are as good as others'.
#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_unless_there_is_a_token() {
    let cluster = cluster().await;
    let stranger = authority("clients");
    let of_stranger = jane(&stranger, 1);
    let expired = jane(&cluster.clients, -1);
    let own_key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::default();
    own.distinguished_name = subject(&[(DnType::CommonName, "jane")]);
    let own = own.self_signed(&own_key).unwrap();
    let refused = [
        ("a stranger's", again(&of_stranger)),
        ("expired", again(&expired)),
        ("its own", (own.der().clone(), der(&own_key))),
        ("a stranger's, simple", simple(&of_stranger, &stranger)),
        ("expired, simple", simple(&expired, &cluster.clients)),
        // Says that it is of the authority, which did not sign it.
        (
            "forged, simple",
            simple(&jane(&cluster.clients, 1), &stranger),
        ),
    ];
    let token = cluster.token().await;
    for (what, shown) in &refused {
        for version in [&TLS12, &TLS13] {
            let (code, status) = cluster.who(shown, None, version).await;
            assert_eq!(code, StatusCode::UNAUTHORIZED, "{what}: {status}");
            assert_eq!(status["reason"], "Unauthorized", "{what}");
        }
        let (code, user) = cluster.who(shown, Some(&token), &TLS13).await;
        assert_eq!(code, StatusCode::CREATED, "{what}: {user}");
        assert_eq!(user["username"], "system:serviceaccount:default:bot");
    }
}

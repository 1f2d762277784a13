//! Clients of the TLS listener, with an API server that knows them.

use std::sync::Arc;

use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_apiserver::{
    ApiServer,
    auth::Identity,
    pki::{Credential, Pki},
    serve::client_config,
};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use k8s_runtime::sim::{SimOptions, SimRuntime};
use kube::{Api, api::PostParams};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::*;
use crate::{Kubelet, TlsOptions};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn requests_are_verbs_on_subresources_of_the_node() {
    assert_eq!(subresources("/metrics/resource"), ["metrics"]);
    assert_eq!(subresources("/stats/summary"), ["stats"]);
    assert_eq!(subresources("/pods"), ["pods", "proxy"]);
    assert_eq!(subresources("/exec/ns/p/c"), ["proxy"]);
    assert_eq!(subresources("/metricsx"), ["proxy"]);
    assert_eq!(verb(&Method::POST), "create");
    assert_eq!(verb(&Method::HEAD), "");
    let mut headers = HeaderMap::new();
    assert_eq!(bearer(&headers), None);
    headers.insert(header::AUTHORIZATION, "bearer  abc".parse().unwrap());
    assert_eq!(bearer(&headers), Some("abc"));
    headers.insert(header::AUTHORIZATION, "Basic abc".parse().unwrap());
    assert_eq!(bearer(&headers), None);
}

/// An API server, and a kubelet beside it.
struct Node {
    server: ApiServer,
    pki: Pki,
    port: u16,
    _dir: tempfile::TempDir,
    _kubelet: AbortOnDropHandle<Result<(), crate::Error>>,
}

/// The answer's status and text.
type Answer = (u16, String);

impl Node {
    /// With a kubelet who is that one to the API.
    async fn start(kubelet: Identity) -> Self {
        let server = ApiServer::builder().build().await.unwrap();
        let pki = Pki::in_memory().unwrap();
        let issued = pki.issue_kubelet_server("a", &[[127, 0, 0, 1].into()]);
        let issued = issued.unwrap();
        let tls = TlsOptions {
            certificate: issued.certificate,
            key: issued.key,
            client_ca: pki.ca_pem().to_owned(),
        };
        let runtime = SimRuntime::new(SimOptions::new("10.1.0.0/24".parse().unwrap()));
        let runtime = Arc::new(runtime.unwrap());
        let dir = tempfile::tempdir().unwrap();
        let kubelet = Kubelet::builder(server.client(kubelet), runtime.clone(), runtime.images())
            .node_name("a")
            .root_dir(dir.path())
            .listen(([127, 0, 0, 1], 0).into())
            .tls(tls)
            .build()
            .unwrap();
        let port = kubelet.local_addr().unwrap().port();
        let kubelet = tokio::spawn(kubelet.run(CancellationToken::new()));
        let _kubelet = AbortOnDropHandle::new(kubelet);
        Self {
            server,
            pki,
            port,
            _dir: dir,
            _kubelet,
        }
    }

    fn admin(&self) -> kube::Client {
        let admin = Identity::user("admin").group("system:masters");
        self.server.client(admin)
    }

    /// Lets somebody get a subresource of nodes.
    async fn allow(&self, subresource: &str, subject: Value) {
        let post = PostParams::default();
        let roles: Api<ClusterRole> = Api::all(self.admin());
        let rule = json!({
            "apiGroups": [""], "resources": [format!("nodes/{subresource}")], "verbs": ["get"],
        });
        let role = json!({"metadata": {"name": subresource}, "rules": [rule]});
        roles.create(&post, &object(role)).await.unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin());
        let binding = json!({
            "metadata": {"name": subresource},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": subresource,
            },
            "subjects": [subject],
        });
        bindings.create(&post, &object(binding)).await.unwrap();
    }

    /// A token of a new service account.
    async fn token(&self, account: &str) -> String {
        let post = PostParams::default();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), "default");
        let made = object(json!({"metadata": {"name": account}}));
        accounts.create(&post, &made).await.unwrap();
        let asked = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": []},
        });
        let token = accounts.create_subresource("token", account, &post, &asked);
        let token: Value = token.await.unwrap();
        token["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Asks the kubelet, with a certificate, with a token, with both or neither.
    async fn get(&self, path: &str, own: Option<&Credential>, token: Option<&str>) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let config = client_config(self.pki.ca_der(), own, &[b"http/1.1"]).unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let stream = TlsConnector::from(config).connect(name, stream);
        let stream = TokioIo::new(stream.await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = Request::get(Uri::try_from(path).unwrap()).header("Host", "a");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            head.status.as_u16(),
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }
}

fn node() -> Identity {
    Identity::user("system:node:a").group("system:nodes")
}

fn unauthorized() -> Answer {
    (401, "Unauthorized".to_owned())
}

#[tokio::test]
async fn a_token_may_what_the_api_lets_its_owner_do() {
    let node = Node::start(node()).await;
    let token = node.token("metrics").await;
    let account = json!({"kind": "ServiceAccount", "name": "metrics", "namespace": "default"});
    node.allow("metrics", account).await;
    for _ in 0..2 {
        let (status, body) = node.get("/metrics/resource", None, Some(&token)).await;
        assert_eq!(status, 200);
        assert!(body.contains("resource_scrape_error 0"), "{body}");
        let refusal = "Forbidden (user=system:serviceaccount:default:metrics, verb=get, resource=nodes, subresource(s)=[pods proxy])";
        let refused = node.get("/pods", None, Some(&token)).await;
        assert_eq!(refused, (403, refusal.to_owned()));
        let nonsense = node.get("/metrics", None, Some("nonsense")).await;
        assert_eq!(nonsense, unauthorized());
    }
}

#[tokio::test]
async fn a_certificate_may_what_the_api_lets_its_owner_do() {
    let node = Node::start(node()).await;
    let user = json!({"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"});
    node.allow("metrics", user).await;
    let group = json!({"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"});
    node.allow("pods", group).await;
    let jane = node.pki.issue_client::<&str>("jane", &[]).unwrap();
    let joe = node.pki.issue_client("joe", &["dev"]).unwrap();
    for _ in 0..2 {
        assert_eq!(node.get("/metrics", Some(&jane), None).await.0, 200);
        let refusal =
            "Forbidden (user=jane, verb=get, resource=nodes, subresource(s)=[pods proxy])";
        let refused = node.get("/pods", Some(&jane), None).await;
        assert_eq!(refused, (403, refusal.to_owned()));
        assert_eq!(node.get("/pods", Some(&joe), None).await.0, 200);
        assert_eq!(node.get("/metrics", Some(&joe), None).await.0, 403);
        let api_server = node.pki.kubelet_client().unwrap();
        assert_eq!(node.get("/pods", Some(&api_server), None).await.0, 200);
    }
    // A certificate comes before a token.
    let token = node.token("other").await;
    let both = node.get("/metrics", Some(&jane), Some(&token)).await;
    assert_eq!(both.0, 200);
}

#[tokio::test]
async fn a_certificate_from_elsewhere_is_none() {
    let node = Node::start(node()).await;
    let account = json!({"kind": "ServiceAccount", "name": "metrics", "namespace": "default"});
    node.allow("metrics", account).await;
    let token = node.token("metrics").await;
    let elsewhere = Pki::in_memory().unwrap();
    let foreign = elsewhere.issue_client("jane", &["system:masters"]).unwrap();
    let nobody = node.pki.issue_client("", &["system:masters"]).unwrap();
    let serving = node.pki.issue_kubelet_server("a", &[]).unwrap();
    for own in [None, Some(&foreign), Some(&nobody), Some(&serving)] {
        assert_eq!(node.get("/metrics", own, None).await, unauthorized());
        assert_eq!(node.get("/metrics", own, Some(&token)).await.0, 200);
    }
}

#[tokio::test]
async fn nobody_is_let_in_while_the_api_does_not_judge() {
    // Who may not ask for reviews.
    let node = Node::start(Identity::user("stranger")).await;
    let masters = node.pki.issue_client("root", &["system:masters"]).unwrap();
    let message = "Authorization error (user=root, verb=get, resource=nodes, subresource=pods)";
    let refused = node.get("/pods", Some(&masters), None).await;
    assert_eq!(refused, (500, message.to_owned()));
    let token = node.token("metrics").await;
    let refused = node.get("/pods", None, Some(&token)).await;
    assert_eq!(refused, unauthorized());
}

//! The server as a cluster has it: over TLS, with certificates, tokens, roles and admission.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_apiserver::{
    ApiServer,
    auth::{BootstrapTokens, DEFAULT_ISSUER, ServiceAccountTokens, Standard},
    pki::{Credential, Pki},
    serve::{self, Limits, Server},
};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use crate::common::listen;

pub(crate) struct Cluster {
    pub(crate) pki: Pki,
    admin: Credential,
    _server: ApiServer,
    listener: Server,
}

pub(crate) async fn cluster() -> Cluster {
    let pki = Pki::in_memory().unwrap();
    let builder = ApiServer::builder();
    let tokens =
        ServiceAccountTokens::new(pki.service_account_key(), DEFAULT_ISSUER, builder.reader())
            .unwrap();
    let tokens = Arc::new(tokens);
    let bootstrap = BootstrapTokens::new(builder.reader());
    let known = Standard::new(Some(tokens.clone())).with(Arc::new(bootstrap));
    let server = builder
        .tokens(tokens)
        .authenticator(Arc::new(known))
        .build()
        .await
        .unwrap();
    let listener = listen(&server, &pki, Limits::default()).await;
    Cluster {
        admin: pki.issue_client("root", &["system:masters"]).unwrap(),
        pki,
        _server: server,
        listener,
    }
}

/// How a request says who it is from.
pub(crate) enum Who<'a> {
    Nobody,
    Certificate(&'a Credential),
    Token(&'a str),
}

impl Cluster {
    pub(crate) fn admin(&self) -> Who<'_> {
        Who::Certificate(&self.admin)
    }

    pub(crate) async fn ask(
        &self,
        who: &Who<'_>,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let certificate = match who {
            Who::Certificate(credential) => Some(*credential),
            _ => None,
        };
        let config = serve::client_config(self.pki.ca_der(), certificate, &[b"http/1.1"]).unwrap();
        let stream = tokio::net::TcpStream::connect(self.listener.addresses()[0])
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
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        if let Who::Token(token) = who {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let answer = sender
            .send_request(request.body(Full::new(body)).unwrap())
            .await
            .unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        (status, value)
    }

    pub(crate) async fn get(&self, who: &Who<'_>, path: &str) -> (StatusCode, Value) {
        self.ask(who, Method::GET, path, &[], None).await
    }

    pub(crate) async fn post(&self, who: &Who<'_>, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(who, Method::POST, path, &[], Some(body)).await
    }
}

#[tokio::test]
async fn who_shows_nothing_sees_only_health_and_version() {
    let cluster = cluster().await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        let (status, _) = cluster.get(&Who::Nobody, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    for path in ["/api/v1/namespaces", "/apis", "/metrics"] {
        let (status, body) = cluster.get(&Who::Nobody, path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(body["message"], "Unauthorized");
    }
    let (status, _) = cluster.get(&Who::Token("nonsense"), "/healthz").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_user_may_do_what_a_binding_says_and_no_more() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let vera = cluster.pki.issue_client("vera", &["dev"]).unwrap();
    let vera = Who::Certificate(&vera);
    let pods = "/api/v1/namespaces/default/pods";
    let (status, body) = cluster.get(&vera, pods).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        body["message"],
        r#"pods is forbidden: User "vera" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    let group = "rbac.authorization.k8s.io";
    let bindings = format!("/apis/{group}/v1/namespaces/default/rolebindings");
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": { "name": "devs" },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "admin" },
        "subjects": [{ "apiGroup": group, "kind": "Group", "name": "dev" }],
    });
    let (status, body) = cluster.post(&admin, &bindings, binding.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    // The index follows the store.
    let may = async {
        while cluster.get(&vera, pods).await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), may)
        .await
        .unwrap();

    // An admin of a namespace may bind what it has, and not give away the cluster.
    let mut more = binding;
    more["metadata"]["name"] = "more".into();
    more["roleRef"]["name"] = "view".into();
    let (status, body) = cluster.post(&vera, &bindings, more.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    more["metadata"]["name"] = "everything".into();
    more["roleRef"]["name"] = "cluster-admin".into();
    let (status, body) = cluster.post(&vera, &bindings, more.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // As upstream, whoever may not bind is not told what else is wrong.
    more["metadata"]["name"] = "with/slash".into();
    let (status, invalid) = cluster.post(&vera, &bindings, more.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{invalid}");
    let (status, invalid) = cluster.post(&admin, &bindings, more.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{invalid}");
    more["roleRef"]["kind"] = "Group".into();
    let (status, unknown) = cluster.post(&vera, &bindings, more).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        unknown["message"],
        "unsupported role reference kind: \"Group\""
    );
    let message = body["message"].as_str().unwrap();
    let wanted = r#"rolebindings.rbac.authorization.k8s.io "everything" is forbidden: user "vera" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:"#;
    assert!(message.starts_with(wanted), "{message}");

    let acting = [("impersonate-user", "vera"), ("impersonate-group", "none")];
    let (status, _) = cluster.ask(&admin, Method::GET, pods, &acting, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = cluster.ask(&vera, Method::GET, pods, &acting, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_service_accounts_token_is_its_identity_while_it_lives() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } });
    let (status, body) = cluster.post(&admin, accounts, account).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "audiences": [], "expirationSeconds": 600 },
    });
    let (status, body) = cluster
        .post(&admin, &format!("{accounts}/bot/token"), request)
        .await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let token = body["status"]["token"].as_str().unwrap().to_owned();
    let bot = Who::Token(&token);
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let (status, body) = cluster
        .post(
            &bot,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            review.clone(),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(
        body["status"]["userInfo"]["username"],
        "system:serviceaccount:default:bot"
    );
    let (status, _) = cluster
        .ask(
            &admin,
            Method::DELETE,
            &format!("{accounts}/bot"),
            &[],
            None,
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = cluster.get(&bot, "/api").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn writes_pass_admission() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" } });
    let (status, body) = cluster
        .post(&admin, "/api/v1/namespaces/none/configmaps", map)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["message"], r#"namespaces "none" not found"#);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "busybox" }] },
    });
    let pods = "/api/v1/namespaces/default/pods";
    let (status, body) = cluster.post(&admin, pods, pod.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        body["message"],
        r#"pods "p" is forbidden: error looking up service account default/default: serviceaccount "default" not found"#
    );
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let (status, _) = cluster.post(&admin, accounts, account).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, body) = cluster.post(&admin, pods, pod).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(body["spec"]["serviceAccountName"], "default");
    assert_eq!(body["spec"]["priority"], 0);
    let (status, body) = cluster
        .ask(
            &admin,
            Method::DELETE,
            "/api/v1/namespaces/default",
            &[],
            None,
        )
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        body["message"],
        r#"namespaces "default" is forbidden: this namespace may not be deleted"#
    );
}

/// ServiceAccountIssuerDiscovery: what a relying party needs to check a token by itself.
#[tokio::test]
async fn tokens_can_be_checked_by_whoever_reads_the_keys() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } });
    cluster.post(&admin, accounts, account).await;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "audiences": ["oidc-discovery-test"] },
    });
    let (_, body) = cluster
        .post(&admin, &format!("{accounts}/bot/token"), request)
        .await;
    let token = body["status"]["token"].as_str().unwrap();
    // The bearer of a token for this server reads the keys.
    let own =
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let (_, body) = cluster
        .post(&admin, &format!("{accounts}/bot/token"), own)
        .await;
    let bot = Who::Token(body["status"]["token"].as_str().unwrap());
    let (status, configuration) = cluster.get(&bot, "/.well-known/openid-configuration").await;
    assert_eq!(status, StatusCode::OK, "{configuration}");
    assert_eq!(configuration["issuer"], DEFAULT_ISSUER);
    let uri = configuration["jwks_uri"].as_str().unwrap();
    assert!(uri.ends_with("/openid/v1/jwks"), "{uri}");
    let (status, keys) = cluster.get(&bot, "/openid/v1/jwks").await;
    assert_eq!(status, StatusCode::OK);
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.set_audience(&["oidc-discovery-test"]);
    validation.set_issuer(&[DEFAULT_ISSUER]);
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
    assert_eq!(claims.claims["sub"], "system:serviceaccount:default:bot");
    let (status, _) = cluster.get(&Who::Nobody, "/openid/v1/jwks").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bootstrap_token_is_good_as_long_as_its_secret() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "bootstrap-token-abcdef" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:workers",
        },
    });
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let (status, body) = cluster.post(&admin, secrets, secret).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let joining = Who::Token("abcdef.0123456789abcdef");
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let (status, body) = cluster.post(&joining, reviews, review.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let user = &body["status"]["userInfo"];
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    assert_eq!(
        user["groups"],
        json!([
            "system:bootstrappers",
            "system:bootstrappers:workers",
            "system:authenticated"
        ])
    );
    let wrong = Who::Token("abcdef.0123456789abcdee");
    let (status, _) = cluster.post(&wrong, reviews, review.clone()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let path = format!("{secrets}/bootstrap-token-abcdef");
    cluster.ask(&admin, Method::DELETE, &path, &[], None).await;
    let (status, _) = cluster.post(&joining, reviews, review).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

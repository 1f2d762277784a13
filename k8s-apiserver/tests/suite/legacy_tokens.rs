//! Tokens in Secrets: their uses are written down (KEP-2799).

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use k8s_apiserver::{
    ApiServer,
    auth::{DEFAULT_ISSUER, ObjectClaim, ServiceAccountTokens},
    pki::Pki,
};
use serde_json::{Value, json};

use crate::common::{call, get};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const TRACKING: &str = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";

/// A server with a Secret that has a token; the token.
async fn with_token(server: &ApiServer, tokens: &ServiceAccountTokens) -> String {
    let account = json!({"metadata": {"name": "bot"}});
    let (_, account) = call(server, "POST", ACCOUNTS, account).await;
    let secret = json!({
        "metadata": {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token",
    });
    let (status, answer) = call(server, "POST", SECRETS, secret).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let claim = ObjectClaim {
        name: "bot".to_owned(),
        uid: account["metadata"]["uid"].as_str().unwrap().to_owned(),
    };
    let token = tokens.issue_for_secret("default", claim, "kept").unwrap();
    let kept = json!({"stringData": {"token": token}});
    let (status, answer) = call(server, "PATCH", &format!("{SECRETS}/kept"), kept).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    token
}

pub(crate) async fn show(server: &ApiServer, token: &str) -> (StatusCode, Vec<String>, Value) {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(k8s_apiserver::http::Body::from(review.to_string()))
        .unwrap();
    let answer = server.handle(request).await;
    let warnings = answer.headers().get_all("warning").iter();
    let warnings = warnings.map(|w| w.to_str().unwrap().to_owned()).collect();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_default();
    (status, warnings, value)
}

async fn until(server: &ApiServer, uri: &str, wanted: impl Fn(&Value) -> bool) {
    let seen = async {
        while !wanted(&get(server, uri).await.1) {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, seen).await.unwrap();
}

#[tokio::test]
async fn the_day_of_the_last_use_is_on_the_secret_and_since_when_in_a_config_map() {
    let pki = Pki::in_memory().unwrap();
    let builder = ApiServer::builder();
    let reader = builder.reader();
    let key = pki.service_account_key();
    let tokens = Arc::new(ServiceAccountTokens::new(key, DEFAULT_ISSUER, reader).unwrap());
    let server = builder.tokens(tokens.clone()).build().await.unwrap();
    let (status, since) = get(&server, TRACKING).await;
    assert_eq!(status, StatusCode::OK);
    assert!(since["data"]["since"].as_str().unwrap().len() == "2026-01-01".len());

    let token = with_token(&server, &tokens).await;
    let (status, warnings, answer) = show(&server, &token).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let user = &answer["status"]["userInfo"]["username"];
    assert_eq!(user, "system:serviceaccount:default:bot");
    assert!(warnings.is_empty());
    let label = "/metadata/labels/kubernetes.io~1legacy-token-last-used";
    let today = tokens.now().strftime("%Y-%m-%d").to_string();
    let uri = format!("{SECRETS}/kept");
    until(&server, &uri, |secret| {
        secret.pointer(label) == Some(&json!(today))
    })
    .await;

    // Secrets that accounts name were made by themselves, once.
    let named = json!({"secrets": [{"name": "kept"}]});
    call(&server, "PATCH", &format!("{ACCOUNTS}/bot"), named).await;
    let (_, warnings, _) = show(&server, &token).await;
    assert_eq!(
        warnings,
        [
            "299 - \"Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.\""
        ]
    );

    // One that was given up is no good, but who looks sees that somebody still has it.
    let marked = json!({"metadata": {"labels": {
        "kubernetes.io/legacy-token-invalid-since": "2025-01-01",
        "kubernetes.io/legacy-token-last-used": "2024-01-01",
    }}});
    call(&server, "PATCH", &uri, marked).await;
    let (status, _, _) = show(&server, &token).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    until(&server, &uri, |secret| {
        secret.pointer(label) == Some(&json!(today))
    })
    .await;
    let (_, metrics) = get(&server, "/metrics").await;
    for line in [
        "serviceaccount_legacy_manual_token_uses_total 1",
        "serviceaccount_legacy_auto_token_uses_total 1",
        "serviceaccount_invalid_legacy_auto_token_uses_total 1",
    ] {
        assert!(metrics.as_str().unwrap().contains(line), "{line}");
    }
}

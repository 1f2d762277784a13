use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use super::*;
use crate::{
    admission::memory::MemoryReader,
    auth::ServiceAccountTokens,
    http::Body,
    pki::{Pki, ServerNames},
    serve::{self, Limits, Server, server_config},
};

pub(in crate::auth) struct Provider {
    pub(in crate::auth) pki: Pki,
    pub(in crate::auth) issuer: String,
    _server: Server,
}

/// A provider whose key is that of service accounts.
pub(in crate::auth) async fn provider() -> Provider {
    let pki = Pki::in_memory().unwrap();
    let reader = Arc::new(MemoryReader::default());
    let tokens = ServiceAccountTokens::new(pki.service_account_key(), "x", reader).unwrap();
    let tokens = Arc::new(tokens);
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let issuer = format!(
        "https://localhost:{}/oidc",
        socket.local_addr().unwrap().port()
    );
    let base = issuer.clone();
    let key = pki.service_account_key().private.clone();
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let text = |value: Value| http::Response::new(Body::from(value.to_string()));
        let path = request.uri().path();
        if let Some(what) = path.strip_prefix("/oidc/claims/") {
            let shown = request.headers().get("authorization");
            let groups = match shown.map(|value| value.to_str().unwrap()) {
                Some("Bearer let-me") => json!(["far", "away"]),
                _ => json!(["nobody"]),
            };
            let change = match what {
                "groups" => json!({"groups": groups}),
                "nothing" => json!({"groups": null, "other": 1}),
                _ => json!({"groups": groups, "aud": "somebody"}),
            };
            let token = signed(&tokens, &key, &base, change);
            return std::future::ready(Ok::<_, Infallible>(http::Response::new(Body::from(token))));
        }
        let value = match path {
            "/oidc/.well-known/openid-configuration" | "/elsewhere" => {
                json!({"issuer": base, "jwks_uri": format!("{base}/keys")})
            }
            "/oidc/keys" => tokens.jwks(),
            _ => Value::Null,
        };
        std::future::ready(Ok(text(value)))
    });
    let names = ServerNames {
        dns: vec!["localhost".to_owned()],
        ips: Vec::new(),
    };
    let tls = server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
    let server = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
    Provider {
        pki,
        issuer,
        _server: server,
    }
}

impl Provider {
    fn options(&self) -> OidcOptions {
        OidcOptions {
            algorithms: vec![SigningAlgorithm::Es256],
            groups_claim: "groups".to_owned(),
            groups_prefix: "oidc:".to_owned(),
            ..OidcOptions::new(&self.issuer, "kubernetes", self.pki.ca_pem())
        }
    }

    pub(in crate::auth) fn token(&self, change: Value) -> String {
        let key = self.pki.service_account_key();
        let reader = Arc::new(MemoryReader::default());
        let tokens = ServiceAccountTokens::new(key, "x", reader).unwrap();
        signed(&tokens, &key.private, &self.issuer, change)
    }
}

/// A token of jane's; what is null is left out.
fn signed(tokens: &ServiceAccountTokens, key: &str, issuer: &str, change: Value) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({
        "iss": issuer, "aud": "kubernetes", "exp": now + 60, "sub": "jane",
        "email": "jane@example.com", "groups": ["dev", "ops"],
    });
    for (key, value) in change.as_object().unwrap() {
        claims[key] = value.clone();
    }
    let members = claims.as_object_mut().unwrap();
    members.retain(|key, value| key != "groups" || !value.is_null());
    let key = EncodingKey::from_ec_pem(key.as_bytes()).unwrap();
    let mut header = jsonwebtoken::Header::new(Algorithm::ES256);
    header.kid = tokens.jwks()["keys"][0]["kid"].as_str().map(str::to_owned);
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

#[tokio::test]
async fn groups_that_are_elsewhere_are_fetched_from_there() {
    let provider = provider().await;
    let tokens = OidcTokens::new(provider.options()).unwrap();
    let endpoint = |path: &str| format!("{}/claims/{path}", provider.issuer);
    let elsewhere = |sources: Value| json!({"groups": null, "_claim_names": {"groups": "src"}, "_claim_sources": sources});
    let groups = async |change: Value| {
        let found = tokens.verify(&provider.token(change)).await;
        found.map(|found| found.unwrap().groups)
    };
    let source = json!({"src": {"endpoint": endpoint("groups"), "access_token": "let-me"}});
    let far = groups(elsewhere(source.clone())).await.unwrap();
    assert_eq!(far, ["oidc:far", "oidc:away"]);
    let without = json!({"src": {"endpoint": endpoint("groups")}});
    assert_eq!(groups(elsewhere(without)).await.unwrap(), ["oidc:nobody"]);
    // What is in the token itself counts, and what is put into it for others is not read.
    let mut both = elsewhere(source);
    both["groups"] = json!(["near"]);
    assert_eq!(groups(both).await.unwrap(), ["oidc:near"]);
    let aggregated = elsewhere(json!({"src": {"JWT": "x.y.z"}}));
    assert!(groups(aggregated).await.unwrap().is_empty());
    for (sources, text) in [
        (
            json!({}),
            "contained a source src missing in _claims_sources",
        ),
        (json!(1), "could not parse claim sources"),
        (
            json!({"src": {"endpoint": endpoint("nothing")}}),
            "did not contain claim: groups",
        ),
        (
            json!({"src": {"endpoint": endpoint("foreign")}}),
            "verify distributed claim token",
        ),
        (
            json!({"src": {"endpoint": "http://localhost/groups"}}),
            "is no https URL",
        ),
    ] {
        let error = groups(elsewhere(sources)).await.unwrap_err().to_string();
        assert!(
            error.contains("oidc: could not expand distributed claims: ") && error.contains(text),
            "{error}"
        );
    }
    let page = tokens.metrics()();
    let issuer = crate::metrics::hashed(provider.issuer.as_bytes());
    let latency = "apiserver_authentication_jwt_authenticator_latency_seconds_count";
    for (result, count) in [("success", 4), ("failure", 5)] {
        let line =
            format!("{latency}{{jwt_issuer_hash=\"{issuer}\",result=\"{result}\"}} {count}\n");
        assert!(page.contains(&line), "{line}: {page}");
    }
    assert!(page.contains("jwks_fetch_last_key_set_info{apiserver_id_hash="));
}

#[tokio::test]
async fn a_token_of_the_provider_gives_the_name_and_the_groups_that_it_says() {
    let provider = provider().await;
    let tokens = OidcTokens::new(provider.options()).unwrap();
    let jane = tokens
        .verify(&provider.token(json!({})))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(jane.name, format!("{}#jane", provider.issuer));
    assert_eq!(jane.groups, ["oidc:dev", "oidc:ops"]);
    let by_mail = OidcTokens::new(OidcOptions {
        username_claim: "email".to_owned(),
        ..provider.options()
    })
    .unwrap();
    let token = provider.token(json!({"email_verified": true, "groups": "dev"}));
    let jane = by_mail.verify(&token).await.unwrap().unwrap();
    assert_eq!(jane.name, "jane@example.com");
    assert_eq!(jane.groups, ["oidc:dev"]);
    let token = provider.token(json!({"email_verified": false}));
    assert!(by_mail.verify(&token).await.is_err());
}

#[tokio::test]
async fn groups_that_are_null_are_none() {
    let provider = provider().await;
    let tokens = OidcTokens::new(OidcOptions {
        groups_claim: "teams".to_owned(),
        ..provider.options()
    })
    .unwrap();
    let token = provider.token(json!({"teams": null}));
    let jane = tokens.verify(&token).await.unwrap().unwrap();
    assert!(jane.groups.is_empty());
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused_and_those_of_others_left_to_others() {
    let provider = provider().await;
    let mut options = provider.options();
    options.required_claims = [("tenant".to_owned(), "acme".to_owned())].into();
    let tokens = OidcTokens::new(options).unwrap();
    let good = json!({"tenant": "acme"});
    assert!(
        tokens
            .verify(&provider.token(good))
            .await
            .unwrap()
            .is_some()
    );
    for bad in [
        json!({}),
        json!({"tenant": "other"}),
        json!({"tenant": "acme", "aud": "somebody"}),
        json!({"tenant": "acme", "exp": 1}),
        json!({"tenant": "acme", "exp": null}),
        json!({"tenant": "acme", "nbf": 99_999_999_999_u64}),
        json!({"tenant": "acme", "sub": null}),
        json!({"tenant": "acme", "groups": 3}),
    ] {
        assert!(
            tokens.verify(&provider.token(bad.clone())).await.is_err(),
            "{bad}"
        );
    }
    let other = json!({"tenant": "acme", "iss": "https://other"});
    assert_eq!(tokens.verify(&provider.token(other)).await.unwrap(), None);
    assert_eq!(tokens.verify("nonsense").await.unwrap(), None);
    // A signature cut short is none.
    let token = provider.token(json!({"tenant": "acme"}));
    assert!(tokens.verify(&token[..token.len() - 4]).await.is_err());
}

#[test]
fn an_issuer_has_an_https_url() {
    for bad in ["http://issuer", "issuer", ""] {
        let options = OidcOptions::new(bad, "kubernetes", "");
        assert!(OidcTokens::new(options).is_err(), "{bad}");
    }
}

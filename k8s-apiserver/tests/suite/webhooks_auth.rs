//! Authentication and authorization by webhooks.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use k8s_apiserver::{
    ApiServer,
    audit::Policy,
    auth::Identity,
    auth::{ReviewVersion, Standard, WebhookTokenOptions, WebhookTokens},
    authz::{
        AllowMasters, Attributes, Authorizer, Chain, Decision, FailurePolicy, MatchConditions,
        Selectors, WebhookAuthorizer, WebhookAuthorizerOptions,
    },
    http::Body,
    pki::{Pki, ServerNames},
    serve::{self, Limits, Server},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    audit::Kept,
    common::{call, text},
};

/// A webhook that says what it is told to, and its configuration.
struct Hook {
    asked: Arc<Mutex<Vec<Value>>>,
    failures: Arc<AtomicUsize>,
    file: PathBuf,
    _server: Server,
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

async fn hook(answer: fn(&Value) -> Value) -> Hook {
    let pki = Pki::in_memory().unwrap();
    let names = ServerNames::for_apiserver("cluster.local", None);
    let tls = serve::server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let failures = Arc::new(AtomicUsize::new(0));
    let (seen, failing) = (asked.clone(), failures.clone());
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (seen, failing) = (seen.clone(), failing.clone());
        async move {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&bytes).unwrap();
            seen.lock().push(review.clone());
            let less = |n: usize| n.checked_sub(1);
            if failing
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                .is_ok()
            {
                let mut broken = Response::new(Body::from("trouble"));
                *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return Ok::<_, Infallible>(broken);
            }
            review["status"] = answer(&review);
            Ok(Response::new(Body::from(review.to_string())))
        }
    });
    let server = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
    let address = server.addresses()[0];
    let file = std::env::temp_dir().join(format!("webhook-{}.yaml", address.port()));
    let ca = STANDARD.encode(pki.ca_pem());
    std::fs::write(
        &file,
        format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: h, user: u}}}}], \
             clusters: [{{name: h, cluster: {{server: 'https://localhost:{}/', certificate-authority-data: {ca}}}}}], \
             users: [{{name: u, user: {{token: secret}}}}]}}",
            address.port()
        ),
    )
    .unwrap();
    Hook {
        asked,
        failures,
        file,
        _server: server,
    }
}

#[tokio::test]
async fn a_token_is_reviewed_once_and_its_bearer_known_for_a_while() {
    let hook = hook(|review| match review["spec"]["token"].as_str() {
        Some("good") => json!({"authenticated": true, "user": {
            "username": "alice", "uid": "7", "groups": ["dev"], "extra": {"scope": ["all"]},
        }}),
        Some("wrong") => json!({"authenticated": false, "error": "it is forged"}),
        Some("others") => {
            json!({"authenticated": true, "audiences": ["elsewhere"], "user": {"username": "x"}})
        }
        _ => json!({"authenticated": false}),
    })
    .await;
    let builder = ApiServer::builder();
    let options = WebhookTokenOptions {
        audiences: vec!["here".to_owned()],
        ..WebhookTokenOptions::default()
    };
    let tokens = WebhookTokens::from_file(&hook.file, options, builder.reader()).unwrap();
    let known = Standard::new(None).with(Arc::new(tokens));
    let server = builder
        .authenticator(Arc::new(known))
        .build()
        .await
        .unwrap();
    let ask = async |token: &str| {
        let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
        let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::from(review)).unwrap();
        let (code, body) = text(server.handle(request).await).await;
        (code, serde_json::from_str::<Value>(&body).unwrap())
    };
    for _ in 0..3 {
        let (code, review) = ask("good").await;
        assert_eq!(code, StatusCode::CREATED, "{review}");
        let user = &review["status"]["userInfo"];
        assert_eq!(
            (&user["username"], &user["uid"]),
            (&json!("alice"), &json!("7"))
        );
        assert_eq!(user["groups"], json!(["dev", "system:authenticated"]));
        assert_eq!(user["extra"], json!({"scope": ["all"]}));
    }
    {
        let asked = hook.asked.lock();
        assert_eq!(asked.len(), 1, "the answer is kept");
        assert_eq!(asked[0]["apiVersion"], "authentication.k8s.io/v1beta1");
        assert_eq!(asked[0]["kind"], "TokenReview");
        assert_eq!(
            asked[0]["spec"],
            json!({"token": "good", "audiences": ["here"]})
        );
    }
    for token in ["wrong", "unknown", "others"] {
        assert_eq!(ask(token).await.0, StatusCode::UNAUTHORIZED, "{token}");
    }
}

#[tokio::test]
async fn a_review_of_a_token_asks_the_webhook_for_its_audiences() {
    let hook = hook(|review| match review["spec"]["token"].as_str() {
        Some("aware") => json!({
            "authenticated": true, "user": {"username": "alice"},
            "audiences": review["spec"]["audiences"],
        }),
        Some("other") => json!({
            "authenticated": true, "user": {"username": "alice"}, "audiences": ["elsewhere"],
        }),
        Some("forged") => json!({"authenticated": false, "error": "it is forged"}),
        _ => json!({"authenticated": true, "user": {"username": "bob"}}),
    })
    .await;
    let builder = ApiServer::builder();
    let options = WebhookTokenOptions {
        audiences: vec!["here".to_owned()],
        ..WebhookTokenOptions::default()
    };
    let tokens = WebhookTokens::from_file(&hook.file, options, builder.reader()).unwrap();
    let known = Standard::new(None).with(Arc::new(tokens));
    let builder = builder.authenticator(Arc::new(known));
    let server = builder.build().await.unwrap();
    let review = async |token: &str, audiences: &[&str]| {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let (code, mut answer) = call(&server, "POST", path, review).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        answer["status"].take()
    };
    let aware = review("aware", &["vault", "here"]).await;
    assert_eq!(aware["authenticated"], true);
    assert_eq!(aware["user"]["username"], "alice");
    assert_eq!(aware["audiences"], json!(["vault", "here"]));
    // The same token for another audience is another question.
    let aware = review("aware", &["bank"]).await;
    assert_eq!(aware["audiences"], json!(["bank"]));
    assert_eq!(
        hook.asked.lock().last().unwrap()["spec"],
        json!({"token": "aware", "audiences": ["bank"]})
    );
    // A webhook that knows of no audiences speaks for the API server.
    let plain = review("plain", &["vault", "here"]).await;
    assert_eq!(plain["authenticated"], true);
    assert_eq!(plain["audiences"], json!(["here"]));
    for (token, audience, error) in [
        ("plain", "vault", "invalid bearer token"),
        ("other", "vault", "invalid bearer token"),
        ("forged", "here", "it is forged"),
    ] {
        let refused = review(token, &[audience]).await;
        assert_eq!(refused["authenticated"], Value::Null, "{token}");
        assert_eq!(refused["error"], error, "{token}");
    }
}

fn attributes<'a>(user: &'a Identity, verb: &'a str, name: &'a str) -> Attributes<'a> {
    Attributes {
        user,
        verb,
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace: "ns",
        name,
        path: "/api/v1/namespaces/ns/pods",
        resource_request: true,
        selectors: None,
    }
}

#[tokio::test]
async fn permissions_are_asked_for_once_each_and_trouble_is_overcome() {
    let hook = hook(|review| {
        let verb = &review["spec"]["resourceAttributes"]["verb"];
        match verb.as_str() {
            Some("get") => json!({"allowed": true, "reason": "readers may"}),
            Some("delete") => json!({"allowed": false, "denied": true, "reason": "never"}),
            _ => json!({"allowed": false, "reason": "who knows"}),
        }
    })
    .await;
    let reader = ApiServer::builder().reader();
    let options = WebhookAuthorizerOptions {
        version: ReviewVersion::V1,
        denied_ttl: Duration::ZERO,
        ..WebhookAuthorizerOptions::default()
    };
    let webhook = WebhookAuthorizer::from_file(&hook.file, options, reader).unwrap();
    let alice = Identity::user("alice").group("dev");
    for _ in 0..2 {
        let decision = webhook.authorize(&attributes(&alice, "get", "x")).await;
        assert_eq!(decision, Decision::Allow);
    }
    assert_eq!(
        webhook.explain(&attributes(&alice, "get", "x")).await,
        "readers may"
    );
    assert_eq!(hook.asked.lock().len(), 1, "the answer is kept");
    assert_eq!(
        hook.asked.lock()[0]["spec"],
        json!({
            "resourceAttributes": {"namespace": "ns", "verb": "get", "version": "v1", "resource": "pods", "name": "x"},
            "user": "alice", "groups": ["dev"],
        })
    );
    let selectors = Selectors::parse("spec.nodeName=a", "app");
    let narrowed = Attributes {
        selectors: Some(&selectors),
        ..attributes(&alice, "get", "")
    };
    assert_eq!(webhook.authorize(&narrowed).await, Decision::Allow);
    let asked = hook.asked.lock().pop().unwrap();
    let asked = &asked["spec"]["resourceAttributes"];
    assert_eq!(
        asked["fieldSelector"],
        json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]})
    );
    assert_eq!(
        asked["labelSelector"],
        json!({"requirements": [{"key": "app", "operator": "Exists"}]})
    );
    for _ in 0..2 {
        let decision = webhook.authorize(&attributes(&alice, "delete", "x")).await;
        assert_eq!(decision, Decision::deny("never"));
    }
    assert_eq!(hook.asked.lock().len(), 3, "refusals were not to be kept");
    hook.failures.store(1, Ordering::SeqCst);
    let decision = webhook.authorize(&attributes(&alice, "list", "")).await;
    assert_eq!(decision, Decision::unsaid("who knows"));
    assert_eq!(hook.asked.lock().len(), 5, "it was asked again");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_down_leaves_it_to_others_or_refuses() {
    let file = std::env::temp_dir().join(format!("webhook-down-{}.yaml", std::process::id()));
    // Nobody listens at port 1.
    let text = "{current-context: c, contexts: [{name: c, context: {cluster: h}}], clusters: [{name: h, cluster: {server: 'https://127.0.0.1:1/'}}]}";
    std::fs::write(&file, text).unwrap();
    let alice = Identity::user("alice");
    for (policy, is_denied) in [
        (FailurePolicy::NoOpinion, false),
        (FailurePolicy::Deny, true),
    ] {
        let options = WebhookAuthorizerOptions {
            failure_policy: policy,
            ..WebhookAuthorizerOptions::default()
        };
        let reader = ApiServer::builder().reader();
        let webhook = WebhookAuthorizer::from_file(&file, options, reader).unwrap();
        let decision = webhook.authorize(&attributes(&alice, "get", "x")).await;
        assert_eq!(matches!(decision, Decision::Deny { .. }), is_denied);
        let error = decision.error().unwrap();
        assert!(error.contains("connection refused"), "{error}");
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn trouble_with_a_webhook_is_the_servers_and_not_the_clients() {
    let hook = hook(|review| {
        let get = review["spec"]["resourceAttributes"]["verb"] == "get";
        json!({"allowed": get, "denied": get})
    })
    .await;
    let builder = ApiServer::builder();
    let options = WebhookAuthorizerOptions::default();
    let webhook = WebhookAuthorizer::from_file(&hook.file, options, builder.reader()).unwrap();
    let chain: Vec<Arc<dyn Authorizer>> = vec![Arc::new(AllowMasters), Arc::new(webhook)];
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}";
    let kept = Kept::default();
    let server = builder
        .authorizer(Arc::new(Chain::new(chain)))
        .audit(Policy::parse(policy).unwrap(), kept.clone())
        .build()
        .await
        .unwrap();
    let request = Request::get("/api/v1/namespaces/default/pods/p?a=1&b=2");
    let request = request.extension(Identity::user("alice"));
    let request = request.body(Body::empty()).unwrap();
    let (code, said) = text(server.handle(request).await).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let both = "webhook subject access review returned both allow and deny response";
    assert_eq!(
        said,
        format!(
            "Internal Server Error: \"/api/v1/namespaces/default/pods/p?a=1&amp;b=2\": {both}\n"
        )
    );
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "alice", "resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (code, review) = call(&server, "POST", reviews, review).await;
    assert_eq!(code, 201, "{review}");
    assert_eq!(
        review["status"],
        json!({"allowed": false, "denied": true, "evaluationError": both})
    );
    server.shutdown().await;
    let events = kept.of("get");
    let mut complete = events.iter().filter(|e| e["stage"] == "ResponseComplete");
    let ours = complete.find(|e| e["user"]["username"] == "alice");
    let annotations = &ours.unwrap()["annotations"];
    assert_eq!(annotations["authorization.k8s.io/reason"], "internal error");
    assert_eq!(annotations["authorization.k8s.io/decision"], Value::Null);
}

#[tokio::test]
async fn a_webhook_is_asked_only_about_what_its_conditions_fit() {
    let hook = hook(|_| json!({"allowed": true})).await;
    let options = |condition: &str| WebhookAuthorizerOptions {
        failure_policy: FailurePolicy::Deny,
        match_conditions: MatchConditions::parse([condition]).unwrap(),
        ..WebhookAuthorizerOptions::default()
    };
    let alice = Identity::user("alice").group("dev");
    let ask = async |condition: &str| {
        let reader = ApiServer::builder().reader();
        let webhook = WebhookAuthorizer::from_file(&hook.file, options(condition), reader);
        let webhook = webhook.unwrap();
        webhook.authorize(&attributes(&alice, "get", "x")).await
    };
    assert_eq!(ask("request.user == 'bob'").await, Decision::no_opinion());
    assert_eq!(hook.asked.lock().len(), 0);
    let decision = ask("request.nonResourceAttributes.path == 'x'").await;
    assert!(matches!(decision, Decision::Deny { error: Some(_), .. }));
    assert_eq!(hook.asked.lock().len(), 0);
    let condition = "'dev' in request.groups && request.resourceAttributes.namespace == 'ns'";
    assert_eq!(ask(condition).await, Decision::Allow);
    assert_eq!(hook.asked.lock().len(), 1);
}

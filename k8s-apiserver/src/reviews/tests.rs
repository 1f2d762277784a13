use k8s_openapi::api::{authentication::v1 as authentication, authorization::v1 as authorization};
use serde_json::json;

use super::*;
use crate::{
    admission::memory::MemoryReader,
    auth::{
        Audiences, Authenticated, AuthenticationError, BootstrapTokens, DEFAULT_ISSUER, Standard,
    },
    authz::{
        AllowMasters, AlwaysAllow, Attributes, Chain, Decision, WebhookAuthorizer,
        WebhookAuthorizerOptions,
        rbac::{Rbac, bootstrap},
    },
    pki::Pki,
};

struct Fixture {
    reader: MemoryReader,
    reviews: Vec<Served>,
}

async fn fixture() -> Fixture {
    let memory = MemoryReader::default();
    let group = "rbac.authorization.k8s.io";
    for role in &bootstrap::policy().cluster_roles {
        memory.put(group, "clusterroles", serde_json::to_value(role).unwrap());
    }
    memory.put(
        group,
        "clusterrolebindings",
        json!({
            "metadata": { "name": "v" },
            "roleRef": { "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "kind": "User", "name": "vera" }],
        }),
    );
    memory.put(
        "",
        "serviceaccounts",
        json!({ "metadata": { "namespace": "ns", "name": "sa", "uid": "u1" } }),
    );
    memory.put(
        "",
        "nodes",
        json!({ "metadata": { "name": "n", "uid": "u3" } }),
    );
    memory.put(
        "",
        "pods",
        json!({
            "metadata": { "namespace": "ns", "name": "p", "uid": "u2" },
            "spec": { "serviceAccountName": "sa", "nodeName": "n", "containers": [] },
        }),
    );
    let reader: Arc<dyn ObjectReader> = Arc::new(memory.clone());
    let rbac = Arc::new(Rbac::start(&*reader));
    rbac.synced().await;
    let authorizer: Arc<dyn Authorizer> = rbac;
    let pki = Pki::in_memory().unwrap();
    let tokens = Arc::new(
        ServiceAccountTokens::new(pki.service_account_key(), DEFAULT_ISSUER, reader.clone())
            .unwrap(),
    );
    let bootstrap = BootstrapTokens::new(reader.clone());
    let others = Standard::new(Some(tokens.clone())).with(Arc::new(bootstrap));
    let others: Arc<dyn Authenticator> = Arc::new(others);
    Fixture {
        reader: memory,
        reviews: all(&authorizer, &others, &tokens, &reader),
    }
}

impl Fixture {
    async fn ask<K>(&self, who: &str, resource: &str, review: Value) -> Result<Value, Box<Status>>
    where
        K: Object + DeserializeOwned,
    {
        let served = self
            .reviews
            .iter()
            .find(|r| r.resource == resource)
            .unwrap();
        let object: K = serde_json::from_value(review).unwrap();
        served
            .by
            .create(&Identity::user(who), "ns", "sa", Box::new(object))
            .await
            .map(|answer| answer.to_value())
    }
}

#[tokio::test]
async fn access_reviews_say_what_the_authorizer_says() {
    let fixture = fixture().await;
    for (verb, allowed) in [("list", true), ("delete", false)] {
        let spec = json!({ "resourceAttributes": { "namespace": "ns", "verb": verb, "resource": "pods" } });
        let own = fixture
            .ask::<authorization::SelfSubjectAccessReview>(
                "vera",
                "selfsubjectaccessreviews",
                json!({ "spec": spec }),
            )
            .await
            .unwrap();
        assert_eq!(own["status"]["allowed"], allowed);
        let mut spec = spec;
        spec["user"] = "vera".into();
        let other = fixture
            .ask::<authorization::SubjectAccessReview>(
                "root",
                "subjectaccessreviews",
                json!({ "spec": spec }),
            )
            .await
            .unwrap();
        assert_eq!(other["status"]["allowed"], allowed);
    }
}

#[tokio::test]
async fn an_access_review_of_nothing_is_invalid() {
    let fixture = fixture().await;
    let status = fixture
        .ask::<authorization::SelfSubjectAccessReview>(
            "vera",
            "selfsubjectaccessreviews",
            json!({ "spec": {} }),
        )
        .await
        .unwrap_err();
    assert_eq!(status.code, Some(422));
    assert!(
        status.message.unwrap().contains(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        )
    );
}

/// Allows what is selected to be on node `a`.
#[derive(Debug)]
struct OnNode;

#[async_trait]
impl Authorizer for OnNode {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        match a.selectors {
            Some(s) if s.demand("spec.nodeName", "a") && a.version == "*" => Decision::Allow,
            _ => Decision::no_opinion(),
        }
    }
}

#[tokio::test]
async fn an_access_review_is_about_a_selection() {
    let review = AccessReview::of_oneself(Arc::new(OnNode));
    let ask = async |attributes: Value| {
        let object: authorization::SelfSubjectAccessReview =
            serde_json::from_value(json!({ "spec": { "resourceAttributes": attributes } }))
                .unwrap();
        let user = Identity::user("vera");
        let answer = review.create(&user, "", "", Box::new(object)).await;
        answer.map(|answer| answer.to_value()["status"].clone())
    };
    let requirement = json!({ "key": "spec.nodeName", "operator": "In", "values": ["a"] });
    for (fields, status) in [
        (
            json!({ "rawSelector": "spec.nodeName=a" }),
            json!({ "allowed": true }),
        ),
        (
            json!({ "rawSelector": "spec.nodeName=b" }),
            json!({ "allowed": false }),
        ),
        (
            json!({ "requirements": [requirement] }),
            json!({ "allowed": true }),
        ),
        (
            json!({ "requirements": [requirement, { "key": "x", "operator": "Near" }] }),
            json!({
                "allowed": true,
                "evaluationError": "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
            }),
        ),
        (
            json!({ "rawSelector": "spec.nodeName" }),
            json!({
                "allowed": false,
                "evaluationError": "spec.resourceAttributes.fieldSelector ignored due to parse error",
            }),
        ),
    ] {
        let attributes = json!({ "verb": "list", "resource": "pods", "fieldSelector": fields });
        assert_eq!(ask(attributes).await.unwrap(), status, "{fields}");
    }
    for (name, selector, said) in [
        (
            "fieldSelector",
            json!({}),
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
        ),
        (
            "labelSelector",
            json!({ "rawSelector": "a", "requirements": [{ "key": "a", "operator": "Exists" }] }),
            "spec.resourceAttributes.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements",
        ),
        (
            "fieldSelector",
            json!({ "requirements": [{ "key": "", "operator": "In", "values": ["a"] }] }),
            "spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified",
        ),
        (
            "labelSelector",
            json!({ "requirements": [{ "key": "a", "operator": "NotIn" }] }),
            "spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            "labelSelector",
            json!({ "requirements": [{ "key": "a", "operator": "Exists", "values": ["b"] }] }),
            "spec.resourceAttributes.labelSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
    ] {
        let attributes = json!({ "verb": "list", "resource": "pods", (name): selector });
        let status = ask(attributes).await.unwrap_err();
        assert_eq!(status.code, Some(422));
        let message = status.message.unwrap();
        assert!(message.contains(said), "{message}");
    }
}

#[tokio::test]
async fn a_rules_review_lists_what_one_may_do() {
    let fixture = fixture().await;
    let answer = fixture
        .ask::<authorization::SelfSubjectRulesReview>(
            "vera",
            "selfsubjectrulesreviews",
            json!({ "spec": { "namespace": "ns" } }),
        )
        .await
        .unwrap();
    let rules = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| {
        rule["resources"]
            .as_array()
            .unwrap()
            .contains(&json!("pods"))
    }));
    assert_eq!(answer["status"]["incomplete"], false);
}

#[tokio::test]
async fn a_rules_review_tells_what_the_authorizers_know_and_who_knows_nothing() {
    let path = std::env::temp_dir().join(format!("rules-{}.yaml", uuid::Uuid::new_v4()));
    let text = "{current-context: c, contexts: [{name: c, context: {cluster: h}}], clusters: [{name: h, cluster: {server: 'https://127.0.0.1:1/'}}]}";
    std::fs::write(&path, text).unwrap();
    let reader = Arc::new(MemoryReader::default());
    let options = WebhookAuthorizerOptions::default();
    let webhook = WebhookAuthorizer::from_file(&path, options, reader).unwrap();
    std::fs::remove_file(path).unwrap();
    let ask = async |authorizers: Vec<Arc<dyn Authorizer>>| {
        let review = RulesReview::new(Arc::new(Chain::new(authorizers)));
        let object: authorization::SelfSubjectRulesReview =
            serde_json::from_value(json!({ "spec": { "namespace": "ns" } })).unwrap();
        let user = Identity::user("vera");
        let answer = review.create(&user, "", "", Box::new(object)).await;
        answer.unwrap().to_value()["status"].clone()
    };
    assert_eq!(
        ask(vec![Arc::new(AllowMasters), Arc::new(webhook)]).await,
        json!({
            "resourceRules": null, "nonResourceRules": null, "incomplete": true,
            "evaluationError": "webhook authorizer does not support user rule resolution",
        })
    );
    let all = json!(["*"]);
    assert_eq!(
        ask(vec![Arc::new(AllowMasters), Arc::new(AlwaysAllow)]).await,
        json!({
            "resourceRules": [{ "verbs": all, "apiGroups": all, "resources": all }],
            "nonResourceRules": [{ "verbs": all, "nonResourceURLs": all }],
            "incomplete": false,
        })
    );
}

#[tokio::test]
async fn a_token_that_was_asked_for_is_found_good() {
    let fixture = fixture().await;
    let answer = fixture
        .ask::<authentication::TokenRequest>(
            "kubelet",
            "serviceaccounts",
            json!({ "spec": {
                "audiences": [],
                "expirationSeconds": 3607,
                "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u2" },
            }}),
        )
        .await
        .unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let review = |token: &str| json!({ "spec": { "token": token } });
    let answer = fixture
        .ask::<authentication::TokenReview>("x", "tokenreviews", review(token))
        .await
        .unwrap();
    assert_eq!(answer["status"]["authenticated"], true);
    assert_eq!(
        answer["status"]["user"]["username"],
        "system:serviceaccount:ns:sa"
    );
    assert_eq!(
        answer["status"]["user"]["extra"]["authentication.kubernetes.io/node-name"],
        json!(["n"])
    );
    fixture.reader.delete("", "pods", "ns", "p");
    let answer = fixture
        .ask::<authentication::TokenReview>("x", "tokenreviews", review(token))
        .await
        .unwrap();
    assert_ne!(answer["status"]["authenticated"], true);
    assert_eq!(
        answer["status"]["error"],
        "service account token has been invalidated"
    );
}

#[tokio::test]
async fn the_tokens_of_others_are_reviewed_too() {
    let fixture = fixture().await;
    fixture.reader.put(
        "",
        "secrets",
        json!({
            "metadata": { "namespace": "kube-system", "name": "bootstrap-token-abcdef" },
            "type": "bootstrap.kubernetes.io/token",
            "data": {
                "token-id": "YWJjZGVm", "token-secret": "MDEyMzQ1Njc4OWFiY2RlZg==",
                "usage-bootstrap-authentication": "dHJ1ZQ==",
            },
        }),
    );
    let review = async |token: &str, audiences: Value| {
        let review = json!({ "spec": { "token": token, "audiences": audiences } });
        let answer = fixture
            .ask::<authentication::TokenReview>("x", "tokenreviews", review)
            .await;
        answer.unwrap()["status"].clone()
    };
    let good = "abcdef.0123456789abcdef";
    let status = review(good, json!([])).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:bootstrap:abcdef");
    assert_eq!(status["audiences"], json!([DEFAULT_ISSUER]));
    let both = review(good, json!(["vault", DEFAULT_ISSUER])).await;
    assert_eq!(both["audiences"], json!([DEFAULT_ISSUER]));
    let elsewhere = review(good, json!(["vault"])).await;
    assert_ne!(elsewhere["authenticated"], true);
    let wrong = review("abcdef.0123456789abcdee", json!([])).await;
    assert_ne!(wrong["authenticated"], true);
    assert_eq!(wrong["error"], "invalid bearer token");
}

#[tokio::test]
async fn a_token_request_that_asks_too_much_is_refused() {
    let fixture = fixture().await;
    let ask = |spec: Value| {
        fixture.ask::<authentication::TokenRequest>("x", "serviceaccounts", json!({ "spec": spec }))
    };
    let status = ask(json!({ "audiences": [], "expirationSeconds": 599 }))
        .await
        .unwrap_err();
    assert_eq!(status.code, Some(422));
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "other" });
    let status = ask(json!({ "audiences": [], "boundObjectRef": bound }))
        .await
        .unwrap_err();
    assert_eq!(status.code, Some(409));
    let bound = json!({ "kind": "Service", "apiVersion": "v1", "name": "p" });
    let status = ask(json!({ "audiences": [], "boundObjectRef": bound }))
        .await
        .unwrap_err();
    assert_eq!(
        status.message.as_deref(),
        Some("cannot bind token to object of type /v1, Kind=Service")
    );
}

#[tokio::test]
async fn one_learns_who_one_is() {
    let fixture = fixture().await;
    let answer = fixture
        .ask::<authentication::SelfSubjectReview>("vera", "selfsubjectreviews", json!({}))
        .await
        .unwrap();
    assert_eq!(answer["status"]["userInfo"]["username"], "vera");
}

/// Takes every token, for somebody whom nobody asked about.
#[derive(Debug)]
struct Careless;

#[async_trait::async_trait]
impl Authenticator for Careless {
    async fn authenticate(
        &self,
        _parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        Ok(None)
    }

    async fn authenticate_for(
        &self,
        _parts: &http::request::Parts,
        _audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        Ok(Some(Authenticated {
            identity: Identity::user("eve"),
            audiences: vec!["elsewhere".to_owned()],
        }))
    }
}

#[tokio::test]
async fn a_token_for_others_than_those_asked_for_is_an_error() {
    let reader: Arc<dyn ObjectReader> = Arc::new(MemoryReader::default());
    let pki = Pki::in_memory().unwrap();
    let tokens = ServiceAccountTokens::new(pki.service_account_key(), DEFAULT_ISSUER, reader);
    let review = TokenReview::new(Arc::new(tokens.unwrap())).with_others(Arc::new(Careless));
    let asked: authentication::TokenReview =
        serde_json::from_value(json!({ "spec": { "token": "t", "audiences": ["vault"] } }))
            .unwrap();
    let refused = review
        .create(&Identity::user("x"), "", "", Box::new(asked))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Some(500));
    assert_eq!(
        refused.message.as_deref(),
        Some("Internal error occurred: error validating audiences")
    );
}

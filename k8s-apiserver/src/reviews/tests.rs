use k8s_openapi::api::{authentication::v1 as authentication, authorization::v1 as authorization};
use serde_json::json;

use super::*;
use crate::{
    admission::memory::MemoryReader, auth::DEFAULT_ISSUER, authz::rbac::bootstrap, pki::Pki,
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
    let authorizer: Arc<dyn Authorizer> = rbac.clone();
    let pki = Pki::in_memory().unwrap();
    let tokens = Arc::new(
        ServiceAccountTokens::new(pki.service_account_key(), DEFAULT_ISSUER, reader.clone())
            .unwrap(),
    );
    Fixture {
        reader: memory,
        reviews: all(&authorizer, Some(&rbac), &tokens, &reader),
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

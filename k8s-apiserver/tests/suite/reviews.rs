//! What reviews answer beyond their status. All of it was asked of v1.26.

use serde_json::{Value, json};

use crate::common::hooks::Cluster;

const ACCESS: &str = "/apis/authorization.k8s.io/v1";
const WHO: &str = "/apis/authentication.k8s.io/v1";

/// The managed fields of what is answered, without their times.
async fn owned(cluster: &Cluster, path: &str, spec: Value) -> Value {
    let path = format!("{path}?fieldManager=test");
    let answer = cluster.post(&path, json!({ "spec": spec })).await;
    let mut managed = answer.expect(201)["metadata"]["managedFields"].take();
    for entry in managed.as_array_mut().into_iter().flatten() {
        assert!(entry["time"].take().is_string(), "{entry}");
    }
    managed
}

fn entry(api_version: &str, fields: Value, subresource: Option<&str>) -> Value {
    let mut entry = json!({
        "manager": "test", "operation": "Update", "apiVersion": api_version, "time": null,
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    });
    if let Some(subresource) = subresource {
        entry["subresource"] = subresource.into();
    }
    json!([entry])
}

#[tokio::test]
async fn a_review_of_the_cluster_has_no_namespace_whatever_it_says() {
    let cluster = Cluster::start().await;
    let review = json!({"metadata": {"namespace": "x"}, "spec": {"resourceAttributes": {}}});
    let path = format!("{ACCESS}/selfsubjectaccessreviews");
    let told = cluster.post(&path, review).await.expect(201);
    assert_eq!(told["metadata"].get("namespace"), None, "{told}");
}

#[tokio::test]
async fn who_asks_owns_what_was_asked() {
    let cluster = Cluster::start().await;
    let attributes = json!({"verb": "get", "resource": "pods"});
    let owns_attributes = json!({".": {}, "f:resource": {}, "f:verb": {}});
    let version = "authorization.k8s.io/v1";
    let spec = json!({"user": "a", "resourceAttributes": attributes});
    assert_eq!(
        owned(&cluster, &format!("{ACCESS}/subjectaccessreviews"), spec).await,
        entry(
            version,
            json!({"f:spec": {"f:resourceAttributes": owns_attributes, "f:user": {}}}),
            None
        )
    );
    let spec = json!({"resourceAttributes": attributes});
    assert_eq!(
        owned(
            &cluster,
            &format!("{ACCESS}/selfsubjectaccessreviews"),
            spec
        )
        .await,
        entry(
            version,
            json!({"f:spec": {"f:resourceAttributes": owns_attributes}}),
            None
        )
    );
    let version = "authentication.k8s.io/v1";
    assert_eq!(
        owned(
            &cluster,
            &format!("{WHO}/tokenreviews"),
            json!({"token": "x"})
        )
        .await,
        entry(version, json!({"f:spec": {"f:token": {}}}), None)
    );
    // With the default that it gets before anybody owns it.
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(
        owned(&cluster, path, json!({"audiences": ["a"]})).await,
        entry(
            version,
            json!({"f:spec": {"f:audiences": {}, "f:expirationSeconds": {}}}),
            Some("token")
        )
    );
}

#[tokio::test]
async fn some_answers_are_new_objects() {
    let cluster = Cluster::start().await;
    let sent = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"namespace": "default"}});
    let rules = cluster
        .post(&format!("{ACCESS}/selfsubjectrulesreviews"), sent)
        .await
        .expect(201);
    assert_eq!(
        (&rules["metadata"], &rules["spec"]),
        (&json!({}), &json!({}))
    );
    let sent = json!({"metadata": {"labels": {"a": "b"}}});
    let oneself = cluster
        .post(&format!("{WHO}/selfsubjectreviews"), sent)
        .await
        .expect(201);
    let metadata = oneself["metadata"].as_object().unwrap();
    let fields: Vec<&String> = metadata.keys().collect();
    assert_eq!(fields, ["creationTimestamp"]);
}

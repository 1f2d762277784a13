//! What is said of media types that are not spoken, by upstream's router and behind it; what numbers and nothings become.
//! All of it was asked of v1.26.

use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LAMPS: &str = "/apis/example.com/v1/namespaces/default/lamps";
const SPOKEN: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

async fn lamps(cluster: &Cluster) {
    let properties = json!({"n": {"type": "number"}, "i": {"type": "integer"}, "s": {"type": "string", "nullable": true},
        "o": {"type": "object", "nullable": true, "properties": {"a": {"type": "string"}}}});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    cluster
        .define(
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "lamps.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "lamps", "kind": "Lamp"}, "versions": [version]}}),
        )
        .await;
}

fn lamp(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name}, "spec": spec})
}

async fn apply(cluster: &Cluster, who: &str, force: bool, spec: Value) -> Answer {
    let admin = cluster.user("admin", &["system:masters"]);
    let path = format!("{LAMPS}/a?fieldManager={who}&force={force}");
    let kind = "application/apply-patch+yaml";
    cluster
        .ask_as(&admin, "PATCH", &path, kind, lamp("a", spec))
        .await
}

#[tokio::test]
async fn media_types_of_bodies_are_refused_by_the_router_for_patches_alone() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let admin = cluster.user("admin", &["system:masters"]);
    let send = |method: &'static str, path: String, kind: &'static str| {
        let (cluster, admin) = (&cluster, &admin);
        async move {
            let body = json!({"metadata": {"name": "a"}});
            cluster.ask_as(admin, method, &path, kind, body).await
        }
    };
    let patched = send("PATCH", format!("{MAPS}/a"), "application/json").await;
    assert_eq!(
        (patched.code.as_u16(), patched.message()),
        (415, "415: Unsupported Media Type")
    );
    assert_eq!(patched.body["details"], json!({}));
    let patched = send("PATCH", format!("{LAMPS}/a"), "application/json").await;
    assert!(
        patched
            .message()
            .starts_with("the body of the request was in an unknown format")
    );
    let posted = send("POST", MAPS.to_owned(), "application/xml").await;
    assert!(
        posted
            .message()
            .starts_with("the body of the request was in an unknown format")
    );
    let posted = send("POST", MAPS.to_owned(), "").await;
    posted.expect(201);
}

#[tokio::test]
async fn media_types_of_answers_are_refused_by_the_router_where_there_is_one() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let router = format!("406: Not Acceptable\n\nAvailable representations: {SPOKEN}");
    let streams = format!(
        "{router}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    );
    let behind = format!("only the following media types are accepted: {SPOKEN}");
    let other = "application/json;as=Other;g=meta.k8s.io;v=v1";
    for (path, accept, text) in [
        (MAPS.to_owned(), "text/html", &streams),
        (format!("{MAPS}?watch=1"), "text/html", &streams),
        (format!("{MAPS}/a"), "text/html, application/xml", &router),
        ("/apis/apps/v1".to_owned(), "text/html", &router),
        (MAPS.to_owned(), other, &behind),
        (LAMPS.to_owned(), "text/html", &behind),
        (LAMPS.to_owned(), other, &behind),
        ("/apis".to_owned(), "text/html", &behind),
        ("/apis/example.com/v1".to_owned(), "text/html", &behind),
    ] {
        let answer = cluster.wanting(&path, accept).await;
        assert_eq!(
            (answer.code.as_u16(), answer.message()),
            (406, text.as_str()),
            "{path} {accept}"
        );
    }
}

#[tokio::test]
async fn whole_numbers_are_the_same_however_they_are_written() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let made = cluster
        .post(LAMPS, lamp("b", json!({"n": 1e3, "i": 1.0})))
        .await
        .expect(201);
    assert_eq!(made["spec"].to_string(), r#"{"i":1,"n":1000}"#);
    let refused = cluster
        .post(
            LAMPS,
            lamp("c", json!({"i": 9_223_372_036_854_775_808_u64})),
        )
        .await;
    assert_eq!(
        refused.message(),
        "Lamp.example.com \"c\" is invalid: spec.i: Invalid value: \"number\": spec.i in body must be of type integer: \"number\""
    );
    apply(&cluster, "one", false, json!({"n": 1}))
        .await
        .expect(201);
    let both = apply(&cluster, "two", false, json!({"n": 1.0}))
        .await
        .expect(200);
    assert_eq!(both["spec"].to_string(), r#"{"n":1}"#);
    assert_eq!(
        both["metadata"]["managedFields"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn nothing_is_applied_only_where_it_is_a_value() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    apply(&cluster, "one", false, json!({"n": 1, "s": "x", "o": {}}))
        .await
        .expect(201);
    let refused = apply(&cluster, "two", false, json!({"o": null})).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.o"#
    );
    let refused = apply(&cluster, "two", true, json!({"n": null})).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message()),
        (
            422,
            "Lamp.example.com \"a\" is invalid: spec.n: Invalid value: \"null\": spec.n in body must be of type number: \"null\""
        )
    );
    let forced = apply(&cluster, "two", true, json!({"o": null, "s": null}))
        .await
        .expect(200);
    assert_eq!(forced["spec"], json!({"n": 1, "s": null, "o": null}));
}

#[tokio::test]
async fn options_that_say_nothing_are_not_taken_for_none() {
    let cluster = Cluster::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "generation": 7}});
    let refused = cluster.post(&format!("{MAPS}?dryRun="), map.clone()).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let made = cluster.post(MAPS, map).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 7);
    let path = format!("{MAPS}/a");
    for body in [
        json!([]),
        json!({"propagationPolicy": ""}),
        json!({"dryRun": [""]}),
    ] {
        let refused = cluster.ask("DELETE", &path, body.clone()).await;
        assert!(refused.code.is_client_error(), "{body} {refused:?}");
        cluster.get(&path).await.expect(200);
    }
    let refused = cluster.ask("PATCH", &path, json!({"metadata": null})).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message()),
        (
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided"
        )
    );
    let admin = cluster.user("admin", &["system:masters"]);
    let kind = "application/strategic-merge-patch+json";
    let other = json!({"kind": "Other", "apiVersion": "x/v1"});
    cluster
        .ask_as(&admin, "PATCH", &path, kind, other)
        .await
        .expect(200);
}

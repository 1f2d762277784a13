//! Who owns what across the versions of a kind, told as upstream tells it: each sequence was put to v1.26 too.

use serde_json::{Value, json};

use crate::{
    common::hooks::{Answer, Cluster},
    conversion::{definition, webhook},
};

/// Applies as somebody.
async fn apply(cluster: &Cluster, path: &str, who: &str, config: Value) -> Answer {
    let admin = cluster.user("admin", &["system:masters"]);
    let path = format!("{path}fieldManager={who}");
    let kind = "application/apply-patch+yaml";
    cluster.ask_as(&admin, "PATCH", &path, kind, config).await
}

async fn merge(cluster: &Cluster, path: &str, who: &str, change: Value) -> Answer {
    let path = format!("{path}?fieldManager={who}");
    cluster.ask("PATCH", &path, change).await
}

/// Who owns what: manager, operation, version, fields.
fn owners(object: &Value) -> Vec<(&str, &str, &str, Value)> {
    let entries = object["metadata"]["managedFields"].as_array();
    let mut found: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            (
                entry["manager"].as_str().unwrap(),
                entry["operation"].as_str().unwrap(),
                entry["apiVersion"].as_str().unwrap(),
                entry["fieldsV1"].clone(),
            )
        })
        .collect();
    found.sort_by_key(|(manager, operation, version, _)| (*manager, *operation, *version));
    found
}

fn fields(names: &[&str]) -> Value {
    let mut out = json!({});
    for name in names {
        out[format!("f:{name}")] = json!({});
    }
    out
}

fn lamp(version: &str, fields: Value) -> Value {
    let mut out = json!({"apiVersion": format!("example.com/{version}"), "kind": "Lamp", "metadata": {"name": "a"}});
    out.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    out
}

fn at(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/lamps/a?")
}

const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lamps.example.com";

#[tokio::test]
async fn a_webhook_tells_who_owns_what_in_the_owners_version() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    let one = json!({"hostPort": "h:1"});
    apply(&cluster, &at("v1"), "one", lamp("v1", one.clone()))
        .await
        .expect(201);

    // The same in the other version is no conflict, and both own it, each in a version of its own.
    let same = lamp("v2", json!({"host": "h", "port": "1"}));
    let both = apply(&cluster, &at("v2"), "two", same).await.expect(200);
    let expected = [
        ("one", "Apply", "example.com/v1", fields(&["hostPort"])),
        ("two", "Apply", "example.com/v2", fields(&["host", "port"])),
    ];
    assert_eq!(owners(&both), expected);

    // A conflict is told in the owner's version.
    let other = lamp("v2", json!({"host": "h", "port": "2"}));
    let refused = apply(&cluster, &at("v2"), "two", other.clone()).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "one": .hostPort"#
    );
    assert_eq!(refused.code, 409);
    let forced = apply(&cluster, &format!("{}force=true&", at("v2")), "two", other)
        .await
        .expect(200);
    assert_eq!(
        (&forced["host"], &forced["port"]),
        (&json!("h"), &json!("2"))
    );
    assert_eq!(owners(&forced), expected[1..]);

    // The other way about; what is not changed is not lost.
    let other = lamp("v1", json!({"hostPort": "h:3"}));
    let refused = apply(&cluster, &at("v1"), "one", other).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "two": .port"#
    );
    let path = at("v1");
    let changed = merge(
        &cluster,
        path.trim_end_matches('?'),
        "u",
        json!({"hostPort": "h:4"}),
    )
    .await
    .expect(200);
    assert_eq!(
        owners(&changed),
        [
            ("two", "Apply", "example.com/v2", fields(&["host"])),
            ("u", "Update", "example.com/v1", fields(&["hostPort"])),
        ]
    );
}

#[tokio::test]
async fn what_was_applied_by_one_version_is_taken_out_by_another() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    let labels = |version: &str, labels: Value, rest: Value| {
        let mut lamp = lamp(version, rest);
        lamp["metadata"]["labels"] = labels;
        lamp
    };
    let first = labels(
        "v1",
        json!({"a": "1", "b": "1"}),
        json!({"hostPort": "h:1"}),
    );
    apply(&cluster, &at("v1"), "one", first).await.expect(201);
    let second = labels("v2", json!({"a": "1"}), json!({"host": "h", "port": "1"}));
    let now = apply(&cluster, &at("v2"), "one", second).await.expect(200);
    assert_eq!(now["metadata"]["labels"], json!({"a": "1"}));
    assert_eq!((&now["host"], &now["port"]), (&json!("h"), &json!("1")));
    let found = owners(&now);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].2), ("one", "example.com/v2"));
    // All that is asked of the webhook for the same once more is the object as it is read.
    let asked = hook.asked("/convert").len();
    let third = labels("v2", json!({"a": "1"}), json!({"host": "h", "port": "1"}));
    let same = apply(&cluster, &at("v2"), "one", third).await.expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        now["metadata"]["resourceVersion"]
    );
    assert!(hook.asked("/convert").len() <= asked + 2);
}

#[tokio::test]
async fn nothing_is_applied_while_the_owners_version_cannot_be_had() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    let first = lamp("v2", json!({"host": "h", "port": "1"}));
    apply(&cluster, &at("v2"), "two", first).await.expect(201);
    let broken = definition(&hook, "/fails")["spec"]["conversion"].clone();
    let broken = json!({"spec": {"conversion": broken}});
    cluster.ask("PATCH", DEFINITION, broken).await.expect(200);
    let text = "conversion webhook for example.com/v1, Kind=Lamp failed: no such lamp";
    let path = at("v2");
    cluster
        .until("GET", path.trim_end_matches('?'), Value::Null, |answer| {
            answer.message() == text
        })
        .await;
    let path = format!("{}force=true&", at("v1"));
    let refused = apply(
        &cluster,
        &path,
        "one",
        lamp("v1", json!({"hostPort": "h:2"})),
    )
    .await;
    assert_eq!((refused.code.as_u16(), refused.message()), (500, text));
    // In the version in which it is stored it is read, and what changes nothing asks nobody.
    let path = at("v1");
    let read = cluster.get(path.trim_end_matches('?')).await.expect(200);
    assert_eq!(read["hostPort"], "h:1");
    assert_eq!(owners(&read).len(), 1);
    let same = apply(
        &cluster,
        &path,
        "one",
        lamp("v1", json!({"hostPort": "h:1"})),
    )
    .await;
    assert_eq!(owners(&same.expect(200)).len(), 2);
}

#[tokio::test]
async fn owners_keep_versions_that_are_not_served_and_lose_those_that_are_gone() {
    let cluster = Cluster::start().await;
    let version = |name: &str, storage: bool, served: bool| {
        json!({"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}}}})
    };
    let mut lamps = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [version("v1", true, true), version("v2", false, true)]}});
    cluster.define(lamps.clone()).await;
    let first = lamp("v2", json!({"x": "1", "y": "1"}));
    apply(&cluster, &at("v2"), "two", first).await.expect(201);
    let refused = apply(&cluster, &at("v1"), "one", lamp("v1", json!({"x": "2"}))).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "two": .x"#
    );

    // Not served any more, and owned nevertheless.
    lamps["spec"]["versions"] = json!([version("v1", true, true), version("v2", false, false)]);
    let versions = json!({"spec": {"versions": lamps["spec"]["versions"]}});
    cluster.ask("PATCH", DEFINITION, versions).await.expect(200);
    let other = at("v2");
    cluster
        .until("GET", other.trim_end_matches('?'), Value::Null, |answer| {
            answer.code == 404
        })
        .await;
    let path = at("v1");
    let path = path.trim_end_matches('?');
    let refused = apply(&cluster, &at("v1"), "one", lamp("v1", json!({"x": "2"}))).await;
    assert_eq!(refused.code, 409, "{refused:?}");
    let changed = merge(&cluster, path, "u", json!({"y": "2"}))
        .await
        .expect(200);
    assert_eq!(
        owners(&changed),
        [
            ("two", "Apply", "example.com/v2", fields(&["x"])),
            ("u", "Update", "example.com/v1", fields(&["y"])),
        ]
    );

    // No version at all any more.
    let versions = json!({"spec": {"versions": [version("v1", true, true)]}});
    cluster.ask("PATCH", DEFINITION, versions).await.expect(200);
    // The definition takes effect with a watch event.
    let applied = async {
        loop {
            let answer = apply(&cluster, &at("v1"), "one", lamp("v1", json!({"x": "2"}))).await;
            if answer.code == 200 {
                return answer.body;
            }
            assert_eq!(answer.code, 409, "{answer:?}");
        }
    };
    let limit = std::time::Duration::from_secs(20);
    let gone = tokio::time::timeout(limit, applied).await.unwrap();
    assert_eq!(gone["x"], "2");
    assert_eq!(
        owners(&gone),
        [
            ("one", "Apply", "example.com/v1", fields(&["x"])),
            ("u", "Update", "example.com/v1", fields(&["y"])),
        ]
    );
}

#[tokio::test]
async fn metrics_of_autoscalers_are_owned_in_either_version() {
    let cluster = Cluster::start().await;
    let at = |version: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h?")
    };
    let scaler = |version: &str, more: Value| {
        let mut spec = json!({"maxReplicas": 5,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"}, "spec": spec})
    };
    let metric = |name: &str, percent: i32| {
        json!({"type": "Resource", "resource": {"name": name,
            "target": {"type": "Utilization", "averageUtilization": percent}}})
    };
    let percent = |percent: i32| json!({"targetCPUUtilizationPercentage": percent});
    apply(&cluster, &at("v1"), "one", scaler("v1", percent(70)))
        .await
        .expect(201);
    let with = |metrics: Value| scaler("v2", json!({"metrics": metrics}));
    apply(&cluster, &at("v2"), "two", with(json!([metric("cpu", 70)])))
        .await
        .expect(200);
    let refused = apply(&cluster, &at("v2"), "two", with(json!([metric("cpu", 60)]))).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.targetCPUUtilizationPercentage"#
    );
    let forced = format!("{}force=true&", at("v2"));
    let taken = apply(
        &cluster,
        &forced,
        "two",
        with(json!([metric("memory", 50)])),
    )
    .await
    .expect(200);
    let found = owners(&taken);
    assert_eq!((found[0].0, found[0].2), ("one", "autoscaling/v1"));
    assert_eq!(
        found[0].3["f:spec"]["f:targetCPUUtilizationPercentage"],
        Value::Null
    );
    assert_eq!(found[1].3["f:spec"]["f:metrics"], json!({}));
    // A version that nobody knows is owned by nobody once somebody else writes.
    let path = at("v2");
    let path = path.trim_end_matches('?');
    let mut object = cluster.get(path).await.expect(200);
    object["metadata"]["managedFields"][0]["apiVersion"] = "autoscaling/v1beta9".into();
    object["spec"]["maxReplicas"] = 6.into();
    let written = cluster.ask("PUT", path, object).await.expect(200);
    let found = owners(&written);
    assert!(
        found.iter().all(|owner| owner.2 == "autoscaling/v2"),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_scale_of_a_custom_resource_is_applied_where_its_number_is() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}}}}});
    let paths = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"scale": paths}});
    cluster
        .define(
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "lamps.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "lamps", "kind": "Lamp"}, "versions": [version]}}),
        )
        .await;
    let first = lamp("v1", json!({"spec": {"size": 1}}));
    apply(&cluster, &at("v1"), "one", first).await.expect(201);
    let scale = |replicas: i32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"},
            "spec": {"replicas": replicas}})
    };
    let path = "/apis/example.com/v1/namespaces/default/lamps/a/scale?";
    let refused = apply(&cluster, path, "two", scale(3)).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.replicas"#
    );
    let path = format!("{path}force=true&");
    let scaled = apply(&cluster, &path, "two", scale(3)).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 3);
    let path = at("v1");
    let now = cluster.get(path.trim_end_matches('?')).await.expect(200);
    assert_eq!(now["spec"]["size"], 3);
    let size = json!({"f:spec": {"f:size": {}}});
    assert_eq!(owners(&now), [("two", "Apply", "example.com/v1", size)]);
}

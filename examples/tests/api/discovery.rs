//! What the server says of itself.

use serde_json::{Value, json};

use crate::{Entry, fixture::Fixture, rest::JSON};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup",
        every_group_prefers_one_of_its_versions,
    ),
    (
        "[sig-api-machinery] server version should find the server version",
        the_version_is_two_whole_numbers,
    ),
    (
        "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata",
        what_is_no_object_is_no_table,
    ),
];

#[tokio::test]
async fn every_group_prefers_one_of_its_versions() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let groups = api.get("/apis").await;
    let groups = groups["groups"].as_array().expect("groups");
    assert!(groups.len() > 10, "{groups:#?}");
    for group in groups {
        let name = group["name"].as_str().expect("a name");
        let versions = group["versions"].as_array().expect("versions");
        assert!(versions.contains(&group["preferredVersion"]), "{group}");
        let alone = api.get(&format!("/apis/{name}")).await;
        assert_eq!(
            alone["preferredVersion"], group["preferredVersion"],
            "{name}"
        );
        for version in versions {
            let path = version["groupVersion"].as_str().expect("a version");
            let resources = api.get(&format!("/apis/{path}")).await;
            assert_eq!(resources["groupVersion"], *path);
        }
    }
}

#[tokio::test]
async fn the_version_is_two_whole_numbers() {
    let cluster = Fixture::server().await;
    let version = cluster.api.get("/version").await;
    for part in ["major", "minor"] {
        let number = version[part].as_str().expect("a text");
        assert!(number.parse::<u32>().is_ok(), "{part} is {number:?}");
    }
}

#[tokio::test]
async fn what_is_no_object_is_no_table() {
    let cluster = Fixture::server().await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [
        ("content-type", JSON),
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
    ];
    let answer = cluster.api.send("POST", path, &headers, &review).await;
    assert_eq!(answer.status, 406, "{}", answer.text);
    let status: Value = answer.json();
    assert_eq!(
        (&status["kind"], &status["reason"]),
        (&json!("Status"), &json!("NotAcceptable"))
    );
}

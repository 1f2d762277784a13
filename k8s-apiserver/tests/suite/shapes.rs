//! Shapes and encodings, discovery, and the paths beside the resources.

use crate::common::{MAPS, call, client, config_map, get, send, server, text};
use http::StatusCode;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, PostParams},
    discovery::Discovery,
};
use serde_json::{Value, json};

#[tokio::test]
async fn objects_come_as_tables() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    for (uri, include) in [
        (MAPS.to_owned(), "PartialObjectMetadata"),
        (format!("{MAPS}/x?includeObject=Object"), "ConfigMap"),
    ] {
        let (status, text) = text(send(&server, "GET", &uri, &accept, "").await).await;
        assert_eq!(status, StatusCode::OK);
        let table: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&table["kind"], &table["apiVersion"]),
            (&json!("Table"), &json!("meta.k8s.io/v1"))
        );
        let names: Vec<_> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["Name", "Data", "Age"]);
        assert_eq!(table["rows"][0]["cells"][0], "x");
        assert_eq!(table["rows"][0]["object"]["kind"], include);
    }
}

#[tokio::test]
async fn metadata_alone_can_be_had() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    api.create(
        &PostParams::default(),
        &serde_json::from_value(config_map("x")).unwrap(),
    )
    .await
    .unwrap();
    let one = api.get_metadata("x").await.unwrap();
    assert_eq!(one.metadata.name.as_deref(), Some("x"));
    let all = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), 1);
    assert!(all.items[0].metadata.resource_version.is_some());
}

#[tokio::test]
async fn answers_are_indented_compressed_or_yaml_when_asked() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let uri = format!("{MAPS}/x");
    let (_, pretty) =
        text(send(&server, "GET", &format!("{uri}?pretty=true"), &[], "").await).await;
    assert!(
        pretty.starts_with("{\n  \"apiVersion\": \"v1\""),
        "{pretty}"
    );
    let (_, yaml) =
        text(send(&server, "GET", &uri, &[("accept", "application/yaml")], "").await).await;
    assert!(yaml.contains("kind: ConfigMap"), "{yaml}");
    let (status, _) = text(send(&server, "GET", &uri, &[("accept", "text/html")], "").await).await;
    assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
    let mut big = config_map("big");
    big["data"]["a"] = "x".repeat(200_000).into();
    call(&server, "POST", MAPS, big).await;
    let response = send(&server, "GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let small = response.into_body().collect().await.unwrap().to_bytes();
    assert!(small.len() < 20_000, "{}", small.len());
    let (_, list) = get(&server, MAPS).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 3 - 1);
}

#[tokio::test]
async fn long_lists_have_the_length_that_they_say() {
    let server = server().await;
    for i in 0..30 {
        let mut map = config_map(&format!("x{i}"));
        map["data"]["a"] = "y".repeat(20_000).into();
        call(&server, "POST", MAPS, map).await;
    }
    let response = send(&server, "GET", MAPS, &[], "").await;
    let len = response.body().len().unwrap();
    let (_, text) = text(response).await;
    assert_eq!(text.len() as u64, len);
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(
        list["items"][0].get("kind").is_none(),
        "items of a typed list have no type of their own"
    );
}

#[tokio::test]
async fn kube_discovers_what_is_served() {
    let server = server().await;
    let legacy = Discovery::new(client(&server)).run().await.unwrap();
    let aggregated = Discovery::new(client(&server))
        .run_aggregated()
        .await
        .unwrap();
    for discovery in [legacy, aggregated] {
        let (_, capabilities) = discovery
            .resolve_gvk(&kube::api::GroupVersionKind::gvk(
                "apps",
                "v1",
                "Deployment",
            ))
            .unwrap();
        assert!(capabilities.supports_operation("patch"));
        assert!(
            capabilities
                .subresources
                .iter()
                .any(|(r, _)| r.plural == "deployments/scale" || r.plural == "scale")
        );
    }
}

#[tokio::test]
async fn the_paths_beside_the_resources_answer() {
    let server = server().await;
    let version = client(&server).apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "37")
    );
    for path in ["/healthz", "/livez", "/readyz", "/readyz/etcd"] {
        let (status, body) = get(&server, path).await;
        assert_eq!((status, body), (StatusCode::OK, json!("ok")), "{path}");
    }
    let (_, verbose) = get(&server, "/readyz?verbose").await;
    assert!(verbose.as_str().unwrap().ends_with("readyz check passed\n"));
    let (_, metrics) = get(&server, "/metrics").await;
    assert!(
        metrics
            .as_str()
            .unwrap()
            .contains("apiserver_request_total{")
    );
    let (status, groups) = get(&server, "/apis").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(groups["kind"], "APIGroupList");
    for path in [
        "/apis/nothing.example.com/v1/things",
        "/api/v1/nothings",
        "/nothing",
        "/api/v1/pods/x",
        "/api/v1/namespaces/default/nodes",
    ] {
        assert_eq!(get(&server, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, error) = call(&server, "PUT", MAPS, json!({})).await;
    assert_eq!(
        (status, error["reason"].as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, Some("MethodNotAllowed"))
    );
}

#[tokio::test]
async fn openapi_v2_comes_in_both_forms_and_is_kept_by_its_tag() {
    let server = server().await;
    let (status, document) = get(&server, "/openapi/v2").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(document["swagger"], "2.0");
    assert!(document["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let response = send(&server, "GET", "/openapi/v2", &[("accept", asked)], "").await;
    assert_eq!(
        response.headers()["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    let tag = response.headers()["etag"].to_str().unwrap().to_owned();
    let headers = [("accept", asked), ("if-none-match", tag.as_str())];
    let again = send(&server, "GET", "/openapi/v2", &headers, "").await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    // The other form has another tag.
    let headers = [("if-none-match", tag.as_str())];
    let other = send(&server, "GET", "/openapi/v2", &headers, "").await;
    assert_eq!(other.status(), StatusCode::OK);
}

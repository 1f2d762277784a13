//! What methods paths take, and what a wrong one is told.

use http::StatusCode;
use k8s_apiserver::ApiServer;
use kube::{
    Api,
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};

use crate::common::{MAPS, call, client, config_map, get, send, server, text};

/// With what status a request is answered, and what it says.
async fn told(server: &ApiServer, method: &str, path: &str) -> (u16, String) {
    let headers = [("content-type", "application/json")];
    let (status, text) = text(send(server, method, path, &headers, "{}").await).await;
    let message = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|value| Some(value["message"].as_str()?.to_owned()));
    (status.as_u16(), message.unwrap_or(text))
}

const NOT_ALLOWED: &str = "the server does not allow this method on the requested resource";
const NOT_FOUND: &str = "the server could not find the requested resource";
const NO_PAGE: &str = "404 page not found\n";

#[tokio::test]
async fn all_namespaces_are_read_at_once_and_not_emptied() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("kept")).await;
    assert_eq!(
        told(&server, "DELETE", "/api/v1/configmaps").await,
        (405, NOT_ALLOWED.to_owned())
    );
    let (status, _) = get(&server, &format!("{MAPS}/kept")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(told(&server, "DELETE", MAPS).await.0, 200);
}

#[tokio::test]
async fn objects_are_not_made_where_they_are() {
    let server = server().await;
    for (method, path) in [
        ("POST", format!("{MAPS}/x")),
        ("PUT", MAPS.to_owned()),
        ("HEAD", MAPS.to_owned()),
        ("OPTIONS", format!("{MAPS}/x")),
        ("POST", "/api/v1/nodes/x/status".to_owned()),
        ("POST", "/version".to_owned()),
        ("PUT", "/api/v1".to_owned()),
        ("POST", "/apis/apps/v1".to_owned()),
    ] {
        assert_eq!(told(&server, method, &path).await.0, 405, "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_there_for_any_method() {
    let server = server().await;
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        for (path, text) in [
            ("/api/v2", NOT_FOUND),
            ("/apis/apps/v9", NOT_FOUND),
            ("/version/x", NOT_FOUND),
            ("/apis/none.example.com", NO_PAGE),
            ("/apis/none.example.com/v1", NO_PAGE),
        ] {
            let expected = (404, text.to_owned());
            assert_eq!(
                told(&server, method, path).await,
                expected,
                "{method} {path}"
            );
        }
    }
    let (code, text) = told(&server, "GET", "/api/v1/watch?a=b").await;
    assert_eq!(code, 500);
    assert!(
        text.ends_with("unable to determine kind and namespace from url, /api/v1/watch?a=b\n"),
        "{text}"
    );
}

#[tokio::test]
async fn groups_and_documents_are_told_whatever_the_method() {
    let server = server().await;
    for path in ["/", "/apis", "/apis/apps", "/metrics", "/openapi/v3"] {
        assert_eq!(told(&server, "POST", path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn keys_come_in_the_media_type_that_they_have() {
    let server = server().await;
    let jwks = "/openid/v1/jwks";
    for (accept, code) in [
        ("application/json", 406),
        ("application/jwk-set+json", 200),
        ("application/json, */*", 200),
    ] {
        let answer = send(&server, "GET", jwks, &[("accept", accept)], "").await;
        assert_eq!(answer.status(), code, "{accept}");
    }
}

#[tokio::test]
async fn custom_resources_are_asked_for_by_verbs() {
    let server = server().await;
    let definition = |plural: &str, kind: &str, scope: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "scope": scope, "names": {"plural": plural, "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        })
    };
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for (plural, kind, scope) in [("lamps", "Lamp", "Namespaced"), ("suns", "Sun", "Cluster")] {
        let (status, answer) = call(
            &server,
            "POST",
            definitions,
            definition(plural, kind, scope),
        )
        .await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let name = format!("{plural}.example.com");
        let api = Api::all(client(&server));
        await_condition(api, &name, conditions::is_crd_established())
            .await
            .unwrap();
    }
    let group = "/apis/example.com/v1";
    let lamps = format!("{group}/namespaces/default/lamps");
    let unsupported =
        |verb: &str| format!("{verb} is not supported on resources of kind \"lamps.example.com\"");
    for (method, path, code, text) in [
        (
            "PUT",
            lamps.clone(),
            400,
            "name must be provided".to_owned(),
        ),
        ("OPTIONS", lamps.clone(), 405, unsupported("")),
        (
            "DELETE",
            format!("{lamps}/x/status"),
            405,
            unsupported("delete"),
        ),
        ("DELETE", format!("{group}/lamps"), 404, NO_PAGE.to_owned()),
        ("GET", format!("{group}/lamps/x"), 404, NO_PAGE.to_owned()),
        (
            "GET",
            format!("{group}/namespaces/default/suns"),
            404,
            NO_PAGE.to_owned(),
        ),
        ("HEAD", format!("{group}/lamps"), 200, String::new()),
    ] {
        let (status, message) = told(&server, method, &path).await;
        assert_eq!(status, code, "{method} {path}: {message}");
        if method != "HEAD" {
            assert_eq!(message, text, "{method} {path}");
        }
    }
    // The object tells its name, and not the path.
    let lamp = json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}});
    let (status, made) = call(&server, "POST", &format!("{lamps}/b"), lamp).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["metadata"]["name"], "a");
}

#[tokio::test]
async fn parameters_say_what_must_be_there_and_what_is_no_longer() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("kept")).await;
    let path = format!("{MAPS}/kept");
    let (code, text) = told(&server, "GET", &format!("{path}?export=1")).await;
    assert_eq!(
        (code, text.as_str()),
        (
            400,
            "the export parameter, deprecated since v1.14, is no longer supported"
        )
    );
    assert_eq!(
        told(&server, "GET", &format!("{path}?export=false"))
            .await
            .0,
        200
    );
    for query in ["resourceVersion=1", "uid=other"] {
        let answer = send(&server, "DELETE", &format!("{path}?{query}"), &[], "").await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{query}");
    }
    let bindings = "/api/v1/namespaces/default/bindings";
    let unnamed = json!({"target": {"name": "n"}});
    let (status, refusal) = call(&server, "POST", bindings, unnamed).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refusal["message"], "Name parameter required.");
    let answer = send(&server, "DELETE", &format!("{path}?uid="), &[], "").await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn media_types_of_bodies_are_those_that_there_are_however_spelled() {
    let server = server().await;
    for (media_type, code) in [
        ("APPLICATION/JSON", 201),
        ("Application/YAML; a=b", 201),
        ("text/yaml", 415),
        ("application/x-yaml", 415),
    ] {
        let headers = [("content-type", media_type)];
        let map = format!("{{\"metadata\": {{\"name\": \"m{}\"}}}}", media_type.len());
        let answer = send(&server, "POST", MAPS, &headers, map).await;
        assert_eq!(answer.status(), code, "{media_type}");
    }
    let path = format!("{MAPS}/none");
    let headers = [("content-type", "text/plain")];
    for (body, code) in [("{}", 415), ("", 406)] {
        let answer = send(&server, "PATCH", &path, &headers, body).await;
        assert_eq!(answer.status(), code, "{body:?}");
    }
    let headers = [("content-type", "application/json")];
    let (_, text) = text(send(&server, "DELETE", &path, &headers, "x").await).await;
    assert!(
        text.contains("invalid character 'x' looking for beginning of value"),
        "{text}"
    );
}

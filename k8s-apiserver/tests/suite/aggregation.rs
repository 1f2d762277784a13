//! API servers behind this one: what `[sig-api-machinery] Aggregator` asks for, with a small server in place of the
//! sample one.

use std::{convert::Infallible, net::Ipv4Addr};

use crate::common::{call, get, server};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use k8s_apiserver::{
    ApiServer,
    auth::{Identity, PeerCertificates},
    http::Body,
    pki::{FrontProxy, Pki, ServerNames},
    serve::{self, Limits, Server},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

const GROUP: &str = "wardle.example.com";
const NAME: &str = "v1alpha1.wardle.example.com";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Says what it was asked, and by whom.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| -> Vec<String> {
        let all = parts.headers.get_all(name).iter();
        all.map(|v| v.to_str().unwrap().to_owned()).collect()
    };
    let certificate = parts.extensions.get::<PeerCertificates>();
    let proxy =
        certificate.is_some_and(|c| c.chain()[0].windows(18).any(|w| w == b"front-proxy-client"));
    let path = parts.uri.path();
    let value = if path == format!("/apis/{GROUP}/v1alpha1") {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1alpha1"), "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"],
             "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
        ]})
    } else if path == "/openapi/v3" {
        let url = format!("/openapi/v3/apis/{GROUP}/v1alpha1?hash=1");
        json!({"paths": {format!("apis/{GROUP}/v1alpha1"): {"serverRelativeURL": url}}})
    } else if path == "/openapi/v2" {
        let list = json!({"schema": {"$ref": "#/definitions/com.example.FlunderList"}});
        json!({"swagger": "2.0", "paths": {
            "/healthz/": {"get": {}},
            format!("/apis/{GROUP}/v1alpha1/flunders"): {"get": {"responses": {"200": list}}},
        }, "definitions": {"com.example.FlunderList": {"type": "object"}}})
    } else if path.ends_with("/elsewhere") {
        let answer = Response::builder().status(StatusCode::TEMPORARY_REDIRECT);
        let answer = answer.header("location", "https://elsewhere.example/");
        return Ok(answer.body(Body::from("secret")).unwrap());
    } else {
        json!({
            "path": parts.uri.to_string(), "method": parts.method.as_str(), "proxy": proxy,
            "user": header("x-remote-user"), "groups": header("x-remote-group"),
            "authorization": header("authorization"),
            "body": String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()),
        })
    };
    Ok(Response::new(Body::from(value.to_string())))
}

struct Fixture {
    pki: Pki,
    server: ApiServer,
    behind: Server,
}

async fn fixture() -> Fixture {
    let pki = Pki::in_memory().unwrap();
    let FrontProxy { ca, .. } = pki.front_proxy().unwrap();
    let server = ApiServer::builder()
        .front_proxy(pki.front_proxy().unwrap())
        .build()
        .await
        .unwrap();
    let names = ServerNames {
        dns: vec!["api.default.svc".to_owned()],
        ips: Vec::new(),
    };
    let proxy_ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    let tls = serve::server_config(&pki.apiserver(&names).unwrap(), &proxy_ca).unwrap();
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let service = tower::service_fn(answer);
    let behind = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
    let port = behind.addresses()[0].port();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    let (status, body) = call(
        &server,
        "POST",
        "/api/v1/namespaces/default/services",
        service,
    )
    .await;
    assert_eq!(status, 201, "{body}");
    let api_service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME},
        "spec": {
            "group": GROUP, "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": "default", "name": "api", "port": port},
            "caBundle": STANDARD.encode(pki.ca_pem()),
        },
    });
    let (status, body) = call(&server, "POST", SERVICES, api_service).await;
    assert_eq!(status, 201, "{body}");
    Fixture {
        pki,
        server,
        behind,
    }
}

/// Waits for the condition `Available` to have that status; gives its reason and message.
async fn until(server: &ApiServer, status: &str) -> (String, String) {
    loop {
        let (_, service) = get(server, &format!("{SERVICES}/{NAME}")).await;
        let condition = &service["status"]["conditions"][0];
        if condition["status"] == status {
            let text = |key: &str| condition[key].as_str().unwrap().to_owned();
            return (text("reason"), text("message"));
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_are_passed_on_with_the_user_and_without_its_credentials() {
    let fixture = fixture().await;
    let passed = ("Passed".to_owned(), "all checks passed".to_owned());
    assert_eq!(until(&fixture.server, "True").await, passed);
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/default/flunders?limit=1");
    let headers = [
        ("authorization", "Bearer x"),
        ("x-remote-user", "forged"),
        // What the client says of its connection takes nothing away from what is said of the client.
        ("connection", "x-remote-user, x-remote-group"),
    ];
    let response = crate::common::send(&fixture.server, "POST", &path, &headers, "{\"a\":1}").await;
    let (status, text) = crate::common::text(response).await;
    assert_eq!(status, 200, "{text}");
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&seen["path"], &seen["method"]),
        (&json!(path), &json!("POST"))
    );
    assert_eq!(seen["user"], json!(["system:apiserver"]));
    assert_eq!(
        seen["groups"],
        json!(["system:masters", "system:authenticated"])
    );
    assert_eq!(seen["authorization"], json!([]));
    assert_eq!(seen["body"], "{\"a\":1}");
    assert_eq!(seen["proxy"], true);
    // Who may not is stopped here.
    let request = Request::get(&path).extension(Identity::user("bob"));
    let response = fixture
        .server
        .handle(request.body(Body::empty()).unwrap())
        .await;
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn a_server_behind_is_shown_the_identity_that_was_set_last() {
    let fixture = fixture().await;
    until(&fixture.server, "True").await;
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/default/flunders");
    let ask = async || get(&fixture.server, &path).await;
    assert_eq!(ask().await.0, StatusCode::OK);
    // It wants a certificate of the authority that it knows.
    let stranger = Pki::in_memory().unwrap().front_proxy().unwrap();
    fixture.server.set_front_proxy(stranger);
    assert_eq!(ask().await.0, StatusCode::SERVICE_UNAVAILABLE);
    let renewed = fixture.pki.front_proxy().unwrap();
    fixture.server.set_front_proxy(renewed);
    // Meanwhile it may have been found to be unavailable.
    until(&fixture.server, "True").await;
    let (status, seen) = ask().await;
    assert_eq!(status, StatusCode::OK, "{seen}");
    assert_eq!(seen["proxy"], true);
}

#[tokio::test]
async fn a_server_behind_sends_nobody_elsewhere() {
    let fixture = fixture().await;
    until(&fixture.server, "True").await;
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/default/flunders/elsewhere");
    for method in ["GET", "POST"] {
        let response = crate::common::send(&fixture.server, method, &path, &[], "").await;
        assert!(!response.headers().contains_key("location"));
        let (status, text) = crate::common::text(response).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert_eq!(
            text,
            "the backend attempted to redirect this request, which is not permitted"
        );
    }
}

#[tokio::test]
async fn discovery_and_openapi_have_what_is_behind() {
    let fixture = fixture().await;
    until(&fixture.server, "True").await;
    let server = &fixture.server;
    let (_, groups) = get(server, "/apis").await;
    let group = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["name"] == GROUP);
    let version = json!({"groupVersion": format!("{GROUP}/v1alpha1"), "version": "v1alpha1"});
    assert_eq!(group.unwrap()["preferredVersion"], version);
    let (_, group) = get(server, &format!("/apis/{GROUP}")).await;
    assert_eq!(
        (&group["kind"], &group["versions"][0]),
        (&json!("APIGroup"), &version)
    );
    let (_, list) = get(server, &format!("/apis/{GROUP}/v1alpha1")).await;
    assert_eq!(list["resources"][0]["name"], "flunders");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let response = crate::common::send(server, "GET", "/apis", &[("accept", accept)], "").await;
    let (_, text) = crate::common::text(response).await;
    let all: Value = serde_json::from_str(&text).unwrap();
    let items = all["items"].as_array().unwrap();
    let item = items
        .iter()
        .find(|i| i["metadata"]["name"] == GROUP)
        .unwrap();
    let resource = &item["versions"][0]["resources"][0];
    assert_eq!(resource["resource"], "flunders");
    assert_eq!(resource["responseKind"]["kind"], "Flunder");
    assert_eq!(resource["subresources"][0]["subresource"], "status");
    assert_eq!(item["versions"][0]["freshness"], "Current");
    // Who takes neither JSON nor what else there is gets none of the legacy documents.
    for path in ["/apis", &format!("/apis/{GROUP}")] {
        let response =
            crate::common::send(server, "GET", path, &[("accept", "text/plain")], "").await;
        assert_eq!(response.status(), 406, "{path}");
    }
    let (_, index) = get(server, "/openapi/v3").await;
    let entry = &index["paths"][format!("apis/{GROUP}/v1alpha1")];
    let url = entry["serverRelativeURL"].as_str().unwrap();
    let (_, document) = get(server, url).await;
    assert_eq!(document["path"], url);
    assert!(index["paths"]["api/v1"].is_object());
    let (_, whole) = get(server, "/openapi/v2").await;
    let list = &whole["paths"][format!("/apis/{GROUP}/v1alpha1/flunders")];
    assert_eq!(
        list["get"]["responses"]["200"]["schema"]["$ref"],
        "#/definitions/com.example.FlunderList"
    );
    assert!(whole["definitions"]["com.example.FlunderList"].is_object());
    assert!(whole["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    assert!(whole["paths"]["/healthz/"].is_null());
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_to_be_and_its_group_goes_with_the_object() {
    let fixture = fixture().await;
    until(&fixture.server, "True").await;
    fixture.behind.shutdown(std::time::Duration::ZERO).await;
    let server = &fixture.server;
    let touch = json!({"metadata": {"labels": {"touched": "yes"}}});
    let path = format!("{SERVICES}/{NAME}");
    let (status, body) = call(server, "PATCH", &path, touch).await;
    assert_eq!(status, 200, "{body}");
    let (reason, message) = until(server, "False").await;
    assert_eq!(reason, "FailedDiscoveryCheck");
    assert!(
        message.starts_with("failing or missing response from https://api.default.svc:"),
        "{message}"
    );
    let flunders = format!("/apis/{GROUP}/v1alpha1/namespaces/default/flunders");
    let (status, body) = get(server, &flunders).await;
    assert_eq!(
        (status.as_u16(), body),
        (503, json!("service unavailable\n"))
    );
    let (status, _) = call(server, "DELETE", &path, Value::Null).await;
    assert_eq!(status, 200);
    while get(server, &flunders).await.0 != 404 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(server, &format!("/apis/{GROUP}")).await.0, 404);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_said_to_be_missing() {
    let server = crate::common::server().await;
    let api_service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME},
        "spec": {"group": GROUP, "version": "v1alpha1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "nothing"}},
    });
    let (status, body) = call(&server, "POST", SERVICES, api_service).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(body["spec"]["service"]["port"], 443);
    let wanted = (
        "ServiceNotFound".to_owned(),
        "service/nothing in \"default\" is not present".to_owned(),
    );
    assert_eq!(until(&server, "False").await, wanted);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nothing"},
        "spec": {"ports": [{"port": 443}]}});
    let (status, body) = call(
        &server,
        "POST",
        "/api/v1/namespaces/default/services",
        service,
    )
    .await;
    assert_eq!(status, 201, "{body}");
    let message = loop {
        let (reason, message) = until(&server, "False").await;
        if reason == "EndpointsNotFound" {
            break message;
        }
        tokio::task::yield_now().await;
    };
    let wanted = "cannot find endpointslices for service/nothing in \"default\"";
    assert_eq!(message, wanted);
    let (_, page) = get(&server, "/metrics").await;
    let page = page.as_str().unwrap();
    let is = format!("aggregator_unavailable_apiservice{{name=\"{NAME}\"}} 1\n");
    assert!(page.contains(&is), "{page}");
    let lost = format!(
        "aggregator_unavailable_apiservice_total{{name=\"{NAME}\",reason=\"ServiceNotFound\"}} 1\n"
    );
    assert!(page.contains(&lost), "{page}");
    assert!(page.contains("aggregator_unavailable_apiservice{name=\"v1.apps\"} 0\n"));
}

#[tokio::test]
async fn servers_behind_are_told_whom_to_believe() {
    let fixture = fixture().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let (_, map) = get(&fixture.server, path).await;
    assert_eq!(
        map["data"]["requestheader-allowed-names"],
        "[\"front-proxy-client\"]"
    );
    for (key, headers) in [
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-uid-headers", "[\"X-Remote-Uid\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        (
            "requestheader-extra-headers-prefix",
            "[\"X-Remote-Extra-\"]",
        ),
    ] {
        assert_eq!(map["data"][key], headers);
    }
    let ca = map["data"]["requestheader-client-ca-file"]
        .as_str()
        .unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"));
}

/// Waits until an APIService is there, or is not.
async fn settled(server: &ApiServer, name: &str, there: bool) -> Value {
    let wait = async {
        loop {
            let (code, found) = get(server, &format!("{SERVICES}/{name}")).await;
            if (code == StatusCode::OK) == there {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), wait)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_servers_own_groups_are_local_and_available() {
    let server = server().await;
    let (_, list) = get(&server, SERVICES).await;
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"v1.") && names.contains(&"v2.autoscaling"),
        "{names:?}"
    );
    assert!(
        !names
            .iter()
            .any(|name| name.ends_with("apiregistration.k8s.io")),
        "{names:?}"
    );
    let (_, apps) = get(&server, &format!("{SERVICES}/v1.apps")).await;
    assert_eq!(
        apps["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    assert_eq!(
        apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
    let condition = &apps["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("True"), &json!("Local"))
    );
}

#[tokio::test]
async fn apiservices_of_custom_resources_come_and_go_with_them() {
    let server = server().await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pots.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "pots", "singular": "pot", "kind": "Pot"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, _) = call(&server, "POST", DEFINITIONS, definition).await;
    assert_eq!(code, StatusCode::CREATED);
    let found = settled(&server, "v1.example.com", true).await;
    assert_eq!(found["spec"]["groupPriorityMinimum"], 1000);
    assert_eq!(
        found["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "true"
    );
    // It is kept as long as they are served.
    let uri = format!("{SERVICES}/v1.example.com");
    let (code, _) = call(&server, "DELETE", &uri, Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let again = settled(&server, "v1.example.com", true).await;
    assert_ne!(again["metadata"]["uid"], found["metadata"]["uid"]);
    call(
        &server,
        "DELETE",
        &format!("{DEFINITIONS}/pots.example.com"),
        Value::Null,
    )
    .await;
    settled(&server, "v1.example.com", false).await;
}

//! `componentstatuses`, as v1.26 tells them.

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use http::{Request, StatusCode};
use k8s_apiserver::{
    ApiServer,
    components::{Endpoint, Task},
    http::Body,
    pki::{Pki, ServerNames},
    serve::{self, Limits},
};
use serde_json::{Value, json};

use crate::common::hooks::Cluster;

const PATH: &str = "/api/v1/componentstatuses";
const WARNING: &str = "299 - \"v1 ComponentStatus is deprecated in v1.19+\"";

/// Somebody who tells their health over HTTPS.
async fn part(code: u16) -> (Endpoint, serve::Server) {
    let pki = Pki::in_memory().unwrap();
    let names = ServerNames {
        dns: vec!["elsewhere".to_owned()],
        ips: Vec::new(),
    };
    let tls = serve::server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
    let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| async move {
        assert_eq!(request.uri().path(), "/healthz");
        let answer = http::Response::builder().status(code);
        Ok::<_, Infallible>(answer.body(Body::from("ok".to_owned())).unwrap())
    });
    let server = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
    (Endpoint::new(address), server)
}

/// Names, states and messages.
fn told(list: &Value) -> Vec<(&str, &str, &str)> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let condition = &item["conditions"][0];
            assert_eq!(condition["type"], "Healthy");
            (
                item["metadata"]["name"].as_str().unwrap(),
                condition["status"].as_str().unwrap(),
                condition["message"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn parts_are_asked_how_they_do() {
    let ((healthy, _a), (failing, _b)) = (part(200).await, part(500).await);
    // Nobody listens where somebody did.
    let closed = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let (running, idle) = (Task::default(), Task::default());
    let task = tokio::spawn(std::future::pending::<()>());
    running.set(task.abort_handle());
    let builder = ApiServer::builder()
        .component("scheduler", Arc::new(healthy))
        .component("controller-manager", Arc::new(failing))
        .component("away", Arc::new(Endpoint::new(address)))
        .component("running", Arc::new(running))
        .component("idle", Arc::new(idle));
    let cluster = Cluster::start_with(builder).await;
    let answer = cluster.get(PATH).await;
    assert_eq!(answer.warnings, [WARNING]);
    let list = answer.expect(200);
    assert_eq!(
        (&list["kind"], &list["apiVersion"], &list["metadata"]),
        (&json!("ComponentStatusList"), &json!("v1"), &json!({}))
    );
    let away = format!(
        "Get \"https://{address}/healthz\": dial tcp {address}: connect: connection refused"
    );
    assert_eq!(
        told(&list),
        [
            ("scheduler", "True", "ok"),
            (
                "controller-manager",
                "False",
                "HTTP probe failed with statuscode: 500"
            ),
            ("away", "False", away.as_str()),
            ("running", "True", "ok"),
            ("idle", "False", "it has not begun"),
            ("etcd-0", "True", r#"{"health":"true"}"#),
        ]
    );
    task.abort();
    let ended = cluster
        .until("GET", &format!("{PATH}/running"), Value::Null, |answer| {
            answer.body["conditions"][0]["status"] == "False"
        })
        .await;
    assert_eq!(ended.body["conditions"][0]["message"], "it has ended");
}

#[tokio::test]
async fn a_server_by_itself_tells_of_its_store() {
    let cluster = Cluster::start().await;
    let list = cluster.get(PATH).await.expect(200);
    assert_eq!(told(&list), [("etcd-0", "True", r#"{"health":"true"}"#)]);
    let one = cluster.get(&format!("{PATH}/etcd-0")).await.expect(200);
    assert_eq!(
        (&one["kind"], &one["metadata"]["name"]),
        (&json!("ComponentStatus"), &json!("etcd-0"))
    );

    let missing = cluster.get(&format!("{PATH}/nope")).await;
    assert_eq!(missing.code, StatusCode::NOT_FOUND);
    assert_eq!(missing.message(), r#"componentstatus "nope" not found"#);
    let names = |list: &Value| told(list).len();
    for (query, count) in [
        ("labelSelector=a%3Db", 0),
        ("labelSelector=%21a", 1),
        ("fieldSelector=metadata.name%3Detcd-0", 1),
        ("fieldSelector=metadata.name%3Dother", 0),
        ("fieldSelector=metadata.namespace%3Dx", 0),
        ("limit=1", 1),
    ] {
        let list = cluster.get(&format!("{PATH}?{query}")).await.expect(200);
        assert_eq!(names(&list), count, "{query}");
    }
    let refused = cluster.get(&format!("{PATH}?fieldSelector=x%3Dy")).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message()),
        (
            400,
            "\"x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    );
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = cluster
            .ask(method, &format!("{PATH}/etcd-0"), json!({}))
            .await;
        assert_eq!(refused.code, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}

#[tokio::test]
async fn what_is_deprecated_says_so() {
    let cluster = Cluster::start().await;
    let answer = cluster.get("/api/v1/namespaces/default/endpoints").await;
    let text = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert_eq!(answer.warnings, [format!("299 - \"{text}\"")]);
    let answer = cluster.get("/api/v1/namespaces/default/services").await;
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
}

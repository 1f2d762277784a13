//! Requests to an API server in the same process, on the memory store.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::{BodyExt, Full};
use k8s_apiserver::{ApiServer, auth::Identity};
use serde_json::json;
use tower::ServiceExt;

fn request(
    method: &str,
    path: &str,
    body: &serde_json::Value,
) -> http::Request<Full<bytes::Bytes>> {
    let body = if body.is_null() {
        bytes::Bytes::new()
    } else {
        body.to_string().into()
    };
    http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .extension(Identity::system_masters())
        .body(Full::new(body))
        .expect("a request")
}

async fn call(
    server: &ApiServer,
    request: http::Request<Full<bytes::Bytes>>,
) -> (u16, bytes::Bytes) {
    let response = server
        .clone()
        .oneshot(request)
        .await
        .expect("the service answers");
    let code = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, body)
}

fn pod(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "example.com/web:1",
                            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}],
        },
    })
}

fn requests(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let server = runtime.block_on(async {
        let server = ApiServer::builder()
            .build()
            .await
            .expect("a server in memory needs nothing");
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = "/api/v1/namespaces/default/serviceaccounts";
        assert_eq!(call(&server, request("POST", path, &account)).await.0, 201);
        for n in 0..1_000 {
            let (code, body) = call(
                &server,
                request(
                    "POST",
                    "/api/v1/namespaces/default/pods",
                    &pod(&format!("pod-{n}")),
                ),
            )
            .await;
            assert_eq!(code, 201, "{}", String::from_utf8_lossy(&body));
        }
        server
    });
    let nothing = serde_json::Value::Null;
    let mut group = c.benchmark_group("in-process");
    group.bench_function("get a Pod", |b| {
        b.to_async(&runtime).iter(|| async {
            black_box(
                call(
                    &server,
                    request("GET", "/api/v1/namespaces/default/pods/pod-7", &nothing),
                )
                .await,
            )
        });
    });
    group.bench_function("list 1,000 Pods", |b| {
        b.to_async(&runtime).iter(|| async {
            black_box(
                call(
                    &server,
                    request("GET", "/api/v1/namespaces/default/pods", &nothing),
                )
                .await,
            )
        });
    });
    let mut n = 0;
    group.bench_function("create a Pod", |b| {
        b.iter(|| {
            n += 1;
            let request = request(
                "POST",
                "/api/v1/namespaces/default/pods",
                &pod(&format!("new-{n}")),
            );
            let (code, _) = runtime.block_on(call(&server, request));
            assert_eq!(code, 201);
        });
    });
    group.finish();
}

fn boot(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    c.bench_function("boot to first answered request", |b| {
        b.to_async(&runtime).iter(|| async {
            let server = ApiServer::builder()
                .build()
                .await
                .expect("a server in memory needs nothing");
            let (code, _) = call(
                &server,
                request(
                    "GET",
                    "/api/v1/namespaces/default",
                    &serde_json::Value::Null,
                ),
            )
            .await;
            assert_eq!(code, 200);
        });
    });
}

criterion_group!(benches, requests, boot);
criterion_main!(benches);

//! Limit ranges: what containers get, and within which bounds.

use super::*;

const RANGES: &str = "/api/v1/namespaces/default/limitranges";

fn list(cpu: &str, memory: &str) -> Value {
    json!({"cpu": cpu, "memory": memory})
}

fn range(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"e2e": "yes"}}, "spec": {"limits": [{
        "type": "Container",
        "min": list("50m", "100Mi"),
        "max": list("500m", "500Mi"),
        "default": list("500m", "500Mi"),
        "defaultRequest": list("100m", "200Mi"),
    }]}})
}

async fn resources(server: &ApiServer, name: &str, given: Value) -> Value {
    let made = make(server, PODS, pod(name, json!({"resources": given}))).await;
    made["spec"]["containers"][0]["resources"].clone()
}

/// `[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those
/// defaults applied`.
#[tokio::test]
async fn pods_get_the_defaults_of_the_range_and_stay_in_it() {
    let server = ready().await;
    make(&server, RANGES, range("r")).await;
    assert_eq!(
        resources(&server, "none", json!({})).await,
        json!({"requests": list("100m", "200Mi"), "limits": list("500m", "500Mi")})
    );
    // A limit is the request too, where none is given.
    assert_eq!(
        resources(
            &server,
            "some",
            json!({"requests": {"memory": "150Mi"}, "limits": {"cpu": "300m"}})
        )
        .await,
        json!({"requests": list("300m", "150Mi"), "limits": list("300m", "500Mi")})
    );
    let low = json!({"resources": {"requests": list("10m", "50Mi")}});
    assert_eq!(
        refused(&server, PODS, pod("low", low.clone())).await,
        "pods \"low\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, minimum memory usage per Container is 100Mi, but request is 50Mi]"
    );
    let high = json!({"resources": {"requests": {"cpu": "600m"}, "limits": {"cpu": "600m"}}});
    assert_eq!(
        refused(&server, PODS, pod("high", high.clone())).await,
        "pods \"high\" is forbidden: maximum cpu usage per Container is 500m, but limit is 600m"
    );
    // With a lower minimum the small pod is let in, the large one still not.
    let mut changed = get(&server, &format!("{RANGES}/r")).await.1;
    changed["spec"]["limits"][0]["min"] = list("9m", "49Mi");
    let (status, _) = call(&server, "PUT", &format!("{RANGES}/r"), changed).await;
    assert_eq!(status, StatusCode::OK);
    make(&server, PODS, pod("low", low)).await;
    refused(&server, PODS, pod("high", high.clone())).await;
    let (status, _) = call(&server, "DELETE", &format!("{RANGES}/r"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    make(&server, PODS, pod("high", high)).await;
}

#[tokio::test]
async fn what_is_wrong_with_several_containers_is_told_once() {
    let server = ready().await;
    make(&server, RANGES, range("r")).await;
    let mut low = pod(
        "low",
        json!({"resources": {"requests": list("10m", "50Mi")}}),
    );
    let containers = low["spec"]["containers"].as_array_mut().unwrap();
    let mut second = containers[0].clone();
    second["name"] = "second".into();
    containers.push(second);
    assert_eq!(
        refused(&server, PODS, low).await,
        "pods \"low\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, minimum memory usage per Container is 100Mi, but request is 50Mi]"
    );
}

/// `[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection`.
#[tokio::test]
async fn ranges_are_listed_patched_and_deleted_by_collection() {
    let server = ready().await;
    make(&server, NAMESPACES, labelled("other", json!({}))).await;
    make(&server, RANGES, range("a")).await;
    let other = "/api/v1/namespaces/other/limitranges";
    make(&server, other, range("b")).await;
    let all = "/api/v1/limitranges?labelSelector=e2e%3Dyes";
    let found = get(&server, all).await.1;
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
    let patch = json!({"metadata": {"labels": {"patched": "yes"}},
        "spec": {"limits": [{"type": "Container", "min": {"cpu": "40m"}}]}});
    let (status, patched) = call(&server, "PATCH", &format!("{RANGES}/a"), patch).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(patched["spec"]["limits"][0]["min"]["cpu"], "40m");
    let gone = format!("{RANGES}?labelSelector=patched%3Dyes");
    let (status, _) = call(&server, "DELETE", &gone, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let left = get(&server, all).await.1;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["namespace"], "other");
}

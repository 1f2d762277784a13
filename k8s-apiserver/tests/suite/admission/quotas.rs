//! Quotas: what is charged, and what they refuse.

use super::*;

#[tokio::test]
async fn a_quota_is_charged_with_what_is_made_and_refuses_the_rest() {
    let server = ready().await;
    quota(
        &server,
        "q",
        json!({"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "1"}}),
    )
    .await;
    make(&server, PODS, pod("a", asks("600m"))).await;
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "0"})
    );
    assert_eq!(
        refused(&server, PODS, pod("b", asks("500m"))).await,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    assert_eq!(
        refused(&server, PODS, pod("b", json!({}))).await,
        "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    make(&server, crate::common::MAPS, crate::common::config_map("m")).await;
    assert_eq!(
        refused(&server, crate::common::MAPS, crate::common::config_map("n")).await,
        "configmaps \"n\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
    );
    let dry = format!("{PODS}?dryRun=All");
    make(&server, &dry, pod("b", asks("400m"))).await;
    // Neither what was refused nor what was only tried is charged.
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "1"})
    );
    // An object that is there already costs nothing.
    let (status, _) = call(&server, "POST", PODS, pod("a", asks("100m"))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(used(&server, "q").await["pods"], "1");
}

#[tokio::test]
async fn a_quota_without_a_status_yet_refuses_nothing_and_one_without_usage_everything() {
    let server = ready().await;
    let spec = json!({"hard": {"pods": "0"}});
    let new = json!({"metadata": {"name": "new"}, "spec": spec});
    let mut new = make(&server, QUOTAS, new).await;
    make(&server, PODS, pod("a", json!({}))).await;
    new["status"] = json!({"hard": spec["hard"]});
    let uri = format!("{QUOTAS}/new/status");
    let (status, _) = call(&server, "PUT", &uri, new).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        refused(&server, PODS, pod("b", json!({}))).await,
        "pods \"b\" is forbidden: status unknown for quota: new, resources: pods"
    );
}

#[tokio::test]
async fn services_and_claims_are_charged_for_their_changes_too() {
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let server = ready().await;
    quota(
        &server,
        "q",
        json!({"hard": {"services.nodeports": "2", "services.loadbalancers": "1"}}),
    )
    .await;
    let service = |name: &str, sort: &str| json!({"metadata": {"name": name}, "spec": {"type": sort, "ports": [{"port": 80}]}});
    make(&server, SERVICES, service("a", "NodePort")).await;
    make(&server, SERVICES, service("b", "ClusterIP")).await;
    assert_eq!(used(&server, "q").await["services.nodeports"], "1");
    let change = json!({"spec": {"type": "LoadBalancer"}});
    let uri = format!("{SERVICES}/b");
    let (status, _) = call(&server, "PATCH", &uri, change.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        used(&server, "q").await,
        json!({"services.nodeports": "2", "services.loadbalancers": "1"})
    );
    let uri = format!("{SERVICES}/a");
    let (status, answer) = call(&server, "PATCH", &uri, change).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "services \"a\" is forbidden: exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=1, limited: services.loadbalancers=1"
    );
}

#[tokio::test]
async fn claims_to_devices_are_charged_by_class() {
    const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    const GPUS: &str = "gpu.deviceclass.resource.k8s.io/devices";
    let server = ready().await;
    quota(&server, "q", json!({"hard": {GPUS: "4"}})).await;
    let claim = |name: &str, mut asks: Value| {
        asks["deviceClassName"] = json!("gpu");
        let requests = json!([{"name": "r", "exactly": asks}]);
        json!({"metadata": {"name": name}, "spec": {"devices": {"requests": requests}}})
    };
    make(&server, CLAIMS, claim("a", json!({"count": 3}))).await;
    assert_eq!(used(&server, "q").await, json!({GPUS: "3"}));
    assert_eq!(
        refused(&server, CLAIMS, claim("b", json!({"count": 2}))).await,
        "resourceclaims.resource.k8s.io \"b\" is forbidden: exceeded quota: q, requested: gpu.deviceclass.resource.k8s.io/devices=2, used: gpu.deviceclass.resource.k8s.io/devices=3, limited: gpu.deviceclass.resource.k8s.io/devices=4"
    );
    let all = claim("b", json!({"allocationMode": "All"}));
    assert!(refused(&server, CLAIMS, all).await.contains("devices=32"));
    make(&server, CLAIMS, claim("b", json!({}))).await;
    assert_eq!(used(&server, "q").await, json!({GPUS: "4"}));
}

#[tokio::test]
async fn scopes_say_which_pods_a_quota_is_about() {
    let server = ready().await;
    quota(
        &server,
        "best-effort",
        json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}),
    )
    .await;
    let selector = json!({"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]},
    ]});
    quota(
        &server,
        "high",
        json!({"hard": {"pods": "1"}, "scopeSelector": selector}),
    )
    .await;
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    make(&server, "/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
    make(&server, PODS, pod("a", asks("1"))).await;
    assert!(
        refused(&server, PODS, pod("b", json!({}))).await.contains(
            "exceeded quota: best-effort, requested: pods=1, used: pods=0, limited: pods=0"
        )
    );
    let mut high = pod("c", asks("1"));
    high["spec"]["priorityClassName"] = json!("high");
    make(&server, PODS, high.clone()).await;
    assert_eq!(used(&server, "high").await["pods"], "1");
    high["metadata"]["name"] = json!("d");
    refused(&server, PODS, high).await;
}

#[tokio::test]
async fn many_writers_never_exceed_a_quota_and_none_waits_in_vain() {
    let server = ready().await;
    quota(&server, "q", json!({"hard": {"count/configmaps": "20"}})).await;
    let writers = (0..60).map(|number| {
        let server = server.clone();
        async move {
            let map = crate::common::config_map(&format!("m{number}"));
            call(&server, "POST", crate::common::MAPS, map).await.0
        }
    });
    let answers = futures::future::join_all(writers.map(tokio::spawn)).await;
    let made = answers
        .into_iter()
        .filter(|answer| matches!(answer, Ok(StatusCode::CREATED)))
        .count();
    assert_eq!(made, 20);
    assert_eq!(used(&server, "q").await["count/configmaps"], "20");
    let (_, listed) = get(&server, crate::common::MAPS).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn a_quota_that_is_recounted_meanwhile_is_charged_all_the_same() {
    let server = ready().await;
    quota(&server, "q", json!({"hard": {"count/configmaps": "100"}})).await;
    let quotas = Api::<ResourceQuota>::namespaced(client(&server), "default");
    let recount = async {
        // What a controller does that is never right.
        for round in 0..20 {
            let mut quota = quotas.get("q").await.unwrap();
            let notes = quota.metadata.annotations.get_or_insert_default();
            notes.insert("round".to_owned(), round.to_string());
            let _ = quotas.replace("q", &PostParams::default(), &quota).await;
        }
    };
    let write = async {
        for number in 0..20 {
            make(
                &server,
                crate::common::MAPS,
                crate::common::config_map(&format!("m{number}")),
            )
            .await;
        }
    };
    futures::join!(recount, write);
    assert_eq!(used(&server, "q").await["count/configmaps"], "20");
}

#[tokio::test]
async fn what_moves_into_a_quotas_scope_is_charged_as_a_whole() {
    const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
    let server = ready().await;
    let gold = json!({"matchExpressions": [
        {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]},
    ]});
    let hard = json!({"persistentvolumeclaims": "1", "requests.storage": "5Gi"});
    quota(
        &server,
        "gold",
        json!({"hard": hard, "scopeSelector": gold}),
    )
    .await;
    let claim = |name: &str, size: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "s",
            "volumeAttributesClassName": "silver", "resources": {"requests": {"storage": size}},
        }})
    };
    let change = json!({"spec": {"volumeAttributesClassName": "gold"}});
    for (name, size) in [("a", "4Gi"), ("b", "1Gi")] {
        make(&server, CLAIMS, claim(name, size)).await;
    }
    for name in ["a", "b"] {
        let uri = format!("{CLAIMS}/{name}");
        let mut claim = get(&server, &uri).await.1;
        claim["status"] = json!({"phase": "Bound"});
        let (status, answer) = call(&server, "PUT", &format!("{uri}/status"), claim).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    let none = json!({"persistentvolumeclaims": "0", "requests.storage": "0"});
    assert_eq!(used(&server, "gold").await, none);
    let (status, answer) = call(&server, "PATCH", &format!("{CLAIMS}/a"), change.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let one = json!({"persistentvolumeclaims": "1", "requests.storage": "4Gi"});
    assert_eq!(used(&server, "gold").await, one);
    let (status, answer) = call(&server, "PATCH", &format!("{CLAIMS}/b"), change).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(
        answer["message"],
        "persistentvolumeclaims \"b\" is forbidden: exceeded quota: gold, requested: persistentvolumeclaims=1, used: persistentvolumeclaims=1, limited: persistentvolumeclaims=1"
    );
    // What is within already costs nothing anew.
    let noted = json!({"metadata": {"annotations": {"x": "y"}}});
    let (status, answer) = call(&server, "PATCH", &format!("{CLAIMS}/a"), noted).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(used(&server, "gold").await, one);
}

#[tokio::test]
async fn a_pod_that_is_to_end_moves_between_quotas() {
    let server = ready().await;
    let scoped = |pods: &str, scope: &str| json!({"hard": {"pods": pods}, "scopes": [scope]});
    quota(&server, "ends", scoped("1", "Terminating")).await;
    quota(&server, "stays", scoped("2", "NotTerminating")).await;
    make(&server, PODS, pod("a", json!({}))).await;
    make(&server, PODS, pod("b", json!({}))).await;
    assert_eq!(used(&server, "stays").await["pods"], "2");
    let noted = json!({"metadata": {"annotations": {"x": "y"}}});
    let uri = format!("{PODS}/a");
    assert_eq!(call(&server, "PATCH", &uri, noted).await.0, StatusCode::OK);
    let ends = json!({"spec": {"activeDeadlineSeconds": 60}});
    let (status, answer) = call(&server, "PATCH", &uri, ends.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(used(&server, "ends").await["pods"], "1");
    // The controller gives back what is no longer used.
    assert_eq!(used(&server, "stays").await["pods"], "2");
    let (status, answer) = call(&server, "PATCH", &format!("{PODS}/b"), ends).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "pods \"b\" is forbidden: exceeded quota: ends, requested: pods=1, used: pods=1, limited: pods=1"
    );
}

#[tokio::test]
async fn devices_of_a_class_are_limited_like_any_resource() {
    const GPUS: &str = "requests.deviceclass.resource.kubernetes.io/gpu";
    let server = ready().await;
    quota(&server, "q", json!({"hard": {GPUS: "2"}})).await;
    let asks = |count: &str| {
        let list = json!({"deviceclass.resource.kubernetes.io/gpu": count});
        json!({"resources": {"requests": list, "limits": list}})
    };
    make(&server, PODS, pod("a", asks("2"))).await;
    assert_eq!(used(&server, "q").await, json!({GPUS: "2"}));
    assert_eq!(
        refused(&server, PODS, pod("b", asks("1"))).await,
        format!(
            "pods \"b\" is forbidden: exceeded quota: q, requested: {GPUS}=1, used: {GPUS}=2, limited: {GPUS}=2"
        )
    );
}

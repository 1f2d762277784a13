//! Default classes, and what runtime classes add to pods.

use super::*;

#[tokio::test]
async fn claims_and_ingresses_get_the_newest_default_class() {
    let server = ready().await;
    let class = |name: &str, default: &str| {
        json!({"metadata": {"name": name, "annotations": {
            "storageclass.kubernetes.io/is-default-class": default,
            "ingressclass.kubernetes.io/is-default-class": default,
        }}})
    };
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    for (name, default) in [("slow", "false"), ("fast", "true")] {
        let mut class = class(name, default);
        class["provisioner"] = json!("example.com/p");
        make(&server, classes, class).await;
    }
    let claim = |name: &str, class: Value| {
        json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        }})
    };
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let made = make(&server, claims, claim("a", Value::Null)).await;
    assert_eq!(made["spec"]["storageClassName"], "fast");
    let made = make(&server, claims, claim("b", json!(""))).await;
    assert_eq!(made["spec"]["storageClassName"], "");
    // What is bound grows only if its class allows it.
    let uri = format!("{claims}/a");
    let bound = json!({"status": {"phase": "Bound"}});
    let (status, _) = call(&server, "PATCH", &format!("{uri}/status"), bound).await;
    assert_eq!(status, StatusCode::OK);
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let (status, answer) = call(&server, "PATCH", &uri, grow.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(
        answer["message"],
        "persistentvolumeclaims \"a\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
    let allow = json!({"allowVolumeExpansion": true});
    let (status, _) = call(&server, "PATCH", &format!("{classes}/fast"), allow).await;
    assert_eq!(status, StatusCode::OK);
    let (status, answer) = call(&server, "PATCH", &uri, grow).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    let mut ingress_class = class("nginx", "true");
    ingress_class["spec"] = json!({"controller": "example.com/c"});
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    make(&server, classes, ingress_class).await;
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}});
    let uri = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let made = make(&server, uri, ingress).await;
    assert_eq!(made["spec"]["ingressClassName"], "nginx");
}

#[tokio::test]
async fn a_pod_gets_what_its_runtime_class_says() {
    let server = ready().await;
    let class = json!({
        "metadata": {"name": "vm"}, "handler": "vm",
        "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
    });
    make(&server, "/apis/node.k8s.io/v1/runtimeclasses", class).await;
    let with = |name: &str, class: &str, more: Value| {
        let mut pod = pod(name, json!({}));
        pod["spec"]["runtimeClassName"] = json!(class);
        for (key, value) in more.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        pod
    };
    let made = make(&server, PODS, with("a", "vm", json!({}))).await;
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"vm": "yes"}));
    assert!(
        made["spec"]["tolerations"]
            .as_array()
            .unwrap()
            .contains(&json!({"key": "vm", "operator": "Exists"}))
    );
    for (class, more, text) in [
        (
            "none",
            json!({}),
            "pod rejected: RuntimeClass \"none\" not found",
        ),
        (
            "vm",
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            "vm",
            json!({"nodeSelector": {"vm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ] {
        assert_eq!(
            refused(&server, PODS, with("b", class, more)).await,
            format!("pods \"b\" is forbidden: {text}")
        );
    }
    let mut overhead = pod("c", json!({}));
    overhead["spec"]["overhead"] = json!({"cpu": "1"});
    assert_eq!(
        refused(&server, PODS, overhead).await,
        "pods \"c\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    );
}

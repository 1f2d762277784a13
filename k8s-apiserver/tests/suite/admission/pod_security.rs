//! Pod Security: what a namespace enforces, and what it is told of.

use super::*;

async fn secured(server: &ApiServer, name: &str, labels: Value) -> String {
    make(server, NAMESPACES, labelled(name, labels)).await;
    let accounts = format!("{NAMESPACES}/{name}/serviceaccounts");
    make(server, &accounts, json!({"metadata": {"name": "default"}})).await;
    format!("{NAMESPACES}/{name}/pods")
}

#[tokio::test]
async fn a_namespace_enforces_its_pod_security_standard() {
    let server = server().await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted"});
    let pods = secured(&server, "strict", labels).await;
    let privileged = pod("p", json!({"securityContext": {"privileged": true}}));
    assert_eq!(
        refused(&server, &pods, privileged.clone()).await,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)"
    );
    let (status, warnings) = warned(&server, "POST", &pods, pod("q", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED);
    assert!(
        warnings[0].starts_with("299 - \"would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set"),
        "{warnings:?}"
    );
    // A workload is let through, and its maker told.
    let mut template = privileged;
    template["metadata"] = json!({"labels": {"a": "b"}});
    let set = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": template,
    }});
    let uri = "/apis/apps/v1/namespaces/strict/deployments";
    let (status, warnings) = warned(&server, "POST", uri, set).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("privileged (container"));
    // Elsewhere nothing is enforced.
    let free = secured(&server, "free", json!({})).await;
    let privileged = pod("p", json!({"securityContext": {"privileged": true}}));
    let (status, warnings) = warned(&server, "POST", &free, privileged).await;
    assert_eq!((status, warnings), (StatusCode::CREATED, Vec::new()));
}

#[tokio::test]
async fn a_namespace_is_told_which_of_its_pods_would_violate_a_stricter_standard() {
    let server = server().await;
    let pods = secured(&server, "ns", json!({})).await;
    for name in ["b", "a", "c"] {
        let privileged = pod(name, json!({"securityContext": {"privileged": true}}));
        make(&server, &pods, privileged).await;
    }
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let uri = format!("{NAMESPACES}/ns?dryRun=All");
    let (status, warnings) = warned(&server, "PATCH", &uri, labels).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"\"",
            "299 - \"a (and 2 other pods): privileged\"",
        ]
    );
    let bad = labelled("x", json!({"pod-security.kubernetes.io/enforce": "strict"}));
    let (status, answer) = call(&server, "POST", NAMESPACES, bad).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer["message"],
        "Namespace \"x\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn exemptions_and_defaults_are_configuration() {
    let builder = ApiServer::builder();
    let reader = builder.reader();
    let mut defaults = Policy::default();
    defaults.enforce.level = Level::Baseline;
    let plugin = PodSecurity::new(reader)
        .with_defaults(defaults)
        .with_exemptions(Exemptions {
            namespaces: vec!["exempt".to_owned()],
            runtime_classes: vec!["vm".to_owned()],
            ..Exemptions::default()
        });
    let server = builder
        .admission(vec![std::sync::Arc::new(plugin)])
        .build()
        .await
        .unwrap();
    make(&server, NAMESPACES, labelled("plain", json!({}))).await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let (_, warnings) = warned(&server, "POST", NAMESPACES, labelled("exempt", labels)).await;
    assert_eq!(
        warnings,
        [
            "299 - \"namespace \"exempt\" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored\""
        ]
    );
    let mut privileged = pod("p", json!({"securityContext": {"privileged": true}}));
    refused(&server, "/api/v1/namespaces/plain/pods", privileged.clone()).await;
    make(
        &server,
        "/api/v1/namespaces/exempt/pods",
        privileged.clone(),
    )
    .await;
    privileged["spec"]["runtimeClassName"] = json!("vm");
    make(&server, "/api/v1/namespaces/plain/pods", privileged).await;
}

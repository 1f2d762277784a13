//! The admission plugins against the whole server: what they refuse, fill in, charge and warn of.

use crate::common::{call, client, get, send, server, text};
use http::StatusCode;
use k8s_apiserver::{
    ApiServer,
    admission::plugins::pod_security::{Exemptions, Level, PodSecurity, Policy},
    auth::Identity,
};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A server with the account that pods need.
async fn ready() -> ApiServer {
    let server = server().await;
    let account = json!({"metadata": {"name": "default"}});
    make(
        &server,
        "/api/v1/namespaces/default/serviceaccounts",
        account,
    )
    .await;
    server
}

async fn make(server: &ApiServer, uri: &str, object: Value) -> Value {
    let (status, made) = call(server, "POST", uri, object).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made
}

async fn refused(server: &ApiServer, uri: &str, object: Value) -> String {
    let (status, answer) = call(server, "POST", uri, object).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

/// The answer's code and warnings.
async fn warned(
    server: &ApiServer,
    method: &str,
    uri: &str,
    object: Value,
) -> (StatusCode, Vec<String>) {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let headers = [("content-type", kind)];
    let response = send(server, method, uri, &headers, object.to_string()).await;
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings
        .map(|value| value.to_str().unwrap().replace("\\\"", "\""))
        .collect();
    let (status, _) = text(response).await;
    (status, warnings)
}

fn pod(name: &str, container: Value) -> Value {
    let mut all = json!({"name": "c", "image": "i"});
    all.as_object_mut()
        .unwrap()
        .extend(container.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": {"containers": [all]}})
}

fn asks(cpu: &str) -> Value {
    json!({"resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}})
}

/// A quota whose controller has already been there.
async fn quota(server: &ApiServer, name: &str, spec: Value) {
    let mut quota = make(
        server,
        QUOTAS,
        json!({"metadata": {"name": name}, "spec": spec}),
    )
    .await;
    let zeros = spec["hard"].as_object().unwrap().keys();
    let zeros: serde_json::Map<String, Value> = zeros.map(|k| (k.clone(), json!("0"))).collect();
    quota["status"] = json!({"hard": spec["hard"], "used": zeros});
    let uri = format!("{QUOTAS}/{name}/status");
    let (status, answer) = call(server, "PUT", &uri, quota).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

async fn used(server: &ApiServer, name: &str) -> Value {
    get(server, &format!("{QUOTAS}/{name}")).await.1["status"]["used"].clone()
}

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

const NAMESPACES: &str = "/api/v1/namespaces";

fn labelled(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

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

mod certificates {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

    fn request(name: &str, signer: &str, organization: &str) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"metadata": {"name": name}, "spec": {
            "request": STANDARD.encode(pem), "signerName": signer, "usages": ["client auth"],
            "username": "somebody else",
        }})
    }

    fn approve(mut request: Value, sort: &str) -> Value {
        let condition = json!({"type": sort, "status": "True", "reason": "Test"});
        let status = request["status"].as_object_mut().unwrap();
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        conditions.as_array_mut().unwrap().push(condition);
        request
    }

    async fn put(server: &ApiServer, part: &str, object: Value) -> (StatusCode, Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        call(server, "PUT", &format!("{REQUESTS}/{name}/{part}"), object).await
    }

    #[tokio::test]
    async fn a_request_says_who_asks_and_is_approved_once() {
        let server = server().await;
        let signer = "kubernetes.io/kube-apiserver-client";
        let made = make(&server, REQUESTS, request("r", signer, "dev")).await;
        assert_ne!(made["spec"]["username"], "somebody else");
        assert_eq!(made["spec"]["groups"][0], "system:masters");
        // The status is no place for approvals.
        let (status, answer) = put(&server, "status", approve(made.clone(), "Approved")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(
            answer["message"],
            "CertificateSigningRequest.certificates.k8s.io \"r\" is invalid: status.conditions: Forbidden: updates may not add a condition of type \"Approved\""
        );
        let (status, approved) = put(&server, "approval", approve(made, "Approved")).await;
        assert_eq!(status, StatusCode::OK, "{approved}");
        assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
        let (status, answer) = put(&server, "approval", approve(approved, "Denied")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            answer["message"]
                .as_str()
                .unwrap()
                .contains("Approved and Denied conditions are mutually exclusive")
        );
    }

    #[tokio::test]
    async fn approving_and_signing_take_permission_for_the_signer() {
        let server = server().await;
        let role = json!({"metadata": {"name": "updates"}, "rules": [{
            "apiGroups": ["certificates.k8s.io"], "verbs": ["update"],
            "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
        }]});
        let roles = "/apis/rbac.authorization.k8s.io/v1";
        make(&server, &format!("{roles}/clusterroles"), role).await;
        let binding = json!({"metadata": {"name": "updates"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "updates"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]});
        make(&server, &format!("{roles}/clusterrolebindings"), binding).await;
        let made = make(&server, REQUESTS, request("r", "example.com/s", "dev")).await;
        let jane = server.client(Identity::user("jane"));
        type Csr = k8s_openapi::api::certificates::v1::CertificateSigningRequest;
        let api = Api::<Csr>::all(jane);
        let params = PostParams::default();
        let approved: Csr = serde_json::from_value(approve(made.clone(), "Approved")).unwrap();
        // A binding takes a moment to be known.
        let refusal = loop {
            let result: Result<Csr, _> = api
                .replace_subresource("approval", "r", &params, &approved)
                .await;
            match result.unwrap_err() {
                kube::Error::Api(status) if status.message.contains("cannot update") => {
                    tokio::task::yield_now().await;
                }
                kube::Error::Api(status) => break status.message,
                other => panic!("{other}"),
            }
        };
        assert_eq!(
            refusal,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with signerName \"example.com/s\""
        );
        let mut failed = made;
        failed["status"]["conditions"] =
            json!([{"type": "Failed", "status": "True", "reason": "Test"}]);
        let failed: Csr = serde_json::from_value(failed).unwrap();
        let result = api.replace_status("r", &params, &failed).await;
        let kube::Error::Api(status) = result.unwrap_err() else {
            panic!("not an answer");
        };
        assert_eq!(
            status.message,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to sign requests with signerName \"example.com/s\""
        );
    }

    #[tokio::test]
    async fn nobody_asks_for_the_group_that_may_do_everything() {
        let server = server().await;
        let signer = "kubernetes.io/kube-apiserver-client";
        assert_eq!(
            refused(&server, REQUESTS, request("r", signer, "system:masters")).await,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        );
        let mut bad = request("r", signer, "dev");
        bad["spec"]["request"] = json!(STANDARD.encode("no PEM"));
        let (status, answer) = call(&server, "POST", REQUESTS, bad).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("PEM block type must be CERTIFICATE REQUEST"));
    }
}

mod limit_range {
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
}

//! Configuration files, and what webhooks answer.

use k8s_apiserver::{audit, authz, encryption, fuzz};
use serde_json::json;

pub(super) fn audit_seeds() -> Vec<Vec<u8>> {
    vec![
        b"apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users: ['system:kube-proxy']\n  \
          verbs: [watch]\n  resources:\n  - group: ''\n    resources: [endpoints, services/status, '*/scale']\n    resourceNames: [x]\n- level: None\n  \
          nonResourceURLs: ['/healthz*', /version]\n- level: RequestResponse\n  namespaces: [kube-system]\n  omitManagedFields: true\n"
            .to_vec(),
        br#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Request", "userGroups": ["a"]}]}"#.to_vec(),
    ]
}

pub(super) fn audit(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Err(error) = audit::Policy::parse(text)
    {
        let _ = error.to_string();
    }
}

pub(super) fn encryption_seeds() -> Vec<Vec<u8>> {
    vec![
        b"apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps', '*.*']\n  providers:\n  \
          - aesgcm:\n      keys:\n      - {name: a, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}\n      - {name: b, secret: c2hvcnQ=}\n  - identity: {}\n"
            .to_vec(),
    ]
}

pub(super) fn encryption(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Err(error) = encryption::EncryptionConfiguration::parse(text)
    {
        let _ = error.to_string();
    }
}

pub(super) fn authorization_seeds() -> Vec<Vec<u8>> {
    vec![
        b"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {type: Node, name: node}\n- {type: RBAC, name: rbac}\n\
          - type: Webhook\n  name: hook\n  webhook:\n    authorizedTTL: 30s\n    unauthorizedTTL: 30s\n    timeout: 3s\n    subjectAccessReviewVersion: v1\n    \
          matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /x}\n    \
          matchConditions:\n    - expression: \"request.user == 'a' && has(request.resourceAttributes)\"\n"
            .to_vec(),
    ]
}

pub(super) fn authorization(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Err(error) = authz::AuthorizationConfiguration::parse(text)
    {
        let _ = error.to_string();
    }
}

pub(super) fn kubeconfig_seeds() -> Vec<Vec<u8>> {
    vec![
        b"apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- {name: c, context: {cluster: k, user: u}}\nclusters:\n\
          - {name: k, cluster: {server: 'https://x:1/y', certificate-authority-data: eA==, tls-server-name: z}}\nusers:\n- {name: u, user: {token: abc}}\n"
            .to_vec(),
        br#"{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://x", "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"client-certificate-data": "eA==", "client-key-data": "eA==", "username": "a", "password": "b"}}]}"#
            .to_vec(),
    ]
}

pub(super) fn kubeconfig(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        fuzz::kubeconfig(text);
    }
}

pub(super) fn admission_seeds() -> Vec<Vec<u8>> {
    let answer = |response| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    [
        answer(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch",
            "patch": "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2EiLCJ2YWx1ZSI6MX1d", "warnings": ["a"], "auditAnnotations": {"a": "b"}})),
        answer(json!({"uid": "u", "allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "no"}})),
        json!({"response": {"allowed": true}}),
    ]
    .map(|value| value.to_string().into_bytes())
    .to_vec()
}

pub(super) fn conversion_seeds() -> Vec<Vec<u8>> {
    let object = json!({"apiVersion": "a.b/v2", "kind": "A", "spec": {"x": 1}, "metadata": {"name": "x", "uid": "u",
        "labels": {"a": "c"}, "annotations": {}, "generation": 4}});
    [
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [object]}}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "u", "result": {"status": "Failure", "message": "no"}}}),
    ]
    .map(|value| value.to_string().into_bytes())
    .to_vec()
}

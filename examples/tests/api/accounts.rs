//! Service accounts, and what their namespaces and pods get.

use serde_json::{Value, json};

use crate::{Entry, fixture::Fixture, rest::STRATEGIC};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount",
        an_account_lives,
    ),
    (
        "[sig-auth] ServiceAccounts should update a ServiceAccount",
        an_account_is_updated,
    ),
    (
        "[sig-auth] ServiceAccounts should allow opting out of API token automount",
        account_and_pod_can_opt_out_of_the_token,
    ),
    (
        "[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace",
        every_namespace_has_the_certificate_authority,
    ),
];

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PODS: &str = "/api/v1/namespaces/default/pods";
const TOKENS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[tokio::test]
async fn an_account_lives() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let everywhere = "/api/v1/serviceaccounts?labelSelector=test%3Daccount";
    let mut watch = api.watch(everywhere).await;
    let account = json!({"metadata": {"name": "it", "labels": {"test": "account"}}});
    let made = api.create(ACCOUNTS, account).await;
    watch.brings("ADDED", &made).await;
    let patch = json!({"automountServiceAccountToken": false});
    let patched = api.patch(&format!("{ACCOUNTS}/it"), STRATEGIC, patch).await;
    assert_eq!(patched["automountServiceAccountToken"], false);
    watch.brings("MODIFIED", &patched).await;
    let mut found = api.list(everywhere).await;
    assert_eq!(found.len(), 1);
    let found = found.remove(0);
    assert_eq!(found["metadata"], patched["metadata"]);
    assert_eq!(found["automountServiceAccountToken"], false);
    api.delete(&format!("{ACCOUNTS}?labelSelector=test%3Daccount"))
        .await;
    watch.brings("DELETED", &patched).await;
}

#[tokio::test]
async fn an_account_is_updated() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let path = format!("{ACCOUNTS}/it");
    api.create(ACCOUNTS, json!({"metadata": {"name": "it"}}))
        .await;
    let opt_out = |account: &mut Value| account["automountServiceAccountToken"] = false.into();
    api.change(&path, opt_out).await;
    assert_eq!(api.get(&path).await["automountServiceAccountToken"], false);
}

#[tokio::test]
async fn account_and_pod_can_opt_out_of_the_token() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    for (name, choice) in [
        ("unset", Value::Null),
        ("mount", true.into()),
        ("nomount", false.into()),
    ] {
        let account = json!({"metadata": {"name": name}, "automountServiceAccountToken": choice});
        api.create(ACCOUNTS, account).await;
    }
    for (account, pod, mounted) in [
        ("unset", Value::Null, true),
        ("mount", Value::Null, true),
        ("nomount", Value::Null, false),
        ("unset", true.into(), true),
        ("mount", true.into(), true),
        ("nomount", true.into(), true),
        ("unset", false.into(), false),
        ("mount", false.into(), false),
        ("nomount", false.into(), false),
    ] {
        let object = json!({
            "metadata": {"generateName": "it-"},
            "spec": {
                "serviceAccountName": account, "automountServiceAccountToken": pod,
                "containers": [{"name": "c", "image": "example.com/web:1"}],
            },
        });
        let made = api.create(PODS, object).await;
        let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array();
        let found = mounts
            .into_iter()
            .flatten()
            .any(|m| m["mountPath"] == TOKENS);
        assert_eq!(found, mounted, "account {account}, pod {pod}");
    }
}

#[tokio::test]
async fn every_namespace_has_the_certificate_authority() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "shop"}}))
        .await;
    let path = "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
    let made = api.until(path, |_| true).await;
    let authority = made["data"]["ca.crt"].as_str().expect("a certificate");
    assert!(
        authority.starts_with("-----BEGIN CERTIFICATE-----"),
        "{authority}"
    );

    api.delete(path).await;
    let again = |map: &Value| map["metadata"]["uid"] != made["metadata"]["uid"];
    let again = api.until(path, again).await;
    assert_eq!(again["data"], made["data"]);

    api.merge(path, json!({"data": {"ca.crt": ""}})).await;
    api.until(path, |map| map["data"] == made["data"]).await;
}

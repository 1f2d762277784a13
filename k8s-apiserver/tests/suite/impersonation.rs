//! Who acts as another in a few things alone (KEP-5284): over TLS, with roles for nothing but that.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    intruders::{grant, made},
    secured::{Cluster, Who, cluster},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const AGENT: &str = "system:serviceaccount:default:agent";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// A token of the agent's, for its pod if there is one.
async fn token(cluster: &Cluster, pod: Option<&str>) -> String {
    let mut request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    if let Some(name) = pod {
        request["spec"]["boundObjectRef"] =
            json!({"apiVersion": "v1", "kind": "Pod", "name": name});
    }
    let tokens = format!("{ACCOUNTS}/agent/token");
    let issued = made(cluster, &cluster.admin(), &tokens, request).await;
    issued["status"]["token"].as_str().unwrap().to_owned()
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "serviceAccountName": "agent", "nodeName": node, "containers": [{"name": "c", "image": "i"}]}})
}

#[track_caller]
fn refused((status, answer): (StatusCode, Value), text: &str) {
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(answer["reason"], "Forbidden");
    let message = answer["message"].as_str().unwrap();
    assert!(message.starts_with(text), "{message}");
}

#[tokio::test]
async fn an_agent_reads_what_its_node_may_read_and_no_more() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    made(
        &cluster,
        &admin,
        ACCOUNTS,
        json!({"metadata": {"name": "agent"}}),
    )
    .await;
    for node in ["one", "two"] {
        let object = json!({"metadata": {"name": node}});
        made(&cluster, &admin, "/api/v1/nodes", object).await;
        made(&cluster, &admin, PODS, pod(&format!("on-{node}"), node)).await;
    }
    let (one, two, none) = (
        token(&cluster, Some("on-one")).await,
        token(&cluster, Some("on-two")).await,
        token(&cluster, None).await,
    );
    let ask = async |token: &str, node: &str, path: &str| {
        let node = format!("system:node:{node}");
        let acting = [("impersonate-user", node.as_str())];
        cluster
            .ask(&Who::Token(token), Method::GET, path, &acting, None)
            .await
    };
    let of = |node: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName={node}");
    refused(
        ask(&one, "one", &of("one")).await,
        &format!(
            r#"pods is forbidden: User "{AGENT}" cannot impersonate-on:associated-node:list resource "pods" in API group "" at the cluster scope"#
        ),
    );
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["impersonate-on:associated-node:list"]},
    ]);
    grant(&cluster, &admin, AGENT, rules).await;
    refused(
        ask(&one, "one", &of("one")).await,
        &format!(
            r#"nodes.authentication.k8s.io "*" is forbidden: User "{AGENT}" cannot impersonate:associated-node resource "nodes" in API group "authentication.k8s.io" at the cluster scope"#
        ),
    );
    let rules = json!([
        {"apiGroups": [AUTHENTICATION], "resources": ["nodes"], "verbs": ["impersonate:associated-node"]},
    ]);
    // Roles are named as those who have them.
    let role = json!({"metadata": {"name": "node"}, "rules": rules});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    made(&cluster, &admin, roles, role).await;
    let binding = json!({"metadata": {"name": "node"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "node"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "default"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    made(&cluster, &admin, bindings, binding).await;
    let allowed = async {
        while ask(&one, "one", &of("one")).await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), allowed)
        .await
        .unwrap();
    for (token, node) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let (status, answer) = ask(token, node, &of(node)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let [pod] = answer["items"].as_array().unwrap().as_slice() else {
            panic!("{answer}")
        };
        assert_eq!(pod["metadata"]["name"], format!("on-{node}"));
    }
    // The node may not read the pods of others, but that is another matter.
    refused(
        ask(&one, "one", "/api/v1/pods").await,
        r#"pods is forbidden: User "system:node:one" cannot list resource "pods" in API group "" at the cluster scope"#,
    );
    // It may get its pod, which the agent may not do as it.
    refused(
        ask(&one, "one", &format!("{PODS}/on-one")).await,
        &format!(
            r#"pods "on-one" is forbidden: User "{AGENT}" cannot impersonate-on:associated-node:get resource "pods" in API group "" in the namespace "default""#
        ),
    );
    let arbitrary = format!(
        r#"pods is forbidden: User "{AGENT}" cannot impersonate-on:arbitrary-node:list resource "pods" in API group "" at the cluster scope"#
    );
    refused(ask(&one, "two", &of("two")).await, &arbitrary);
    refused(ask(&none, "one", &of("one")).await, &arbitrary);
    // A token's extra values cannot be asked for.
    let acting = [
        ("impersonate-user", "system:node:one"),
        ("impersonate-group", "system:nodes"),
    ];
    let (who, path) = (Who::Token(&one), of("one"));
    let grouped = cluster.ask(&who, Method::GET, &path, &acting, None);
    refused(
        grouped.await,
        &format!(
            r#"users "system:node:one" is forbidden: User "{AGENT}" cannot impersonate resource "users" in API group "" at the cluster scope"#
        ),
    );
    // As itself the agent may do nothing.
    refused(
        cluster.get(&Who::Token(&one), &of("one")).await,
        &format!(r#"pods is forbidden: User "{AGENT}" cannot list resource "pods""#),
    );
    let (_, page) = cluster.get(&admin, "/metrics").await;
    let page = page.as_str().unwrap();
    let counted =
        r#"apiserver_impersonation_attempts_total{decision="allowed",mode="associated-node"}"#;
    assert!(page.contains(counted), "{page}");
}

#[tokio::test]
async fn a_deputy_does_what_both_may() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let vera = cluster.pki.issue_client("vera", &["dev"]).unwrap();
    let vera = Who::Certificate(&vera);
    let map = json!({"metadata": {"name": "a"}});
    made(&cluster, &admin, MAPS, map).await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "delete"]},
    ]);
    grant(&cluster, &admin, "alice", rules).await;
    let rules = json!([
        {"apiGroups": [AUTHENTICATION], "resources": ["users"], "resourceNames": ["alice"], "verbs": ["impersonate:user-info"]},
        {"apiGroups": [AUTHENTICATION], "resources": ["groups", "userextras/acme.io/scopes", "uids"], "verbs": ["impersonate:user-info"]},
        {"apiGroups": [AUTHENTICATION], "resources": ["serviceaccounts"], "verbs": ["impersonate:serviceaccount"]},
        {"apiGroups": [AUTHENTICATION], "resources": ["nodes"], "verbs": ["impersonate:arbitrary-node"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["impersonate-on:user-info:get", "impersonate-on:user-info:list"]},
        {"apiGroups": [AUTHENTICATION], "resources": ["selfsubjectreviews"], "verbs": [
            "impersonate-on:user-info:create", "impersonate-on:serviceaccount:create", "impersonate-on:arbitrary-node:create"]},
        {"nonResourceURLs": ["/version"], "verbs": ["impersonate-on:user-info:get"]},
    ]);
    grant(&cluster, &admin, "vera", rules).await;
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        cluster.ask(&vera, method, path, headers, None).await
    };
    let alice = ("impersonate-user", "alice");
    let a = format!("{MAPS}/a");
    let (status, answer) = ask(Method::GET, &a, &[alice]).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    refused(
        ask(Method::GET, MAPS, &[alice]).await,
        r#"configmaps is forbidden: User "alice" cannot list resource "configmaps" in API group "" in the namespace "default""#,
    );
    refused(
        ask(Method::DELETE, &a, &[alice]).await,
        r#"configmaps "a" is forbidden: User "vera" cannot impersonate-on:user-info:delete resource "configmaps" in API group "" in the namespace "default""#,
    );
    refused(
        ask(Method::GET, &a, &[("impersonate-user", "bob")]).await,
        r#"users.authentication.k8s.io "bob" is forbidden: User "vera" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#,
    );
    refused(
        ask(
            Method::GET,
            &a,
            &[alice, ("impersonate-group", "system:masters")],
        )
        .await,
        r#"groups.authentication.k8s.io "system:masters" is forbidden: User "vera" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed"#,
    );
    refused(
        ask(
            Method::GET,
            &a,
            &[alice, ("impersonate-extra-acme.io%2fother", "x")],
        )
        .await,
        r#"userextras.authentication.k8s.io "x" is forbidden: User "vera" cannot impersonate:user-info resource "userextras/acme.io/other" in API group "authentication.k8s.io" at the cluster scope"#,
    );
    let (status, _) = ask(Method::GET, "/version", &[alice]).await;
    assert_eq!(status, StatusCode::OK);
    refused(
        ask(Method::GET, "/metrics", &[alice]).await,
        r#"forbidden: User "vera" cannot impersonate-on:user-info:get path "/metrics""#,
    );
    let whoami = async |headers: &[(&str, &str)]| {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let asked = cluster.ask(&vera, Method::POST, path, headers, Some(review));
        let (status, answer) = asked.await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["status"]["userInfo"].clone()
    };
    assert_eq!(
        whoami(&[
            alice,
            ("impersonate-group", "ops"),
            ("impersonate-uid", "1"),
            ("impersonate-extra-acme.io%2fscopes", "x"),
        ])
        .await,
        json!({"username": "alice", "uid": "1", "groups": ["ops", "system:authenticated"],
            "extra": {"acme.io/scopes": ["x"]}})
    );
    assert_eq!(
        whoami(&[("impersonate-user", AGENT)]).await,
        json!({"username": AGENT, "groups": [
            "system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]})
    );
    // Nodes are in their group, which the classic way leaves out.
    assert_eq!(
        whoami(&[("impersonate-user", "system:node:one")]).await,
        json!({"username": "system:node:one", "groups": ["system:nodes", "system:authenticated"]})
    );
}

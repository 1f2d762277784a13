//! What those try who want to be more than they are: tokens that outlive what they are bound to, impersonation, roles and
//! their subresources, certificates; over TLS.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::secured::{Cluster, Who, cluster};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn review() -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
}

pub(crate) async fn made(cluster: &Cluster, who: &Who<'_>, path: &str, object: Value) -> Value {
    let (status, made) = cluster.post(who, path, object).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made
}

async fn gone(cluster: &Cluster, who: &Who<'_>, path: &str) {
    let (status, answer) = cluster.ask(who, Method::DELETE, path, &[], None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// Lets a user do what the rules say, everywhere; comes back when they may.
pub(crate) async fn grant(cluster: &Cluster, admin: &Who<'_>, user: &str, rules: Value) {
    let role = json!({"metadata": {"name": user}, "rules": rules});
    made(cluster, admin, &format!("{RBAC}/clusterroles"), role).await;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}]});
    made(
        cluster,
        admin,
        &format!("{RBAC}/clusterrolebindings"),
        binding,
    )
    .await;
    let rule = &rules[0];
    let text = |key: &str| rule[key][0].as_str().unwrap().to_owned();
    let mut asked = json!({"verb": text("verbs"), "group": text("apiGroups")});
    match text("resources").split_once('/') {
        Some((resource, subresource)) => {
            asked["resource"] = resource.into();
            asked["subresource"] = subresource.into();
        }
        None => asked["resource"] = text("resources").into(),
    }
    if let Some(name) = rule["resourceNames"][0].as_str() {
        asked["name"] = name.into();
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked}});
    let known = async {
        loop {
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let answer = made(cluster, admin, path, review.clone()).await;
            if answer["status"]["allowed"] == true {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to_and_is_for_nobody_else() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let account = |name: &str| json!({"metadata": {"name": name}});
    made(&cluster, &admin, ACCOUNTS, account("bot")).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "bot", "containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    let secrets = "/api/v1/namespaces/default/secrets";
    let nodes = "/api/v1/nodes";
    for (kind, path, object) in [
        ("Pod", pods, pod),
        ("Secret", secrets, account("s")),
        ("Node", nodes, account("n")),
    ] {
        let bound = made(&cluster, &admin, path, object.clone()).await;
        let name = bound["metadata"]["name"].as_str().unwrap();
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}}});
        let tokens = format!("{ACCOUNTS}/bot/token");
        let issued = made(&cluster, &admin, &tokens, request.clone()).await;
        let token = Who::Token(issued["status"]["token"].as_str().unwrap());
        let (status, answer) = cluster.post(&token, REVIEWS, review()).await;
        assert_eq!(status, StatusCode::CREATED, "{kind}: {answer}");
        let object_path = format!("{path}/{name}?gracePeriodSeconds=0");
        gone(&cluster, &admin, &object_path).await;
        let (status, _) = cluster.post(&token, REVIEWS, review()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{kind}");
        // Another object of that name is another object.
        made(&cluster, &admin, path, object).await;
        let (status, _) = cluster.post(&token, REVIEWS, review()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{kind}");
        let mut other = request;
        other["spec"]["boundObjectRef"]["uid"] = bound["metadata"]["uid"].clone();
        let (status, _) = cluster.post(&admin, &tokens, other).await;
        assert_eq!(status, StatusCode::CONFLICT, "{kind}");
    }
    let elsewhere = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["vault"]}});
    let tokens = format!("{ACCOUNTS}/bot/token");
    let issued = made(&cluster, &admin, &tokens, elsewhere).await;
    let token = issued["status"]["token"].as_str().unwrap();
    let (status, _) = cluster.get(&Who::Token(token), "/version").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // Nor does a review say that it is good here; for its audience it is.
    for (audiences, good) in [(json!([]), false), (json!(["vault"]), true)] {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = made(&cluster, &admin, path, review).await;
        let said = answer["status"]["authenticated"].as_bool();
        assert_eq!(said.unwrap_or(false), good, "{answer}");
    }
    // A token whose signature was tampered with, or taken off.
    let (head, signature) = token.rsplit_once('.').unwrap();
    let unsigned = "eyJhbGciOiJub25lIn0";
    let body = head.split_once('.').unwrap().1;
    for forged in [
        format!("{head}."),
        format!("{unsigned}.{body}."),
        format!("{unsigned}.{body}.{signature}"),
        format!("{head}.{}", signature.chars().rev().collect::<String>()),
    ] {
        let (status, _) = cluster.get(&Who::Token(&forged), "/version").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn who_may_be_somebody_else_may_be_no_more_than_that() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let vera = cluster.pki.issue_client("vera", &["dev"]).unwrap();
    let vera = Who::Certificate(&vera);
    let rules = json!([
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["alice"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["ops"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["uids"], "resourceNames": ["1"], "verbs": ["impersonate"]},
    ]);
    grant(&cluster, &admin, "vera", rules).await;
    let alice = ("impersonate-user", "alice");
    let ask = async |headers: &[(&str, &str)]| {
        let body = Some(review());
        cluster
            .ask(&vera, Method::POST, REVIEWS, headers, body)
            .await
    };
    let all = [
        alice,
        ("impersonate-group", "ops"),
        ("impersonate-extra-scopes", "view"),
        ("impersonate-uid", "1"),
    ];
    let (status, answer) = ask(&all).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let user = &answer["status"]["userInfo"];
    assert_eq!(user["username"], "alice");
    assert_eq!(user["groups"], json!(["ops", "system:authenticated"]));
    assert_eq!(user["extra"], json!({"scopes": ["view"]}));
    assert_eq!(user["uid"], "1");
    let forbidden = StatusCode::FORBIDDEN;
    for (headers, wanted, text) in [
        (
            &[("impersonate-user", "bob")][..],
            forbidden,
            r#"users "bob" is forbidden: User "vera" cannot impersonate resource "users" in API group "" at the cluster scope"#,
        ),
        (
            &[
                alice,
                ("impersonate-group", "ops"),
                ("impersonate-group", "system:masters"),
            ],
            forbidden,
            r#"groups "system:masters" is forbidden: User "vera" cannot impersonate resource "groups" in API group "" at the cluster scope"#,
        ),
        (
            &[
                alice,
                ("impersonate-extra-scopes", "view"),
                ("impersonate-extra-scopes", "all"),
            ],
            forbidden,
            r#"userextras.authentication.k8s.io "all" is forbidden: User "vera" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
        (
            &[alice, ("impersonate-extra-other", "view")],
            forbidden,
            r#"userextras.authentication.k8s.io "view" is forbidden: User "vera" cannot impersonate resource "userextras/other" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
        (
            &[alice, ("impersonate-uid", "2")],
            forbidden,
            r#"uids.authentication.k8s.io "2" is forbidden: User "vera" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
        (
            &[(
                "impersonate-user",
                "system:serviceaccount:kube-system:admin",
            )],
            forbidden,
            r#"serviceaccounts "admin" is forbidden: User "vera" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "kube-system""#,
        ),
    ] {
        let (status, answer) = ask(headers).await;
        assert_eq!((status, answer["message"].as_str()), (wanted, Some(text)));
    }
    for headers in [
        &[("impersonate-group", "ops")][..],
        &[("impersonate-uid", "1")],
        &[("impersonate-extra-scopes", "view")],
    ] {
        let (status, answer) = ask(headers).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{headers:?}");
        let text = answer["message"].as_str().unwrap();
        assert!(
            text.starts_with("requested &user.DefaultInfo{Name:\"\""),
            "{text}"
        );
        assert!(
            text.ends_with(" without impersonating a user name"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn who_may_do_something_to_objects_may_not_do_it_to_their_parts() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let vera = cluster.pki.issue_client("vera", &["dev"]).unwrap();
    let vera = Who::Certificate(&vera);
    let all = json!(["get", "list", "create", "update", "patch", "delete"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": all},
        {"apiGroups": [""], "resources": ["serviceaccounts", "nodes", "services"], "verbs": all},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": all},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": all},
    ]);
    grant(&cluster, &admin, "vera", rules).await;
    let account = json!({"metadata": {"name": "bot"}});
    made(&cluster, &admin, ACCOUNTS, account).await;
    let pods = "/api/v1/namespaces/default/pods";
    for (method, path) in [
        (Method::POST, format!("{ACCOUNTS}/bot/token")),
        (Method::GET, format!("{pods}/p/exec?command=sh")),
        (Method::POST, format!("{pods}/p/exec?command=sh")),
        (Method::POST, format!("{pods}/p/attach")),
        (Method::POST, format!("{pods}/p/portforward")),
        (Method::GET, format!("{pods}/p/log")),
        (Method::GET, format!("{pods}/p/proxy/x")),
        (Method::POST, format!("{pods}/p/eviction")),
        (Method::POST, format!("{pods}/p/binding")),
        (Method::PATCH, format!("{pods}/p/ephemeralcontainers")),
        (Method::PATCH, format!("{pods}/p/status")),
        (Method::PATCH, format!("{pods}/p/resize")),
        (Method::GET, "/api/v1/nodes/n/proxy/run".to_owned()),
        (
            Method::GET,
            "/api/v1/namespaces/default/services/s/proxy/".to_owned(),
        ),
        (
            Method::PUT,
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/r/approval".to_owned(),
        ),
        (
            Method::PUT,
            "/apis/apps/v1/namespaces/default/deployments/d/scale".to_owned(),
        ),
        // What is no subresource of theirs is none that they may use either.
        (Method::GET, format!("{pods}/p/anything")),
        (Method::GET, "/api/v1/namespaces/default/secrets".to_owned()),
        (
            Method::GET,
            "/api/v1/namespaces/default/pods/../secrets".to_owned(),
        ),
        (Method::GET, "/metrics".to_owned()),
    ] {
        let (status, answer) = cluster
            .ask(&vera, method.clone(), &path, &[], Some(json!({})))
            .await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn who_may_list_one_by_its_name_lists_no_other() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["mine", "theirs"] {
        let secret = json!({"metadata": {"name": name}});
        made(&cluster, &admin, secrets, secret).await;
    }
    let rules = json!([{"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]}]);
    grant(&cluster, &admin, "mallory", rules).await;
    let mallory = cluster.pki.issue_client::<&str>("mallory", &[]).unwrap();
    let mallory = Who::Certificate(&mallory);
    let list = async |selection: &str| {
        let path = format!("{secrets}?{selection}");
        let (status, list) = cluster.ask(&mallory, Method::GET, &path, &[], None).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        (status, names)
    };
    let mine = (StatusCode::OK, vec!["mine".to_owned()]);
    assert_eq!(list("fieldSelector=metadata.name%3Dmine").await, mine);
    // What is authorized is what is listed, however often it is said.
    let twice = "fieldSelector=metadata.name%3Dmine&fieldSelector=";
    assert_eq!(list(twice).await, mine);
    for hidden in [
        "",
        "fieldSelector=&fieldSelector=metadata.name%3Dmine",
        r"fieldSelector=type!%3Dx%5C,metadata.name%3Dmine",
        r"fieldSelector=metadata.name!%3Dx%5C,metadata.name%3Dmine",
    ] {
        let (status, names) = list(hidden).await;
        assert_eq!(
            (status, names.len()),
            (StatusCode::FORBIDDEN, 0),
            "{hidden}"
        );
    }
}

#[tokio::test]
async fn a_node_lists_no_other_nodes_pods_however_it_asks() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let account = json!({"metadata": {"name": "default"}});
    made(&cluster, &admin, ACCOUNTS, account).await;
    let pods = "/api/v1/namespaces/default/pods";
    for node in ["a", "b"] {
        let pod = json!({"metadata": {"name": format!("on-{node}")},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        made(&cluster, &admin, pods, pod).await;
    }
    let node = cluster
        .pki
        .issue_client("system:node:a", &["system:nodes"])
        .unwrap();
    let node = Who::Certificate(&node);
    for query in [
        "fieldSelector=spec.nodeName%3Da",
        "fieldSelector=spec.nodeName%3Da&fieldSelector=",
        "fieldSelector=spec.nodeName%3Da&fieldSelector=spec.nodeName%3Db",
    ] {
        let path = format!("/api/v1/pods?{query}");
        let (status, list) = cluster.ask(&node, Method::GET, &path, &[], None).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{query}");
        assert_eq!(items[0]["metadata"]["name"], "on-a");
    }
    for query in [
        "",
        "fieldSelector=&fieldSelector=spec.nodeName%3Da",
        r"fieldSelector=spec.nodeName!%3Dx%5C,spec.nodeName%3Da",
    ] {
        let path = format!("/api/v1/pods?{query}");
        let (status, _) = cluster.ask(&node, Method::GET, &path, &[], None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{query}");
    }
}

#[tokio::test]
async fn who_may_change_and_not_create_creates_nothing_by_changing_it() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let rules = json!([{"verbs": ["update", "patch"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}]);
    grant(&cluster, &admin, "mallory", rules).await;
    let mallory = cluster.pki.issue_client::<&str>("mallory", &[]).unwrap();
    let mallory = Who::Certificate(&mallory);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "new"}, "spec": {}});
    let path = format!("{leases}/new");
    let put = async |who: &Who<'_>| {
        let body = Some(lease.clone());
        cluster.ask(who, Method::PUT, &path, &[], body).await
    };
    let (status, refused) = put(&mallory).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    assert_eq!(
        refused["message"],
        "leases.coordination.k8s.io \"new\" is forbidden: "
    );
    let (status, _) = cluster.ask(&admin, Method::GET, &path, &[], None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // What is wrong with an object is told first, as of any create.
    let apply = [("content-type", "application/apply-patch+yaml")];
    let applied = format!("{path}?fieldManager=m");
    for (method, path, headers) in [
        (Method::PUT, &path, &[][..]),
        (Method::PATCH, &applied, &apply),
    ] {
        let mut invalid = lease.clone();
        invalid["spec"]["leaseDurationSeconds"] = json!(0);
        for (body, code) in [(invalid, 422), (lease.clone(), 403)] {
            let body = Some(body);
            let (status, answer) =
                (cluster.ask(&mallory, method.clone(), path, headers, body)).await;
            assert_eq!(status, code, "{method}: {answer}");
        }
    }
    let (status, mut made) = put(&admin).await;
    assert_eq!(status, StatusCode::CREATED);
    made["spec"]["holderIdentity"] = "mallory".into();
    let (status, changed) = cluster
        .ask(&mallory, Method::PUT, &path, &[], Some(made))
        .await;
    assert_eq!(status, StatusCode::OK, "{changed}");
}

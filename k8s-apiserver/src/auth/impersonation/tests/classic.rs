//! The classic mode goes on as it did.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;

/// Knows the classic mode alone.
#[derive(Debug)]
struct Classic;

#[async_trait]
impl Authorizer for Classic {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        match a.verb {
            "impersonate" => Decision::Allow,
            _ => Decision::no_opinion(),
        }
    }
}

/// As Kubernetes v1.26 has it in its audit log.
#[tokio::test(start_paused = true)]
async fn odd_headers_say_what_they_say_upstream() {
    const USER: &str = "impersonate-user";
    const GROUP: &str = "impersonate-group";
    let known = json!(["system:authenticated"]);
    let named = |name: &str| json!({"username": name, "groups": ["system:authenticated"]});
    let account = |name: &str| {
        json!({"username": format!("system:serviceaccount:ns:{name}"), "groups": [
        "system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]})
    };
    let extra = |extra: Value| json!({"username": "alice", "groups": known, "extra": extra});
    let grouped = |groups: Value| json!({"username": "alice", "groups": groups});
    let alice = |name: &'static str, value: &'static str| vec![(USER, "alice"), (name, value)];
    for (pairs, acting) in [
        (
            vec![
                (USER, "alice"),
                ("impersonate-extra-acme.com%2fteam", "x"),
                ("impersonate-extra-acme.com%2Fteam", "y"),
            ],
            extra(json!({"acme.com/team": ["x", "y"]})),
        ),
        (
            vec![
                (USER, "alice"),
                ("impersonate-extra-%41", "x"),
                ("impersonate-extra-ABC", "x"),
            ],
            extra(json!({"A": ["x"], "abc": ["x"]})),
        ),
        (
            alice("impersonate-extra-50%", "x"),
            extra(json!({"50%": ["x"]})),
        ),
        (
            alice("impersonate-extra-%zz", "x"),
            extra(json!({"%zz": ["x"]})),
        ),
        (
            alice("impersonate-extra-a%2", "x"),
            extra(json!({"a%2": ["x"]})),
        ),
        (
            alice("impersonate-extra-%2f%zz", "x"),
            extra(json!({"%2f%zz": ["x"]})),
        ),
        (alice("impersonate-extra-", "x"), extra(json!({"": ["x"]}))),
        (alice("impersonate-extra-a", ""), extra(json!({"a": [""]}))),
        (
            alice(GROUP, ""),
            grouped(json!(["", "system:authenticated"])),
        ),
        (
            vec![(USER, "alice"), (GROUP, "a"), (GROUP, "a")],
            grouped(json!(["a", "a", "system:authenticated"])),
        ),
        (
            alice(GROUP, "system:unauthenticated"),
            grouped(json!(["system:unauthenticated"])),
        ),
        (alice(USER, "bob"), named("alice")),
        (
            vec![
                (USER, "alice"),
                ("impersonate-uid", "1"),
                ("impersonate-uid", "2"),
            ],
            json!({"username": "alice", "uid": "1", "groups": known}),
        ),
        (
            vec![(USER, "system:serviceaccount:ns:name")],
            account("name"),
        ),
        (vec![(USER, "system:serviceaccount:ns:x.y")], account("x.y")),
        (
            vec![(USER, "system:serviceaccount:ns:name"), (GROUP, "dev")],
            json!({"username": "system:serviceaccount:ns:name", "groups": ["dev", "system:authenticated"]}),
        ),
        (
            vec![(USER, "system:serviceaccount:ns")],
            named("system:serviceaccount:ns"),
        ),
        (
            vec![(USER, "system:serviceaccount:ns:a:b")],
            named("system:serviceaccount:ns:a:b"),
        ),
        (
            vec![(USER, "system:serviceaccount:NS:x")],
            named("system:serviceaccount:NS:x"),
        ),
        (
            vec![(USER, "system:serviceaccount:n.s:x")],
            named("system:serviceaccount:n.s:x"),
        ),
        (
            vec![(USER, "system:serviceaccount:ns:X")],
            named("system:serviceaccount:ns:X"),
        ),
        (vec![(USER, "system:node:one")], named("system:node:one")),
        (vec![(USER, "system:node:")], named("system:node:")),
        (vec![(USER, "al\u{e9}")], named("al\u{e9}")),
    ] {
        let mut headers = http::HeaderMap::new();
        for (name, value) in &pairs {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(
                name,
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let wanted = take_wish(&mut headers).unwrap().unwrap();
        let bob = Identity::user("bob");
        let get = request(&bob, "get", "pods");
        let decided = Impersonation::default()
            .decide(&wanted, get, &Classic)
            .await;
        let user = crate::audit::UserInfo::from(&decided.unwrap().user);
        assert_eq!(serde_json::to_value(user).unwrap(), acting, "{pairs:?}");
    }
}

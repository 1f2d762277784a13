//! Each mode, with an authorizer that says what it was asked.

mod classic;
mod nodes;

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::authz::{Decision, Selectors};

/// What may be done: who, which verb, and of what, as `resource/subresource/name` or a part of its beginning.
type Rule = (&'static str, &'static str, &'static str);

/// Allows what is in the list, and writes down what it is asked.
#[derive(Debug, Default)]
struct Rules {
    rules: &'static [Rule],
    asked: Mutex<Vec<String>>,
}

impl Rules {
    fn new(rules: &'static [Rule]) -> Self {
        let asked = Mutex::default();
        Rules { rules, asked }
    }

    /// What it was asked since it was last looked at.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Authorizer for Rules {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let what = match a.resource_request {
            true => [a.resource, a.subresource, a.name]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("/"),
            false => a.path.to_owned(),
        };
        let group = match a.group {
            "" => String::new(),
            group => format!(" of {group}"),
        };
        let place = match a.namespace {
            "" => String::new(),
            namespace => format!(" in {namespace}"),
        };
        (self.asked.lock().unwrap()).push(format!("{} {what}{group}{place}", a.verb));
        let fits = |(user, verb, of): &Rule| {
            *user == a.user.name && *verb == a.verb && what.starts_with(of)
        };
        match self.rules.iter().any(fits) {
            true => Decision::Allow,
            false => Decision::unsaid("deny by default"),
        }
    }
}

fn request<'a>(user: &'a Identity, verb: &'a str, resource: &'a str) -> Attributes<'a> {
    Attributes {
        user,
        verb,
        group: "",
        version: "v1",
        resource,
        subresource: "",
        namespace: "bar",
        name: "foo",
        path: "/api/v1/namespaces/bar/pods/foo",
        resource_request: true,
        selectors: None,
    }
}

fn wanted(name: &str, groups: &[&str], extra: &[(&str, &[&str])]) -> Identity {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let extra = extra.iter().map(|(k, v)| ((*k).to_owned(), owned(v)));
    Identity {
        groups: owned(groups),
        extra: extra.collect(),
        ..Identity::user(name)
    }
}

fn told(result: Result<Impersonated, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.reason()), (403, "Forbidden"));
    error.into_status().message.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_user_is_acted_as_only_in_what_is_allowed() {
    let rules = Rules::new(&[
        ("bob", "impersonate-on:user-info:get", "pods"),
        ("bob", "impersonate:user-info", "users/alice"),
    ]);
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    let alice = Identity::user("alice");
    let get = request(&bob, "get", "pods");
    let acting = all.decide(&alice, get, &rules).await.unwrap();
    assert_eq!(acting.user, Identity::user("alice").group(AUTHENTICATED));
    assert_eq!(acting.constraint, Some("impersonate:user-info"));
    assert_eq!(
        rules.asked(),
        [
            "impersonate-on:user-info:get pods/foo in bar",
            "impersonate:user-info users/alice of authentication.k8s.io",
        ]
    );
    // The very same is known, and of another pod the half of it.
    all.decide(&alice, get, &rules).await.unwrap();
    assert_eq!(rules.asked(), [""; 0]);
    let other = Attributes { name: "baz", ..get };
    all.decide(&alice, other, &rules).await.unwrap();
    assert_eq!(
        rules.asked(),
        ["impersonate-on:user-info:get pods/baz in bar"]
    );
    // After a while all is asked anew.
    tokio::time::advance(known::KEPT).await;
    all.decide(&alice, get, &rules).await.unwrap();
    assert_eq!(rules.asked().len(), 2);

    let text = told(
        all.decide(&alice, request(&bob, "create", "pods"), &rules)
            .await,
    );
    assert_eq!(
        text,
        r#"pods "foo" is forbidden: User "bob" cannot impersonate-on:user-info:create resource "pods" in API group "" in the namespace "bar": deny by default"#
    );
    assert_eq!(
        rules.asked(),
        [
            "impersonate-on:user-info:create pods/foo in bar",
            "impersonate users/alice",
        ]
    );
    let text = told(all.decide(&Identity::user("root"), get, &rules).await);
    assert_eq!(
        text,
        r#"users.authentication.k8s.io "root" is forbidden: User "bob" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope: deny by default"#
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_resource_is_asked_about_by_its_path() {
    let rules = Rules::new(&[
        ("bob", "impersonate-on:user-info:get", "/metrics"),
        ("bob", "impersonate:user-info", "users/"),
    ]);
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    let path = |path| Attributes {
        path,
        resource_request: false,
        version: "",
        namespace: "",
        name: "",
        ..request(&bob, "get", "")
    };
    let alice = Identity::user("alice");
    (all.decide(&alice, path("/metrics"), &rules).await).unwrap();
    assert_eq!(
        told(all.decide(&alice, path("/logs"), &rules).await),
        r#"forbidden: User "bob" cannot impersonate-on:user-info:get path "/logs": deny by default"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_selection_is_allowed_for_itself() {
    let rules = Rules::new(&[
        ("bob", "impersonate-on:user-info:list", "pods"),
        ("bob", "impersonate:user-info", "users/"),
    ]);
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    let alice = Identity::user("alice");
    for (field, label, times) in [
        ("", "", 2),
        ("spec.nodeName=a", "", 1),
        ("spec.nodeName!=a", "", 1),
        ("spec.nodeName=a", "b in (c)", 1),
        ("spec.nodeName=a", "b in (c)", 0),
        // What is not understood is not remembered.
        ("spec.nodeName=a", "b in (", 1),
        ("spec.nodeName=a", "b in (", 1),
    ] {
        let selectors = Selectors::parse(field, label);
        let list = Attributes {
            selectors: Some(&selectors).filter(|selectors| !selectors.is_empty()),
            ..request(&bob, "list", "pods")
        };
        all.decide(&alice, list, &rules).await.unwrap();
        assert_eq!(rules.asked().len(), times, "{field} {label}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_account_brings_its_groups() {
    let rules = Rules::new(&[
        ("bob", "impersonate-on:serviceaccount:get", "pods"),
        ("bob", "impersonate:serviceaccount", "serviceaccounts/sa"),
        ("eve", "impersonate", "serviceaccounts/sa"),
        ("eve", "impersonate", "groups/dev"),
    ]);
    let all = Impersonation::default();
    let account = Identity::user("system:serviceaccount:ns:sa");
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:ns",
        AUTHENTICATED,
    ];
    for (user, constraint, asked) in [
        (
            "bob",
            Some("impersonate:serviceaccount"),
            "impersonate:serviceaccount serviceaccounts/sa of authentication.k8s.io in ns",
        ),
        ("eve", None, "impersonate serviceaccounts/sa in ns"),
    ] {
        let user = Identity::user(user);
        let get = request(&user, "get", "pods");
        let acting = all.decide(&account, get, &rules).await.unwrap();
        assert_eq!(acting.user.groups, groups);
        assert_eq!(acting.constraint, constraint);
        assert_eq!(rules.asked().pop().unwrap(), asked);
    }
    // Who asks for groups has those.
    let grouped = wanted(&account.name, &["dev"], &[]);
    let eve = Identity::user("eve");
    let get = request(&eve, "get", "pods");
    let acting = all.decide(&grouped, get, &rules).await.unwrap();
    assert_eq!(acting.user.groups, ["dev", AUTHENTICATED]);
}

#[tokio::test(start_paused = true)]
async fn groups_and_extra_values_are_asked_about_one_by_one_or_all_at_once() {
    let rules = Rules::new(&[
        ("one", "impersonate-on:user-info:get", "pods"),
        ("one", "impersonate:user-info", "users/"),
        ("one", "impersonate:user-info", "uids/"),
        ("one", "impersonate:user-info", "groups/g"),
        ("one", "impersonate:user-info", "userextras/a.io/k/v"),
        ("all", "impersonate-on:user-info:get", "pods"),
        ("all", "impersonate:user-info", "users/"),
        ("all", "impersonate:user-info", "groups/*"),
        ("all", "impersonate:user-info", "userextras/*/*"),
    ]);
    let all = Impersonation::default();
    let of = |what: &str| format!("impersonate:user-info {what} of authentication.k8s.io");
    let few = Identity {
        uid: "1".to_owned(),
        ..wanted("alice", &["g1", "g2"], &[("a.io/k", &["v1", "v2"])])
    };
    let groups = ["g1", "g2", "g3", "g4"];
    let values: &[&str] = &["v1", "v2", "v3", "v4"];
    let many = wanted("alice", &groups, &[("a.io/k", values)]);
    let one = Identity::user("one");
    let acting = all.decide(&few, request(&one, "get", "pods"), &rules).await;
    let acting = acting.unwrap().user;
    assert_eq!((&acting.uid, &acting.extra), (&few.uid, &few.extra));
    assert_eq!(acting.groups, ["g1", "g2", AUTHENTICATED]);
    assert_eq!(
        rules.asked()[1..],
        [
            of("users/alice"),
            of("uids/1"),
            of("groups/g1"),
            of("groups/g2"),
            of("userextras/a.io/k/v1"),
            of("userextras/a.io/k/v2"),
        ]
    );
    (all.decide(&many, request(&one, "get", "pods"), &rules)
        .await)
        .unwrap();
    let asked = rules.asked();
    assert_eq!(asked[2..4], [of("groups/*"), of("groups/g1")]);
    assert_eq!(
        asked[7..9],
        [of("userextras/*/*"), of("userextras/a.io/k/v1")]
    );
    let every = Identity::user("all");
    (all.decide(&many, request(&every, "get", "pods"), &rules)
        .await)
        .unwrap();
    assert_eq!(
        rules.asked()[1..],
        [of("users/alice"), of("groups/*"), of("userextras/*/*")]
    );
}

/// May be anybody in constrained modes, and in no other.
#[derive(Debug)]
struct Constrained;

#[async_trait]
impl Authorizer for Constrained {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        match a.verb {
            "impersonate" => Decision::no_opinion(),
            _ => Decision::Allow,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_is_cannot_be_acted_as_in_constrained_modes() {
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    for (groups, extra, text) in [
        (
            &["a", "system:masters"][..],
            &[][..],
            r#"groups.authentication.k8s.io "system:masters" is forbidden: User "bob" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed"#,
        ),
        (
            &["a", "b", "c", "d", ""],
            &[],
            r#"groups.authentication.k8s.io is forbidden: User "bob" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the empty string group is not allowed"#,
        ),
        (
            &[],
            &[("", &["v"][..])],
            "impersonating the empty string key in extra is not allowed",
        ),
        (
            &[],
            &[("scopes", &["v"])],
            r#"userextras.authentication.k8s.io is forbidden: User "bob" cannot impersonate:user-info resource "userextras" in API group "authentication.k8s.io" at the cluster scope: impersonating an invalid key in extra is not allowed: extra.key: Invalid value: "scopes": must be a domain-prefixed path (such as "acme.io/foo")"#,
        ),
        (
            &[],
            &[("a.io/K", &["v"])],
            r#"impersonating a non-lowercase key in extra is not allowed: "a.io/K""#,
        ),
        (
            &[],
            &[("a.io/k", &["v", ""])],
            "impersonating the empty string value in extra is not allowed",
        ),
    ] {
        let wanted = wanted("alice", groups, extra);
        let said = all.decide(&wanted, request(&bob, "get", "pods"), &Constrained);
        let said = told(said.await);
        assert!(said.ends_with(text), "{said}");
    }
    // The classic mode takes them as before, from who may all.
    let root = Identity::system_masters();
    let wanted = wanted("alice", &["", MASTERS], &[("Scopes", &[""])]);
    let get = request(&root, "get", "pods");
    let acting = (all.decide(&wanted, get, &authz::AllowMasters).await).unwrap();
    assert_eq!(acting.constraint, None);
    assert_eq!(acting.user.groups, ["", MASTERS, AUTHENTICATED]);
    assert_eq!(acting.user.extra, wanted.extra);
}

#[tokio::test(start_paused = true)]
async fn the_mode_that_worked_last_is_tried_first_and_speaks_first() {
    let rules = Rules::new(&[
        ("bob", "impersonate", "users/alice"),
        ("bob", "impersonate-on:user-info:get", "pods"),
        ("bob", "impersonate:user-info", "users/carol"),
    ]);
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    let get = request(&bob, "get", "pods");
    let list = request(&bob, "list", "pods");
    let [alice, carol, root] = ["alice", "carol", "root"].map(Identity::user);
    let constrained = told(all.decide(&root, list, &rules).await);
    assert!(
        constrained.contains("impersonate-on:user-info:list"),
        "{constrained}"
    );
    rules.asked();
    (all.decide(&alice, list, &rules).await).unwrap();
    assert_eq!(rules.asked().len(), 2);
    // From now on the classic mode costs what it always did.
    (all.decide(&alice, list, &rules).await).unwrap();
    assert_eq!(rules.asked(), ["impersonate users/alice"]);
    assert_eq!(
        told(all.decide(&root, list, &rules).await),
        r#"users "root" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope: deny by default"#
    );
    rules.asked();
    (all.decide(&carol, get, &rules).await).unwrap();
    assert_eq!(rules.asked().len(), 3);
    (all.decide(&carol, get, &rules).await).unwrap();
    assert_eq!(rules.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_is_known_by_nobody_is_in_the_group_of_those() {
    let all = Impersonation::default();
    let root = Identity::system_masters();
    for (name, groups, all_groups) in [
        ("alice", &[][..], &[AUTHENTICATED][..]),
        ("alice", &[UNAUTHENTICATED], &[UNAUTHENTICATED]),
        ("alice", &[AUTHENTICATED], &[AUTHENTICATED]),
        ("alice", &["a"], &["a", AUTHENTICATED]),
        ("system:anonymous", &[], &[UNAUTHENTICATED]),
        ("system:anonymous", &["a"], &["a", UNAUTHENTICATED]),
        (
            "system:anonymous",
            &[AUTHENTICATED],
            &[AUTHENTICATED, UNAUTHENTICATED],
        ),
    ] {
        let wanted = wanted(name, groups, &[]);
        let get = request(&root, "get", "pods");
        let acting = all.decide(&wanted, get, &authz::AllowMasters).await;
        assert_eq!(acting.unwrap().user.groups, all_groups, "{name} {groups:?}");
    }
}

/// Cannot say.
#[derive(Debug)]
struct Broken(&'static str);

#[async_trait]
impl Authorizer for Broken {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::NoOpinion {
            reason: self.0.to_owned(),
            error: Some("it is broken".to_owned()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_wrong_is_told() {
    let all = Impersonation::default();
    let bob = Identity::user("b<o>b");
    for (reason, told_so) in [("", "it is broken"), ("so", "it is broken: so")] {
        let get = request(&bob, "get", "pods");
        let said = told(all.decide(&Identity::user("a"), get, &Broken(reason)).await);
        let text = r#"User "b&lt;o&gt;b" cannot impersonate-on:user-info:get resource "pods""#;
        assert!(said.contains(text), "{said}");
        assert!(said.ends_with(told_so), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_by_mode() {
    let rules = Rules::new(&[("bob", "impersonate", "users/alice")]);
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    for name in ["alice", "carol"] {
        let get = request(&bob, "get", "pods");
        let _ = all.decide(&Identity::user(name), get, &rules).await;
    }
    let mut out = Writer::default();
    all.write_metrics(&mut out);
    let page = out.finish();
    for line in [
        r#"apiserver_impersonation_attempts_total{decision="allowed",mode="legacy"} 1"#,
        r#"apiserver_impersonation_attempts_total{decision="denied",mode=""} 1"#,
        r#"apiserver_impersonation_attempts_duration_seconds_count{decision="denied",mode=""} 1"#,
        r#"apiserver_impersonation_authorization_attempts_total{decision="denied",mode="user-info"} 2"#,
        r#"apiserver_impersonation_authorization_attempts_total{decision="allowed",mode="legacy"} 1"#,
        r#"apiserver_impersonation_authorization_attempts_duration_seconds_count{decision="denied",mode="legacy"} 1"#,
    ] {
        assert!(page.lines().any(|l| l == line), "{line} in {page}");
    }
}

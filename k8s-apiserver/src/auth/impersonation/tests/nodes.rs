//! Who acts as a node.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;

use super::*;

const AGENT: &str = "system:serviceaccount:kube-system:agent";

fn agent(node: &str) -> Identity {
    let mut agent = Identity::service_account("kube-system", "agent", "1");
    let extra = [(
        "authentication.kubernetes.io/node-name".to_owned(),
        vec![node.to_owned()],
    )];
    agent.extra = BTreeMap::from(extra);
    agent
}

#[tokio::test(start_paused = true)]
async fn a_node_is_acted_as_by_name_alone_and_in_its_groups() {
    let rules = Rules::new(&[
        ("bob", "impersonate-on:arbitrary-node:get", "pods"),
        ("bob", "impersonate:arbitrary-node", "nodes/a"),
        ("bob", "impersonate-on:user-info:get", "pods"),
        ("bob", "impersonate:user-info", ""),
    ]);
    let all = Impersonation::default();
    let bob = Identity::user("bob");
    let get = request(&bob, "get", "pods");
    let acting = (all
        .decide(&Identity::user("system:node:a"), get, &rules)
        .await)
        .unwrap();
    assert_eq!(acting.user.groups, [crate::auth::NODES, AUTHENTICATED]);
    assert_eq!(acting.constraint, Some("impersonate:arbitrary-node"));
    let [_, node] = rules.asked().try_into().unwrap();
    assert_eq!(
        node,
        "impersonate:arbitrary-node nodes/a of authentication.k8s.io"
    );
    assert_eq!(
        told(
            all.decide(&Identity::user("system:node:b"), get, &rules)
                .await
        ),
        r#"nodes.authentication.k8s.io "b" is forbidden: User "bob" cannot impersonate:arbitrary-node resource "nodes" in API group "authentication.k8s.io" at the cluster scope: deny by default"#
    );
    // With groups it is none of the constrained modes', whatever users bob may be.
    let grouped = wanted("system:node:a", &["system:nodes"], &[]);
    assert_eq!(
        told(all.decide(&grouped, get, &rules).await),
        r#"users "system:node:a" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope: deny by default"#
    );
    // What cannot be a node is a user like others.
    let none = Identity::user("system:node:A");
    let acting = all.decide(&none, get, &rules).await.unwrap();
    assert_eq!(acting.constraint, Some("impersonate:user-info"));
    assert_eq!(acting.user.groups, [AUTHENTICATED]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_acts_as_the_node_that_it_is_on() {
    let rules = Rules::new(&[
        (AGENT, "impersonate-on:associated-node:list", "pods"),
        (AGENT, "impersonate:associated-node", "nodes/*"),
    ]);
    let all = Impersonation::default();
    let (one, two) = (agent("one"), agent("two"));
    let list = request(&one, "list", "pods");
    let as_one = Identity::user("system:node:one");
    let acting = all.decide(&as_one, list, &rules).await.unwrap();
    assert_eq!(acting.user.name, "system:node:one");
    assert_eq!(acting.user.groups, [crate::auth::NODES, AUTHENTICATED]);
    assert_eq!(acting.user.extra, BTreeMap::new());
    assert_eq!(acting.constraint, Some("impersonate:associated-node"));
    assert_eq!(
        rules.asked(),
        [
            "impersonate-on:associated-node:list pods/foo in bar",
            "impersonate:associated-node nodes/* of authentication.k8s.io",
        ]
    );
    // What is known of one holds for the agent on another node: as that one.
    let list = request(&two, "list", "pods");
    let as_two = Identity::user("system:node:two");
    let acting = all.decide(&as_two, list, &rules).await.unwrap();
    assert_eq!(acting.user.name, "system:node:two");
    assert_eq!(rules.asked(), [""; 0]);
    // Of a node that it is not on the mode knows nothing.
    assert_eq!(
        told(all.decide(&as_one, list, &rules).await),
        format!(
            r#"pods "foo" is forbidden: User "{AGENT}" cannot impersonate-on:arbitrary-node:list resource "pods" in API group "" in the namespace "bar": deny by default"#
        )
    );
    // Nor has somebody a node who is no service account, or whose token names two.
    let mut human = one.clone();
    human.name = "human".to_owned();
    let mut both = one.clone();
    let nodes = both.extra.values_mut().next().unwrap();
    nodes.push("two".to_owned());
    for user in [&human, &both] {
        let told = told(
            all.decide(&as_one, request(user, "list", "pods"), &rules)
                .await,
        );
        assert!(
            told.contains("impersonate-on:arbitrary-node:list"),
            "{told}"
        );
    }
}

/// Sees what is known of who asks.
#[derive(Debug, Default)]
struct Extra(Mutex<Vec<BTreeMap<String, Vec<String>>>>);

#[async_trait]
impl Authorizer for Extra {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        self.0.lock().unwrap().push(a.user.extra.clone());
        Decision::Allow
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_agent_the_authorizer_sees_what_all_nodes_have_alike() {
    let seen = Extra::default();
    let all = Impersonation::default();
    let mut agent = agent("one");
    (agent.extra).insert("a".to_owned(), vec!["of this pod alone".to_owned()]);
    let node = Identity::user("system:node:one");
    (all.decide(&node, request(&agent, "list", "pods"), &seen)
        .await)
        .unwrap();
    let keys = ["a", "authentication.kubernetes.io/node-name"].map(str::to_owned);
    let alike = BTreeMap::from([(
        "authentication.kubernetes.io/associated-node-keys".to_owned(),
        keys.to_vec(),
    )]);
    assert_eq!(*seen.0.lock().unwrap(), [alike.clone(), alike]);
}

//! The conformance kit of [`Dataplane`].
//!
//! One function for each promise that can be seen without sending packets. Each takes a
//! fresh dataplane.

use std::net::SocketAddr;

use crate::{Dataplane, Protocol, RuleSet, ServicePortName, ServiceRule};

/// A rule set of `services` Services with two endpoints each.
pub fn sample(services: u8) -> RuleSet {
    let mut set = RuleSet::default();
    for n in 0..services {
        let endpoint = |host: u8| SocketAddr::from(([10, 244, n, host], 8080));
        let name = ServicePortName {
            namespace: "default".into(),
            name: format!("service-{n}"),
            port: "http".into(),
            protocol: if n % 2 == 0 {
                Protocol::Tcp
            } else {
                Protocol::Udp
            },
        };
        let rule = ServiceRule {
            cluster_ip: [10, 96, 1, n].into(),
            port: 80,
            node_port: Some(30_000 + u16::from(n)),
            external_ips: Vec::new(),
            cluster_endpoints: vec![endpoint(2), endpoint(3)],
            external_endpoints: vec![endpoint(2), endpoint(3)],
            preserve_source: n % 3 == 0,
            affinity: (n % 4 == 0).then(|| std::time::Duration::from_secs(60 + u64::from(n))),
        };
        set.services.insert(name, rule);
    }
    set
}

/// `apply` takes any rule set after any other: more, fewer, changed, none.
pub async fn any_rule_set_follows_any_other(mut dataplane: impl Dataplane) {
    let mut changed = sample(5);
    for rule in changed.services.values_mut() {
        rule.cluster_endpoints.pop();
        rule.external_endpoints.clear();
        rule.affinity = rule.affinity.map(|t| t * 2);
    }
    for set in [
        sample(3),
        sample(9),
        changed,
        sample(1),
        RuleSet::default(),
        sample(4),
    ] {
        dataplane
            .apply(&set)
            .await
            .expect("a valid rule set is taken");
    }
    dataplane
        .clear()
        .await
        .expect("what was made can be removed");
}

/// `apply` of the rules in force is accepted as often as one likes.
pub async fn the_same_rules_twice_are_no_error(mut dataplane: impl Dataplane) {
    for _ in 0..3 {
        dataplane
            .apply(&sample(4))
            .await
            .expect("rules in force are taken again");
    }
    dataplane
        .clear()
        .await
        .expect("what was made can be removed");
}

/// `clear` is idempotent, before the first `apply` too.
pub async fn clear_is_idempotent(mut dataplane: impl Dataplane) {
    for _ in 0..2 {
        dataplane
            .clear()
            .await
            .expect("clearing nothing is no error");
    }
    dataplane
        .apply(&sample(2))
        .await
        .expect("a cleared dataplane can be used");
    for _ in 0..2 {
        dataplane.clear().await.expect("clearing twice is no error");
    }
}

/// A new dataplane takes over what an older one left.
pub async fn a_new_instance_takes_over<D: Dataplane>(mut make: impl FnMut() -> D) {
    let mut first = make();
    first
        .apply(&sample(5))
        .await
        .expect("a valid rule set is taken");
    drop(first);
    let mut second = make();
    second
        .apply(&sample(2))
        .await
        .expect("rules left behind are no obstacle");
    second.clear().await.expect("what was made can be removed");
}

/// Expands to one test for each promise, over a dataplane made by the expression.
#[macro_export]
macro_rules! dataplane_conformance {
    ($(#[$attribute:meta])* $make:expr) => {
        $crate::dataplane_conformance!(@each [$(#[$attribute])*] $make;
            any_rule_set_follows_any_other, the_same_rules_twice_are_no_error, clear_is_idempotent);

        #[tokio::test]
        $(#[$attribute])*
        async fn a_new_instance_takes_over() {
            $crate::testing::a_new_instance_takes_over(|| $make).await;
        }
    };
    (@each $attributes:tt $make:expr; $($name:ident),*) => {
        $($crate::dataplane_conformance!(@one $attributes $name $make);)*
    };
    (@one [$($attribute:tt)*] $name:ident $make:expr) => {
        #[tokio::test]
        $($attribute)*
        async fn $name() {
            $crate::testing::$name($make).await;
        }
    };
}

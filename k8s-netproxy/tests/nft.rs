//! The dataplane's promises, kept by nftables, each in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use k8s_netproxy::{Dataplane, NftDataplane, testing};

/// A network namespace that ends with the value.
struct Netns(String);

impl Netns {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "netproxy-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        assert!(
            Command::new("ip")
                .args(["netns", "add", &name])
                .status()
                .unwrap()
                .success()
        );
        Self(name)
    }

    fn dataplane(&self) -> NftDataplane {
        NftDataplane::in_netns(format!("/run/netns/{}", self.0))
    }

    fn ruleset(&self) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0, "nft", "list", "ruleset"])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[tokio::test]
#[ignore = "needs root and nft"]
async fn any_rule_set_follows_any_other() {
    let netns = Netns::new();
    testing::any_rule_set_follows_any_other(netns.dataplane()).await;
    assert_eq!(netns.ruleset(), "");
}

#[tokio::test]
#[ignore = "needs root and nft"]
async fn the_same_rules_twice_are_no_error() {
    let netns = Netns::new();
    testing::the_same_rules_twice_are_no_error(netns.dataplane()).await;
}

#[tokio::test]
#[ignore = "needs root and nft"]
async fn clear_is_idempotent() {
    let netns = Netns::new();
    testing::clear_is_idempotent(netns.dataplane()).await;
    assert_eq!(netns.ruleset(), "");
}

#[tokio::test]
#[ignore = "needs root and nft"]
async fn a_new_instance_takes_over() {
    let netns = Netns::new();
    testing::a_new_instance_takes_over(|| netns.dataplane()).await;
    assert_eq!(netns.ruleset(), "");
}

#[tokio::test]
#[ignore = "needs root and nft"]
async fn an_incremental_change_ends_where_a_fresh_start_does() {
    let (grown, fresh) = (Netns::new(), Netns::new());
    let mut dataplane = grown.dataplane();
    for services in [6, 2, 8, 5] {
        dataplane.apply(&testing::sample(services)).await.unwrap();
    }
    fresh.dataplane().apply(&testing::sample(5)).await.unwrap();
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(|l| l.trim().to_owned()).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(grown.ruleset()), sorted(fresh.ruleset()));
}

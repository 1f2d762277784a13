//! What goes wrong when it is asked to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_testing::{Faults, Identity, TestCluster, faults::Fault};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"n": "0"}})).unwrap()
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, what)
        .await
        .expect("waited in vain")
}

struct Setup {
    cluster: TestCluster,
    /// Without faults.
    good: Api<ConfigMap>,
    /// With them.
    bad: Api<ConfigMap>,
}

async fn setup(faults: &Faults) -> Setup {
    let cluster = TestCluster::builder().start().await.unwrap();
    let bad = cluster.client_with_faults(Identity::system_masters(), faults);
    Setup {
        good: Api::default_namespaced(cluster.client()),
        bad: Api::default_namespaced(bad),
        cluster,
    }
}

/// The names of the objects that a watch tells of when `x0` to `x4` are made, and then `end`, of
/// which the watch is told in any case.
async fn told(setup: &Setup) -> Vec<String> {
    let list = setup.good.list(&ListParams::default()).await.unwrap();
    let from = list.metadata.resource_version.unwrap();
    let watch = setup
        .bad
        .watch(&WatchParams::default(), &from)
        .await
        .unwrap();
    for n in 0..5 {
        let map = config_map(&format!("x{n}"));
        setup
            .good
            .create(&PostParams::default(), &map)
            .await
            .unwrap();
    }
    let mut watch = watch.boxed();
    let mut names = Vec::new();
    let mut number = 0;
    loop {
        // Whatever is dropped, one of these comes through in the end.
        let next = tokio::select! {
            biased;
            next = watch.next() => next,
            () = tokio::task::yield_now() => {
                number += 1;
                let map = config_map(&format!("end{number}"));
                setup.good.create(&PostParams::default(), &map).await.unwrap();
                continue;
            }
        };
        match next {
            Some(Ok(WatchEvent::Added(map))) => {
                let name = map.metadata.name.unwrap();
                if name.starts_with("end") {
                    return names;
                }
                names.push(name);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return names,
        }
    }
}

#[tokio::test]
async fn events_are_repeated() {
    let setup = setup(&Faults::seeded(1).repeated_events(1.0)).await;
    let names = in_time(told(&setup)).await;
    assert_eq!(
        names,
        ["x0", "x0", "x1", "x1", "x2", "x2", "x3", "x3", "x4", "x4"]
    );
}

#[tokio::test]
async fn events_are_dropped() {
    let faults = Faults::seeded(1).dropped_events(1.0).at_most(3);
    let setup = setup(&faults).await;
    assert_eq!(in_time(told(&setup)).await, ["x3", "x4"]);
    let events: Vec<_> = faults.injected().iter().map(|i| i.event).collect();
    assert_eq!(events, [Some(0), Some(1), Some(2)]);
}

#[tokio::test]
async fn events_come_late_and_in_order() {
    let late = Duration::from_secs(3);
    let faults = Faults::seeded(1).delayed_events(1.0, late).at_most(2);
    let setup = setup(&faults).await;
    // From here on, time passes only while everybody waits.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let list = setup.good.list(&ListParams::default()).await.unwrap();
    let from = list.metadata.resource_version.unwrap();
    let watch = setup
        .bad
        .watch(&WatchParams::default(), &from)
        .await
        .unwrap();
    for n in 0..5 {
        let map = config_map(&format!("x{n}"));
        setup
            .good
            .create(&PostParams::default(), &map)
            .await
            .unwrap();
    }
    let names: Vec<String> = watch
        .try_filter_map(async |event| {
            Ok(match event {
                WatchEvent::Added(map) => map.metadata.name,
                _ => None,
            })
        })
        .take(5)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(names, ["x0", "x1", "x2", "x3", "x4"]);
    assert!(start.elapsed() >= late * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn reads_are_stale() {
    let setup = setup(&Faults::seeded(1).stale_reads(1.0)).await;
    setup
        .good
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    let first = setup.bad.get("x").await.unwrap();
    let patch = Patch::Merge(json!({"data": {"n": "1"}}));
    setup
        .good
        .patch("x", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(setup.bad.get("x").await.unwrap(), first);
    assert_eq!(setup.good.get("x").await.unwrap().data.unwrap()["n"], "1");
    // A write on what is stale is refused by the server itself.
    let refused = setup.bad.replace("x", &PostParams::default(), &first).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.is_conflict()));
}

#[tokio::test]
async fn a_stale_read_has_the_form_that_was_asked_for() {
    let setup = setup(&Faults::seeded(1).stale_reads(1.0)).await;
    setup
        .good
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    setup.bad.get_metadata("x").await.unwrap();
    let whole = setup.bad.get("x").await.unwrap();
    assert_eq!(whole.data.unwrap()["n"], "0");
}

#[tokio::test]
async fn what_was_on_its_way_does_not_arrive_over_a_network_that_is_cut() {
    let late = Duration::from_secs(3);
    let faults = Faults::seeded(1).delayed_events(1.0, late);
    let setup = setup(&faults).await;
    tokio::time::pause();
    let list = setup.good.list(&ListParams::default()).await.unwrap();
    let from = list.metadata.resource_version.unwrap();
    let watch = setup
        .bad
        .watch(&WatchParams::default(), &from)
        .await
        .unwrap();
    let mut watch = watch.boxed();
    for n in 0..2 {
        let map = config_map(&format!("x{n}"));
        setup
            .good
            .create(&PostParams::default(), &map)
            .await
            .unwrap();
    }
    // The first event is there, and late.
    assert!(futures::poll!(watch.next()).is_pending());
    let start = tokio::time::Instant::now();
    faults.cut();
    assert!(!matches!(watch.next().await, Some(Ok(_))));
    assert!(start.elapsed() < late, "{:?}", start.elapsed());
}

#[tokio::test]
async fn conflicts_do_not_write() {
    let setup = setup(&Faults::seeded(1).conflicts(1.0).at_most(1)).await;
    let made = setup
        .bad
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"data": {"n": "1"}}));
    let refused = setup.bad.patch("x", &PatchParams::default(), &patch).await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes to the latest version and try again"
    );
    assert_eq!(setup.good.get("x").await.unwrap(), made);
    let patched = setup
        .bad
        .patch("x", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap()["n"], "1");
}

#[tokio::test]
async fn a_write_takes_place_and_is_answered_with_500() {
    let setup = setup(&Faults::seeded(1).errors_after_writes(1.0)).await;
    let refused = setup
        .bad
        .create(&PostParams::default(), &config_map("x"))
        .await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 500));
    assert!(setup.good.get_opt("x").await.unwrap().is_some());
}

#[tokio::test]
async fn a_write_that_is_refused_is_not_said_to_have_taken_place() {
    let faults = Faults::seeded(1).errors_after_writes(1.0);
    let setup = setup(&faults).await;
    let map = config_map("x");
    setup
        .good
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
    let refused = setup.bad.create(&PostParams::default(), &map).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.is_already_exists()));
    assert_eq!(faults.injected(), []);
}

#[tokio::test]
async fn connections_are_lost_before_and_after_the_request() {
    let faults = Faults::seeded(3).lost_connections(0.8);
    let setup = setup(&faults).await;
    for n in 0..40 {
        let map = config_map(&format!("x{n}"));
        let _ = setup.bad.create(&PostParams::default(), &map).await;
    }
    let injected = faults.injected();
    let count = |fault| injected.iter().filter(|i| i.fault == fault).count();
    let (before, after) = (count(Fault::LostRequest), count(Fault::LostAnswer));
    assert!(before > 0 && after > 0, "{injected:?}");
    let there = setup.good.list(&ListParams::default()).await.unwrap();
    let there = there
        .iter()
        .filter(|m| m.metadata.name.as_ref().unwrap().starts_with('x'));
    assert_eq!(
        there.count(),
        40 - before,
        "only what was lost on its way was not written"
    );
}

#[tokio::test]
async fn a_watcher_survives_lost_watches_and_restarts() {
    let faults = Faults::seeded(5).lost_connections(0.3).repeated_events(0.3);
    let setup = setup(&faults).await;
    let config = watcher::Config::default();
    let watch = watcher(setup.bad.clone(), config)
        .default_backoff()
        .applied_objects()
        .try_filter(|map| std::future::ready(map.metadata.name.as_deref() == Some("end")))
        .filter_map(|found| std::future::ready(found.ok()));
    let seen = tokio::spawn(async move { std::pin::pin!(watch).next().await });
    for n in 0..20 {
        let map = config_map(&format!("x{n}"));
        setup
            .good
            .create(&PostParams::default(), &map)
            .await
            .unwrap();
        if n == 10 {
            setup.cluster.restart().await.unwrap();
        }
    }
    setup
        .good
        .create(&PostParams::default(), &config_map("end"))
        .await
        .unwrap();
    assert!(in_time(seen).await.unwrap().is_some());
}

#[tokio::test]
async fn a_seed_replays() {
    let run = async |seed| {
        let faults = Faults::seeded(seed).conflicts(0.5).errors_after_writes(0.3);
        let setup = setup(&faults).await;
        let map = config_map("x");
        setup
            .good
            .create(&PostParams::default(), &map)
            .await
            .unwrap();
        for n in 0..30 {
            let patch = Patch::Merge(json!({"data": {"n": n.to_string()}}));
            let _ = setup.bad.patch("x", &PatchParams::default(), &patch).await;
        }
        faults.injected()
    };
    let first = run(11).await;
    assert!(!first.is_empty());
    assert_eq!(first, run(11).await);
    assert_ne!(first, run(12).await);
}

#[tokio::test]
async fn only_what_is_meant_is_hit() {
    let faults = Faults::seeded(1)
        .errors_after_writes(1.0)
        .only_paths_with("/secrets");
    let setup = setup(&faults).await;
    setup
        .bad
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    assert_eq!(faults.injected(), []);
}

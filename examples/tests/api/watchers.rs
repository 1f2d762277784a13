//! Watches over ConfigMaps.

use serde_json::{Value, json};

use crate::{
    Entry,
    fixture::Fixture,
    rest::{Rest, Watch},
};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps",
        watchers_see_what_their_selectors_match,
    ),
    (
        "[sig-api-machinery] Watchers should be able to start watching from a specific resource version",
        a_watch_starts_after_the_revision_that_it_names,
    ),
    (
        "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch",
        a_watch_goes_on_where_another_ended,
    ),
    (
        "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector",
        what_leaves_the_selector_is_deleted_to_the_watcher,
    ),
    (
        "[sig-api-machinery] Watchers should receive events on concurrent watches in same order",
        concurrent_watches_have_one_order,
    ),
];

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"watch": label}}})
}

fn at(name: &str) -> String {
    format!("{MAPS}/{name}")
}

/// Watches the ConfigMaps whose label has one of these values, given as `a` or `a,b`.
async fn watch(api: &Rest, values: &str) -> Watch {
    let values = values.replace(',', "%2C");
    api.watch(&format!("{MAPS}?labelSelector=watch%20in%20%28{values}%29"))
        .await
}

async fn mutate(api: &Rest, name: &str, value: &str) -> Value {
    api.merge(&at(name), json!({"data": {"mutation": value}}))
        .await
}

fn revision(object: &Value) -> &str {
    let revision = object["metadata"]["resourceVersion"].as_str();
    revision.expect("a resource version")
}

#[tokio::test]
async fn watchers_see_what_their_selectors_match() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let mut a = watch(api, "a").await;
    let mut b = watch(api, "b").await;
    let mut both = watch(api, "a,b").await;

    let made = api.create(MAPS, map("a", "a")).await;
    let once = mutate(api, "a", "1").await;
    let twice = mutate(api, "a", "2").await;
    api.delete(&at("a")).await;
    for watch in [&mut a, &mut both] {
        watch.brings("ADDED", &made).await;
        watch.brings("MODIFIED", &once).await;
        watch.brings("MODIFIED", &twice).await;
        watch.brings("DELETED", &made).await;
    }
    let made = api.create(MAPS, map("b", "b")).await;
    api.delete(&at("b")).await;
    for watch in [&mut b, &mut both] {
        watch.brings("ADDED", &made).await;
        watch.brings("DELETED", &made).await;
    }
    // Events are in order: were there one of b, it would come before this.
    let made = api.create(MAPS, map("last", "a")).await;
    a.brings("ADDED", &made).await;
}

#[tokio::test]
async fn a_watch_starts_after_the_revision_that_it_names() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    api.create(MAPS, map("it", "a")).await;
    let once = mutate(api, "it", "1").await;
    let twice = mutate(api, "it", "2").await;
    api.delete(&at("it")).await;
    let path = format!(
        "{MAPS}?labelSelector=watch%3Da&resourceVersion={}",
        revision(&once)
    );
    let mut late = api.watch(&path).await;
    late.brings("MODIFIED", &twice).await;
    late.brings("DELETED", &twice).await;
}

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let mut first = watch(api, "a").await;
    let made = api.create(MAPS, map("it", "a")).await;
    mutate(api, "it", "1").await;
    first.brings("ADDED", &made).await;
    let (kind, last) = first.next().await;
    assert_eq!(kind, "MODIFIED");
    drop(first);
    let missed = mutate(api, "it", "2").await;
    let path = format!(
        "{MAPS}?labelSelector=watch%3Da&resourceVersion={}",
        revision(&last)
    );
    let mut second = api.watch(&path).await;
    api.delete(&at("it")).await;
    second.brings("MODIFIED", &missed).await;
    second.brings("DELETED", &missed).await;
}

#[tokio::test]
async fn what_leaves_the_selector_is_deleted_to_the_watcher() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let label = |value: &str| json!({"metadata": {"labels": {"watch": value}}});
    let mut watch = watch(api, "a").await;
    let made = api.create(MAPS, map("it", "a")).await;
    let once = mutate(api, "it", "1").await;
    api.merge(&at("it"), label("wrong")).await;
    watch.brings("ADDED", &made).await;
    watch.brings("MODIFIED", &once).await;
    watch.brings("DELETED", &once).await;
    // Unseen: the next event is of what comes after it.
    mutate(api, "it", "2").await;
    let back = api.merge(&at("it"), label("a")).await;
    let thrice = mutate(api, "it", "3").await;
    api.delete(&at("it")).await;
    watch.brings("ADDED", &back).await;
    watch.brings("MODIFIED", &thrice).await;
    watch.brings("DELETED", &thrice).await;
}

#[tokio::test]
async fn concurrent_watches_have_one_order() {
    const WATCHES: usize = 40;
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let list = api.get(MAPS).await;
    let writer = tokio::spawn(produce(api.clone()));
    let mut from = revision(&list).to_owned();
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let path = format!("{MAPS}?resourceVersion={from}");
        watches.push(api.watch(&path).await);
        // The oldest watch leads, and each one's next event is the same.
        let mut next = None;
        for watch in &mut watches {
            let (_, object) = watch.next().await;
            let seen = revision(&object).to_owned();
            assert_eq!(*next.get_or_insert_with(|| seen.clone()), seen);
        }
        from = next.expect("a watch");
    }
    writer.abort();
}

/// Creates, changes and deletes ConfigMaps until it is stopped.
async fn produce(api: Rest) {
    for round in 0.. {
        let name = format!("map-{}", round % 3);
        match (round / 3) % 3 {
            0 => drop(api.create(MAPS, map(&name, "any")).await),
            1 => drop(mutate(&api, &name, &round.to_string()).await),
            _ => drop(api.delete(&at(&name)).await),
        }
    }
}

//! Events, in the core group and in their own.

use serde_json::{Value, json};

use crate::{
    Entry,
    fixture::Fixture,
    rest::{Rest, STRATEGIC},
};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-instrumentation] Events should manage the lifecycle of an event",
        a_core_event_lives,
    ),
    (
        "[sig-instrumentation] Events should delete a collection of events",
        core_events_are_deleted_together,
    ),
    (
        "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed",
        an_event_lives,
    ),
    (
        "[sig-instrumentation] Events API should delete a collection of events",
        events_are_deleted_together,
    ),
];

const CORE: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn core_event(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"test": "events"}},
        "message": "This is a test event", "reason": "Test", "type": "Normal", "count": 1,
        "involvedObject": {"namespace": "default"},
    })
}

fn event(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"test": "events"}},
        "regarding": {"namespace": "default"}, "action": "Do", "reason": "Test", "type": "Normal",
        "note": "This is a test event", "eventTime": "2026-01-02T03:04:05.123456Z",
        "reportingController": "test-controller", "reportingInstance": "test-node",
    })
}

fn series() -> Value {
    json!({"count": 100, "lastObservedTime": "2026-01-02T03:05:05.006000Z"})
}

/// What is at a path, apart from what every write changes.
async fn found(api: &Rest, path: &str) -> Value {
    bare(api.get(path).await)
}

fn bare(mut object: Value) -> Value {
    for field in ["resourceVersion", "managedFields"] {
        object["metadata"][field].take();
    }
    object
}

/// Makes events, deletes them by their label, and finds none; others stay.
async fn are_deleted_together(collection: &str, make: impl Fn(&str) -> Value) {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    for name in ["one", "two", "three"] {
        api.create(collection, make(name)).await;
    }
    let mut other = make("other");
    other["metadata"]["labels"] = json!({});
    api.create(collection, other).await;
    let labelled = format!("{collection}?labelSelector=test%3Devents");
    assert_eq!(api.list(&labelled).await.len(), 3);
    api.delete(&labelled).await;
    assert_eq!(api.list(&labelled).await.len(), 0);
    api.get(&format!("{collection}/other")).await;
}

#[tokio::test]
async fn core_events_are_deleted_together() {
    are_deleted_together(CORE, core_event).await;
}

#[tokio::test]
async fn events_are_deleted_together() {
    are_deleted_together(EVENTS, event).await;
}

#[tokio::test]
async fn a_core_event_lives() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let path = format!("{CORE}/it");
    api.create(CORE, core_event("it")).await;
    let everywhere = "/api/v1/events?labelSelector=test%3Devents";
    assert_eq!(api.list(everywhere).await.len(), 1);

    let patch = json!({"message": "This is a test event - patched"});
    let patched = api.patch(&path, STRATEGIC, patch).await;
    assert_eq!(patched["message"], "This is a test event - patched");
    let mut updated = api.get(&path).await;
    assert_eq!(updated["message"], patched["message"]);
    updated["series"] = series();
    api.replace(&path, &updated).await;
    assert_eq!(found(api, &path).await, bare(updated));

    api.delete(&path).await;
    assert_eq!(api.list(everywhere).await.len(), 0);
}

#[tokio::test]
async fn an_event_lives() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let path = format!("{EVENTS}/it");
    let count = async || {
        let here = api.list(EVENTS).await;
        let everywhere = api.list("/apis/events.k8s.io/v1/events").await;
        let is_it = |event: &&Value| event["metadata"]["name"] == "it";
        let counts = [&here, &everywhere].map(|list| list.iter().filter(is_it).count());
        assert_eq!(counts[0], counts[1]);
        counts[0]
    };
    let made = api.create(EVENTS, event("it")).await;
    assert_eq!(count().await, 1);
    assert_eq!(found(api, &path).await, bare(made.clone()));

    let patched = api
        .patch(&path, STRATEGIC, json!({"series": series()}))
        .await;
    assert_eq!(patched["series"], series());
    let mut wanted = made;
    wanted["series"] = series();
    assert_eq!(found(api, &path).await, bare(wanted));

    let mut updated = api.get(&path).await;
    updated["series"]["count"] = 101.into();
    api.replace(&path, &updated).await;
    assert_eq!(found(api, &path).await, bare(updated));

    // It is the same object in the core group, which alone lets its note be changed.
    let note = "This is a test event - patched";
    let kept = json!({"metadata": {"name": "it"}, "note": note});
    let headers = [("content-type", STRATEGIC)];
    let refused = api.send("PATCH", &path, &headers, &kept).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let core = api
        .patch(&format!("{CORE}/it"), STRATEGIC, json!({"message": note}))
        .await;
    assert_eq!(core["involvedObject"], json!({"namespace": "default"}));
    assert_eq!(core["message"], note);
    assert_eq!(api.get(&path).await["note"], note);

    api.delete(&path).await;
    assert_eq!(count().await, 0);
}

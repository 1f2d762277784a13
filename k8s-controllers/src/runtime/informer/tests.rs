use futures::stream;
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::*;

fn object(name: &str, version: &str, uid: &str, owner: Option<&str>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some("default".to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some(version.to_owned()),
            uid: Some(uid.to_owned()),
            owner_references: owner.map(|uid| {
                vec![OwnerReference {
                    uid: uid.to_owned(),
                    ..Default::default()
                }]
            }),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn recording() -> (Informer<ConfigMap>, Arc<Mutex<Vec<String>>>) {
    let (informer, log) = (Informer::default(), Arc::new(Mutex::new(Vec::new())));
    let writes = log.clone();
    informer.add_handler(move |change: Change<'_, ConfigMap>| {
        let what = match &change {
            Change::Added(_) => "added",
            Change::Updated { .. } => "updated",
            Change::Deleted(_) => "deleted",
        };
        writes.lock().push(format!(
            "{what} {}",
            change.object().metadata.name.as_deref().unwrap()
        ));
    });
    (informer, log)
}

async fn feed(informer: &Informer<ConfigMap>, events: Vec<Event<ConfigMap>>) {
    informer.run(stream::iter(events.into_iter().map(Ok))).await;
}

#[tokio::test]
async fn a_relist_tells_only_what_is_different() {
    let (informer, log) = recording();
    feed(
        &informer,
        vec![
            Event::Init,
            Event::InitApply(object("a", "1", "ua", None)),
            Event::InitApply(object("b", "1", "ub", None)),
            Event::InitApply(object("c", "1", "uc", None)),
            Event::InitDone,
        ],
    )
    .await;
    assert!(informer.has_synced());
    assert_eq!(
        log.lock().drain(..).collect::<Vec<_>>(),
        ["added a", "added b", "added c"]
    );
    feed(
        &informer,
        vec![
            Event::Init,
            Event::InitApply(object("a", "1", "ua", None)),
            Event::InitApply(object("b", "2", "other", None)),
            Event::InitDone,
        ],
    )
    .await;
    assert_eq!(
        log.lock().drain(..).collect::<Vec<_>>(),
        ["deleted b", "added b", "deleted c"]
    );
    assert_eq!(informer.len(), 2);
}

#[tokio::test]
async fn indexes_follow_the_objects() {
    let (informer, _) = recording();
    informer.add_index("version", |object: &ConfigMap| {
        object.metadata.resource_version.iter().cloned().collect()
    });
    feed(
        &informer,
        vec![
            Event::Apply(object("a", "1", "ua", Some("o1"))),
            Event::Apply(object("b", "1", "ub", Some("o1"))),
        ],
    )
    .await;
    assert_eq!(informer.owned_by("o1").len(), 2);
    assert_eq!(informer.by_index("version", "1").len(), 2);
    feed(
        &informer,
        vec![
            Event::Apply(object("a", "2", "ua", Some("o2"))),
            Event::Delete(object("b", "3", "ub", Some("o1"))),
        ],
    )
    .await;
    assert!(informer.owned_by("o1").is_empty());
    assert_eq!(informer.owned_by("o2").len(), 1);
    assert!(informer.by_index("version", "1").is_empty());
    assert_eq!(informer.by_index("version", "2").len(), 1);
    assert_eq!(informer.list_namespace("default").len(), 1);
    assert!(informer.list_namespace("defaul").is_empty());
}

#[tokio::test]
async fn a_late_handler_sees_what_is_there() {
    let (informer, _) = recording();
    feed(&informer, vec![Event::Apply(object("a", "1", "ua", None))]).await;
    let count = Arc::new(Mutex::new(0));
    let seen = count.clone();
    informer.add_handler(move |_: Change<'_, ConfigMap>| *seen.lock() += 1);
    assert_eq!(*count.lock(), 1);
}

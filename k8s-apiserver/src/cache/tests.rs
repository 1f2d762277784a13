use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_store::{
    Change, Committed, Entry, Error, Expect, List, MemoryStore, Op, Page, Revision, Store,
    WatchStream, Write,
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Cache, Caches, Field, Interest, Place, resource::RING};
use crate::registry::value;

fn change(key: &str, revision: u64, object: &mut dyn k8s_model::Object) -> Change {
    let entry = k8s_store::Entry {
        key: Bytes::from(key.to_owned()),
        value: value::encode(object, b"").unwrap(),
        created: Revision(revision),
        modified: Revision(revision),
    };
    Change {
        key: entry.key.clone(),
        current: Some(entry),
        previous: None,
    }
}

fn write(cache: &Cache, key: &str, revision: u64) {
    cache.apply(
        revision,
        &[change(key, revision, &mut ConfigMap::default())],
    );
    cache.wake_if_due(Instant::now());
}

fn loaded() -> Arc<Cache> {
    let cache = Arc::new(Cache::loading());
    cache.load(Vec::new(), 0);
    cache
}

fn below(prefix: &'static str) -> Interest {
    Interest::Below(Bytes::from_static(prefix.as_bytes()))
}

/// The revisions of what is next, or that it is there no more.
fn read(place: &mut Place) -> Result<Vec<u64>, super::place::Lagged> {
    let mut events = Vec::new();
    place.read(usize::MAX, &mut events)?;
    Ok(events.iter().map(|event| event.revision).collect())
}

#[tokio::test]
async fn a_cache_that_is_closed_while_it_is_loaded_stays_closed() {
    let cache = Arc::new(Cache::loading());
    cache.close();
    cache.load(Vec::new(), 1);
    assert!(cache.is_closed());
    assert!(!cache.wait_ready().await);
}

#[tokio::test]
async fn a_change_wakes_those_whom_it_concerns_and_nobody_else() {
    let cache = loaded();
    let place = |interest: Interest| cache.follow(&Bytes::new(), &interest).unwrap().1;
    let (mut all, mut one) = (
        place(Interest::All),
        place(Interest::One(Bytes::from_static(b"/r/a/x"))),
    );
    let (mut here, mut there) = (place(below("/r/a/")), place(below("/r/b/")));
    write(&cache, "/r/a/x", 1);
    write(&cache, "/r/a/y", 2);
    for (place, seen) in [
        (&mut all, vec![1, 2]),
        (&mut here, vec![1, 2]),
        (&mut one, vec![1]),
    ] {
        assert!(place.changed().await.is_ok());
        assert_eq!(read(place), Ok(seen));
        assert_eq!(read(place), Ok(vec![]));
    }
    assert!(futures::poll!(std::pin::pin!(there.changed())).is_pending());
    assert_eq!(read(&mut there), Ok(vec![]));
}

#[tokio::test]
async fn a_field_concerns_those_who_select_by_its_value_now_or_before() {
    let table = k8s_model::ResourceTable::builtin();
    let pods = table.resource("", "v1", "pods").unwrap().clone();
    let cache = loaded();
    let on = |node: &str| {
        let field = Field {
            resource: pods.clone(),
            name: "spec.nodeName".into(),
            value: node.into(),
        };
        cache
            .follow(&Bytes::new(), &Interest::Field(field))
            .unwrap()
            .1
    };
    let (mut nowhere, mut first, mut second) = (on(""), on("first"), on("second"));
    for (revision, node) in [(1, ""), (2, "first"), (3, "first")] {
        let mut pod = Pod::default();
        let spec = pod.spec.get_or_insert_default();
        spec.node_name = Some(node.to_owned()).filter(|n| !n.is_empty());
        cache.apply(revision, &[change("/r/a/x", revision, &mut pod)]);
        cache.wake_if_due(Instant::now());
    }
    assert_eq!(read(&mut nowhere), Ok(vec![1, 2]));
    assert_eq!(read(&mut first), Ok(vec![2, 3]));
    assert_eq!(read(&mut second), Ok(vec![]));
}

#[tokio::test]
async fn only_changes_that_concern_a_reader_leave_it_behind() {
    let cache = loaded();
    let mut quiet = cache.follow(&Bytes::new(), &below("/r/quiet/")).unwrap().1;
    let mut busy = cache.follow(&Bytes::new(), &below("/r/busy/")).unwrap().1;
    let mut late = cache.follow(&Bytes::new(), &below("/r/quiet/")).unwrap().1;
    write(&cache, "/r/quiet/x", 1);
    assert_eq!(read(&mut quiet), Ok(vec![1]));
    let newest = RING as u64 + 1;
    for revision in 2..=newest {
        write(&cache, "/r/busy/x", revision);
    }
    write(&cache, "/r/quiet/x", newest + 1);
    assert_eq!(read(&mut quiet), Ok(vec![newest + 1]));
    assert!(read(&mut busy).is_err());
    assert!(read(&mut late).is_err());
}

#[tokio::test]
async fn who_begins_in_the_past_sees_what_others_of_the_audience_had_before() {
    let cache = loaded();
    for revision in 1..=3 {
        write(&cache, "/r/a/x", revision);
        write(&cache, "/r/b/x", revision + 10);
    }
    let mut now = cache.follow(&Bytes::new(), &below("/r/a/")).unwrap().1;
    let mut past = cache.follow_after(1, &below("/r/a/")).unwrap();
    write(&cache, "/r/a/x", 20);
    assert_eq!(read(&mut now), Ok(vec![20]));
    assert_eq!(read(&mut past), Ok(vec![2, 3, 20]));
}

#[tokio::test]
async fn what_one_wrote_serves_others_at_the_same_place_in_the_same_manner() {
    let cache = loaded();
    let mut places: Vec<Place> = (0..4)
        .map(|_| cache.follow(&Bytes::new(), &Interest::All).unwrap().1)
        .collect();
    write(&cache, "/r/a/x", 1);
    let (json, table): (Arc<str>, Arc<str>) = ("json".into(), "other".into());
    let bytes = Bytes::from_static(b"written");
    let mut first = places.remove(0);
    assert_eq!(first.written(&json, 0), None);
    let from = first.next();
    assert_eq!(read(&mut first), Ok(vec![1]));
    first.keep(&json, from, 1, &bytes);

    let second = &mut places[0];
    assert_eq!(second.written(&table, 0), None);
    // Who has seen that change does not take what tells of it.
    assert_eq!(second.written(&json, 1), None);
    assert_eq!(second.written(&json, 0), Some(bytes));
    assert_eq!(read(second), Ok(vec![]));
}

#[tokio::test]
async fn many_read_up_to_the_change_that_they_were_told_of_together() {
    let cache = loaded();
    let mut places: Vec<Place> = (0..10)
        .map(|_| cache.follow(&Bytes::new(), &Interest::All).unwrap().1)
        .collect();
    let now = Instant::now();
    let apply = |revision| {
        cache.apply(
            revision,
            &[change("/r/a/x", revision, &mut ConfigMap::default())],
        )
    };
    apply(1);
    assert_eq!(cache.wake_if_due(now), None);
    // They are left alone for a while, some of them before they have read.
    assert_eq!(read(&mut places[0]), Ok(vec![1]));
    apply(2);
    apply(3);
    let later = cache.wake_if_due(now).unwrap();
    assert_eq!(read(&mut places[0]), Ok(vec![]));
    assert_eq!(read(&mut places[1]), Ok(vec![1]));
    let mut late = cache.follow_after(1, &Interest::All).unwrap();
    assert_eq!(read(&mut late), Ok(vec![2, 3]));

    assert_eq!(cache.wake_if_due(later), None);
    assert_eq!(read(&mut places[0]), Ok(vec![2, 3]));
    assert_eq!(read(&mut places[2]), Ok(vec![1, 2, 3]));
    apply(4);
    assert!(cache.wake_if_due(later).is_some());
    assert_eq!(read(&mut late), Ok(vec![]));
    // As before a bookmark, which tells that they have seen everything.
    late.catch_up();
    assert_eq!(read(&mut late), Ok(vec![4]));
    apply(5);
    cache.close();
    assert_eq!(read(&mut places[1]), Ok(vec![2, 3, 4, 5]));
}

#[tokio::test]
async fn parts_of_the_server_are_told_at_once_while_clients_are_left_alone() {
    let cache = loaded();
    let mut clients: Vec<Place> = (0..10)
        .map(|_| cache.follow(&Bytes::new(), &Interest::All).unwrap().1)
        .collect();
    let mut parts: Vec<Place> = (0..10)
        .map(|_| cache.follow_at_once(&Bytes::new()).1)
        .collect();
    let now = Instant::now();
    for revision in 1..=3 {
        let written = change("/r/a/x", revision, &mut ConfigMap::default());
        cache.apply(revision, &[written]);
        let later = cache.wake_if_due(now);
        assert_eq!(later.is_some(), revision > 1);
        for part in &mut parts {
            assert!(part.changed().await.is_ok());
            assert_eq!(read(part), Ok(vec![revision]));
        }
    }
    assert_eq!(read(&mut clients[0]), Ok(vec![1]));
    let mut later = cache.follow_at_once(&Bytes::new()).1;
    assert_eq!(read(&mut later), Ok(vec![]));
    cache.close();
    assert!(later.changed().await.is_ok());
}

#[tokio::test]
async fn an_audience_ends_with_its_last_member() {
    let cache = loaded();
    let interest = below("/r/a/");
    let places: Vec<Place> = (0..2)
        .map(|_| cache.follow(&Bytes::new(), &interest).unwrap().1)
        .collect();
    assert_eq!(cache.audiences(), 1);
    drop(places);
    assert_eq!(cache.audiences(), 0);
}

/// A store whose first watch fails when it is lost, and that tells its revision when it may.
#[derive(Debug)]
struct Gap {
    inner: MemoryStore,
    fault: fn(Revision) -> Error,
    lost: CancellationToken,
    asked: Semaphore,
    may_tell: Semaphore,
}

impl Gap {
    /// One that does not keep what its watch wants.
    fn new() -> Arc<Self> {
        Gap::with(|after| Error::Compacted {
            requested: after,
            oldest: after,
        })
    }

    /// One that may tell its revision once: to who begins to follow it.
    fn with(fault: fn(Revision) -> Error) -> Arc<Self> {
        Arc::new(Gap {
            inner: MemoryStore::new(),
            fault,
            lost: CancellationToken::new(),
            asked: Semaphore::new(0),
            may_tell: Semaphore::new(1),
        })
    }

    /// Writes an object; says at which revision.
    async fn write(&self, key: &'static [u8]) -> u64 {
        let value = value::encode(&mut ConfigMap::default(), b"").unwrap();
        let write = Write {
            key: Bytes::from_static(key),
            expect: Expect::Absent,
            op: Op::Put { value, ttl: None },
        };
        self.commit(vec![write]).await.unwrap().revision.0
    }
}

#[async_trait]
impl Store for Gap {
    async fn revision(&self) -> Result<Revision, Error> {
        self.asked.add_permits(1);
        if let Ok(permit) = self.may_tell.acquire().await {
            permit.forget();
        }
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.inner.get(key, at).await
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        self.inner.list(list).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        self.inner.commit(writes).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        let stream = self.inner.watch(prefix, after).await?;
        let (lost, fault) = (self.lost.clone(), self.fault);
        let lost = futures::stream::once(async move {
            lost.cancelled().await;
            Err(fault(after))
        });
        Ok(match self.lost.is_cancelled() {
            true => stream,
            false => futures::stream::select(stream, lost).boxed(),
        })
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

#[tokio::test]
async fn what_is_written_while_the_store_is_found_again_is_not_missed() {
    let store = Gap::new();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let caches = Caches::start(store.clone(), stop.clone(), tasks.clone());
    let caches = caches.await.unwrap();
    let before = caches.get("/r/").await.unwrap();
    store.lost.cancel();
    store.asked.acquire_many(2).await.unwrap().forget();
    // Somebody asks for the objects, and another one is made, before it is known where the store is.
    assert!(before.is_closed());
    let between = caches.get("/r/").await.unwrap();
    assert!(
        between
            .snapshot(&Bytes::from_static(b"/r/"))
            .unwrap()
            .is_empty()
    );
    let written = store.write(b"/r/a/x").await;
    store.may_tell.add_permits(1);
    caches.wait_for(written).await.unwrap();
    let cache = caches.get("/r/").await.unwrap();
    assert_eq!(
        cache.snapshot(&Bytes::from_static(b"/r/")).unwrap().len(),
        1
    );
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn who_reads_while_the_store_is_found_again_reads_what_is_there_then() {
    let store = Gap::new();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let caches = Caches::start(store.clone(), stop.clone(), tasks.clone());
    let caches = caches.await.unwrap();
    let all = Bytes::from_static(b"/r/");
    let before = caches.get("/r/").await.unwrap();
    // It has the cache, and waits to be told where the store is, while that is lost and found.
    let mut reading = Box::pin(caches.read("/r/", None, |cache| cache.snapshot(&all)));
    assert!(futures::poll!(reading.as_mut()).is_pending());
    store.lost.cancel();
    store.asked.acquire_many(3).await.unwrap().forget();
    assert!(before.is_closed());
    let written = store.write(b"/r/a/x").await;
    // To both, and to who reads once more.
    store.may_tell.add_permits(3);
    let (revision, found) = reading.await.unwrap();
    assert_eq!((revision, found.len()), (written, 1));
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn nobody_is_given_a_cache_of_a_store_that_is_closed() {
    let store = Gap::with(|_| Error::Closed);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let caches = Caches::start(store.clone(), stop, tasks.clone());
    let caches = caches.await.unwrap();
    let before = caches.get("/r/").await.unwrap();
    store.lost.cancel();
    tasks.close();
    tasks.wait().await;
    assert!(before.is_closed());
    for prefix in ["/r/", "/another/"] {
        let refused = caches.get(prefix).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), 503, "{refused:?}");
    }
}

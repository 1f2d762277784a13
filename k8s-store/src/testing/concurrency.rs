//! Promises about calls that overlap.

use std::{collections::BTreeSet, task::Poll};

use futures::future::{join_all, poll_immediate};

use super::{Subject, commit, get, put, revision, value, watch, write};
use crate::{Error, Expect, List, Revision};

const TASKS: usize = 16;

/// Runs a future per task, on as many threads as there are.
async fn together<F, T>(task: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let tasks = (0..TASKS).map(|n| tokio::spawn(task(n)));
    let done = join_all(tasks).await.into_iter();
    done.map(|outcome| outcome.expect("no task panics"))
        .collect()
}

/// Concurrent commits get distinct revisions without holes.
pub async fn concurrent_commits_get_consecutive_revisions(store: Subject) {
    let revisions = together(|task| {
        let store = store.clone();
        async move {
            let mut mine = Vec::new();
            for n in 0..50 {
                mine.push(commit(&store, vec![put(format!("{task}"), n.to_string())]).await);
            }
            assert!(mine.is_sorted());
            mine
        }
    })
    .await;
    let all: BTreeSet<_> = revisions.into_iter().flatten().collect();
    assert_eq!(all.len(), TASKS * 50);
    assert_eq!(all.last(), Some(&Revision(1 + 50 * TASKS as u64)));
    assert_eq!(revision(&store).await, Revision(1 + 50 * TASKS as u64));
}

/// Read, compare and write from many tasks: no update is lost.
pub async fn concurrent_increments_are_never_lost(store: Subject) {
    commit(&store, vec![put("n", "0")]).await;
    together(|_| {
        let store = store.clone();
        async move {
            for _ in 0..20 {
                let mut entry = get(&store, "n").await.expect("it is there");
                loop {
                    let text = std::str::from_utf8(&entry.value).expect("a number");
                    let next = text.parse::<u32>().expect("a number") + 1;
                    let update = value(next.to_string());
                    let guard = Expect::Modified(entry.modified);
                    match store.commit(vec![write("n", guard, update)]).await {
                        Ok(_) => break,
                        Err(Error::Conflict {
                            actual: Some(actual),
                            ..
                        }) => entry = actual,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    })
    .await;
    let entry = get(&store, "n").await.expect("it is there");
    assert_eq!(entry.value, (TASKS * 20).to_string());
}

/// Of several tasks that create the same key, one succeeds.
pub async fn of_concurrent_creators_one_wins(store: Subject) {
    for round in 0..20 {
        let outcomes = together(|task| {
            let store = store.clone();
            async move {
                let key = format!("k{round}");
                let create = write(key, Expect::Absent, value(task.to_string()));
                store.commit(vec![create]).await
            }
        })
        .await;
        let winners: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1);
        for error in outcomes.iter().filter_map(|o| o.as_ref().err()) {
            match error {
                Error::Conflict {
                    actual: Some(actual),
                    ..
                } => assert_eq!(actual.modified, winners[0].revision),
                error => panic!("{error}"),
            }
        }
    }
}

/// Lists and watches show a batch entirely or not at all.
pub async fn a_reader_never_sees_half_a_batch(store: Subject) {
    let batch = |n: usize| {
        (0..10)
            .map(|k| put(format!("k{k}"), n.to_string()))
            .collect()
    };
    commit(&store, batch(0)).await;
    let tasks = together(|task| {
        let store = store.clone();
        async move {
            for n in 0..50 {
                if task % 2 == 0 {
                    commit(&store, batch(task * 1000 + n)).await;
                    continue;
                }
                let page = store.list(List::default()).await.expect("lists work");
                let first = &page.entries[0];
                assert_eq!(page.entries.len(), 10);
                assert!(page.entries.iter().all(|e| e.value == first.value));
                assert!(first.modified <= page.revision);
            }
        }
    });
    tasks.await;
}

/// A watch that begins while others write has neither a gap nor a repetition.
pub async fn watches_that_begin_among_writes_miss_and_repeat_nothing(store: Subject) {
    let total = Revision(1 + 30 * TASKS as u64);
    let writers = together(|task| {
        let store = store.clone();
        async move {
            for n in 0..30 {
                commit(&store, vec![put(format!("k{task}"), n.to_string())]).await;
            }
        }
    });
    let watchers = together(|_| {
        let store = store.clone();
        async move {
            for _ in 0..5 {
                let after = revision(&store).await;
                let mut seen = watch(&store, "k", after).await;
                for expected in after.0 + 1..=(after.0 + 40).min(total.0) {
                    assert_eq!(seen.next().await.0, Revision(expected));
                }
            }
        }
    });
    futures::join!(writers, watchers);
}

/// A commit whose future is dropped has happened as a whole, or will not.
pub async fn a_dropped_commit_happened_wholly_or_not_at_all(store: Subject) {
    for n in 0..50 {
        let both = vec![put("a", n.to_string()), put("b", n.to_string())];
        let polled = poll_immediate(store.commit(both)).await;
        drop(match polled {
            Some(done) => Poll::Ready(done.expect("the commit holds")),
            None => Poll::Pending,
        });
        let page = store.list(List::default()).await.expect("lists work");
        let values: BTreeSet<_> = page.entries.iter().map(|e| &e.value).collect();
        assert!(values.len() <= 1 && page.entries.len() != 1, "half a batch");
    }
    let end = commit(&store, vec![put("end", "x")]).await;
    let mut seen = watch(&store, "", Revision(1)).await;
    for expected in 2..=end.0 {
        let (revision, changes) = seen.next().await;
        assert_eq!(
            revision,
            Revision(expected),
            "each one took a revision or none"
        );
        assert_eq!(changes.len(), if revision == end { 1 } else { 2 });
    }
}

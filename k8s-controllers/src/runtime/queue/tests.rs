use std::collections::{BTreeSet, VecDeque};

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn keys_come_in_order_and_once() {
    let queue = WorkQueue::new();
    for key in ["a", "b", "a", "c"] {
        queue.add(key);
    }
    assert_eq!(queue.get().await, Some("a"));
    assert_eq!(queue.get().await, Some("b"));
    assert_eq!(queue.get().await, Some("c"));
    assert!(queue.get().now_or_never().is_none());
}

#[tokio::test]
async fn a_key_added_while_processed_comes_back_after_done() {
    let queue = WorkQueue::new();
    queue.add("a");
    assert_eq!(queue.get().await, Some("a"));
    queue.add("a");
    queue.add("a");
    assert!(queue.get().now_or_never().is_none());
    queue.done(&"a");
    assert_eq!(queue.get().await, Some("a"));
    queue.done(&"a");
    assert!(queue.get().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn delayed_keys_wait_and_the_earliest_delay_counts() {
    let queue = WorkQueue::new();
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(1));
    queue.add_after("a", Duration::from_secs(5));
    let start = Instant::now();
    assert_eq!(queue.get().await, Some("a"));
    assert_eq!(start.elapsed().as_secs(), 1);
    queue.done(&"a");
    let none = tokio::time::timeout(Duration::from_secs(60), queue.get()).await;
    assert!(none.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_reaches_a_worker_that_waited_before_it_was_added() {
    let queue = WorkQueue::new();
    let (one, two) = (queue.clone(), queue.clone());
    let first = tokio::spawn(async move { one.get().await });
    let second = tokio::spawn(async move { two.get().await });
    tokio::task::yield_now().await;
    queue.add_after("later", Duration::from_secs(3));
    queue.add("now");
    let mut got = vec![first.await.unwrap(), second.await.unwrap()];
    got.sort();
    assert_eq!(got, [Some("later"), Some("now")]);
}

#[tokio::test]
async fn shutting_down_wakes_all_workers_and_drains() {
    let queue = WorkQueue::new();
    queue.add(1);
    assert_eq!(queue.get().await, Some(1));
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.get().await })
        })
        .collect();
    tokio::task::yield_now().await;
    queue.shut_down();
    for worker in waiting {
        assert_eq!(worker.await.unwrap(), None);
    }
    queue.add(2);
    assert!(queue.is_empty());
    assert!(queue.drained().now_or_never().is_none());
    queue.done(&1);
    queue.drained().await;
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Get,
    Done(usize),
}

proptest! {
    /// Against the obvious model: a list without duplicates, a set in work, a set to come back.
    #[test]
    fn behaves_as_the_model(steps in proptest::collection::vec(
        prop_oneof![(0u8..6).prop_map(Step::Add), Just(Step::Get), (0usize..4).prop_map(Step::Done)], 0..200)) {
        let queue = WorkQueue::new();
        let mut waiting: VecDeque<u8> = VecDeque::new();
        let mut again: BTreeSet<u8> = BTreeSet::new();
        let mut processing: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Add(key) => {
                    queue.add(key);
                    if processing.contains(&key) {
                        again.insert(key);
                    } else if !waiting.contains(&key) {
                        waiting.push_back(key);
                    }
                }
                Step::Get => {
                    let got = queue.get().now_or_never().flatten();
                    prop_assert_eq!(got, waiting.pop_front());
                    if let Some(key) = got {
                        prop_assert!(!processing.contains(&key), "{} is processed twice at once", key);
                        processing.push(key);
                    }
                }
                Step::Done(index) if index < processing.len() => {
                    let key = processing.remove(index);
                    queue.done(&key);
                    if again.remove(&key) {
                        waiting.push_back(key);
                    }
                }
                Step::Done(_) => {}
            }
            prop_assert_eq!(queue.len(), waiting.len());
        }
    }
}

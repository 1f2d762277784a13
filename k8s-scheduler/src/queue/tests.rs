use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate, PodSpec};
use proptest::prelude::*;

use super::*;

fn pod(uid: &str, priority: i32) -> Arc<PodInfo> {
    let mut pod = Pod {
        spec: Some(PodSpec {
            priority: Some(priority),
            ..Default::default()
        }),
        ..Default::default()
    };
    pod.metadata.uid = Some(uid.into());
    Arc::new(pod.into())
}

fn queue() -> SchedulingQueue {
    SchedulingQueue::new(Arc::new(Profile::default()), Backoff::default())
}

fn fit() -> BTreeSet<&'static str> {
    BTreeSet::from(["NodeResourcesFit"])
}

fn pop(queue: &mut SchedulingQueue, now: Instant) -> Option<String> {
    queue.pop(now).map(|q| q.pod.uid().to_owned())
}

#[test]
fn pods_come_out_by_priority_then_by_age() {
    let (mut queue, now) = (queue(), Instant::now());
    for (uid, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1)] {
        queue.set(pod(uid, priority), now);
    }
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
    assert_eq!(order, ["b", "c", "a", "d"]);
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_and_while_others_are_there_for_its_backoff() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.set(pod("a", 0), now);
    assert!(queue.pop(now).is_some());
    queue.failed("a", fit(), now);
    let later = now + Duration::from_secs(200);
    assert_eq!(pop(&mut queue, later), None);
    queue.event(&ClusterEvent::AssignedPodDelete(&pod("x", 0)), now);
    queue.set(pod("b", 0), now);
    assert_eq!(
        pop(&mut queue, now).as_deref(),
        Some("b"),
        "its back-off is not over"
    );
    assert_eq!(
        pop(&mut queue, now).as_deref(),
        Some("a"),
        "nobody else is there"
    );
}

#[test]
fn what_failed_backs_off_even_if_nobody_else_is_there() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.set(pod("a", 0), now);
    assert!(queue.pop(now).is_some());
    queue.failed("a", BTreeSet::new(), now);
    assert_eq!(pop(&mut queue, now), None);
    assert!(queue.pop(now + Duration::from_secs(1)).is_some());
}

#[test]
fn only_events_that_concern_who_turned_it_away_wake_a_pod() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.set(pod("a", 0), now);
    assert!(queue.pop(now).is_some());
    queue.failed("a", BTreeSet::from(["NodeAffinity"]), now);
    queue.event(&ClusterEvent::AssignedPodDelete(&pod("x", 0)), now);
    assert_eq!(pop(&mut queue, now + Duration::from_secs(2)), None);
}

#[test]
fn an_event_during_the_cycle_is_not_lost() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.set(pod("a", 0), now);
    assert!(queue.pop(now).is_some());
    queue.event(&ClusterEvent::AssignedPodDelete(&pod("x", 0)), now);
    queue.failed("a", fit(), now);
    assert_eq!(
        pop(&mut queue, now + Duration::from_secs(1)).as_deref(),
        Some("a")
    );
}

#[test]
fn an_unhelped_pod_is_tried_again_after_five_minutes() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.set(pod("a", 0), now);
    assert!(queue.pop(now).is_some());
    queue.failed("a", fit(), now);
    assert_eq!(queue.next_timer(), Some(now + Duration::from_secs(300)));
    assert!(queue.pop(now + Duration::from_secs(300)).is_some());
}

#[test]
fn backoff_doubles_to_its_limit() {
    let (mut queue, mut now) = (queue(), Instant::now());
    queue.set(pod("a", 0), now);
    for seconds in [1, 2, 4, 8, 10, 10] {
        assert!(queue.pop(now).is_some());
        queue.failed("a", BTreeSet::new(), now);
        let next = queue.next_timer().unwrap();
        assert_eq!(next - now, Duration::from_secs(seconds));
        now = next;
    }
}

#[test]
fn a_gated_pod_costs_nothing_until_its_gates_are_gone() {
    let (mut queue, now) = (queue(), Instant::now());
    let mut gated = Pod::clone(pod("a", 0).pod().unwrap());
    gated.spec.as_mut().unwrap().scheduling_gates = Some(vec![PodSchedulingGate {
        name: "wait".into(),
    }]);
    queue.set(Arc::new(gated.into()), now);
    assert_eq!((queue.active(), queue.next_timer()), (0, None));
    queue.set(pod("a", 0), now);
    assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
}

proptest! {
    /// Whatever happens in whatever order, a pod is in exactly one place, and none that was not
    /// forgotten is ever out of reach.
    #[test]
    fn no_pod_is_ever_lost(steps in proptest::collection::vec((0u8..5, 0u8..6), 1..200)) {
        let (mut queue, mut now) = (queue(), Instant::now());
        let mut known = BTreeSet::new();
        let mut flying = BTreeSet::new();
        for (step, n) in steps {
            let uid = n.to_string();
            match step {
                0 => { queue.set(pod(&uid, 0), now); known.insert(uid); }
                1 => { queue.forget(&uid); known.remove(&uid); flying.remove(&uid); }
                2 => if let Some(uid) = pop(&mut queue, now) { prop_assert!(flying.insert(uid)); },
                3 => if flying.remove(&uid) { queue.failed(&uid, fit(), now); },
                _ => { now += Duration::from_secs(u64::from(n)); queue.event(&ClusterEvent::AssignedPodDelete(&pod("x", 0)), now); }
            }
            prop_assert_eq!(queue.len(), known.len());
        }
        for uid in flying.clone() { queue.failed(&uid, fit(), now); }
        now += Duration::from_secs(301);
        let out: BTreeSet<_> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        prop_assert_eq!(out, known);
    }
}

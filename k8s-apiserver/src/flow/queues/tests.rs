//! The queues against a paused clock.

use futures::FutureExt;

use super::*;

const QUEUES: Queuing = Queuing {
    queues: 8,
    hand: 2,
    length: 3,
};

fn want(flow: &str, seats: u32) -> Want {
    Want {
        flow: shard::flow("s", flow),
        seats,
        linger: Duration::ZERO,
    }
}

fn seated(entry: Entry) -> Seats {
    match entry {
        Entry::Seated(seats) => seats,
        other => panic!("{other:?}"),
    }
}

fn queued(entry: Entry) -> Place {
    match entry {
        Entry::Queued(place) => place,
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn seats_are_taken_up_to_the_limit_and_given_on_in_order() {
    let set = QueueSet::new(QUEUES, 2);
    let (a, b) = (
        seated(set.enter(want("x", 1))),
        seated(set.enter(want("x", 1))),
    );
    let first = queued(set.enter(want("x", 1)));
    let mut first = Box::pin(first.wait(LONG));
    assert!(first.as_mut().now_or_never().is_none());
    drop(a);
    let first = first.await.unwrap();
    assert_eq!(set.seats_used(), 2);
    drop((b, first));
    assert!(set.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_other_flows_are_not_concerned() {
    let set = QueueSet::new(QUEUES, 1);
    let busy = seated(set.enter(want("flood", 1)));
    let mut places = Vec::new();
    loop {
        match set.enter(want("flood", 1)) {
            Entry::Queued(place) => places.push(place),
            Entry::Refused(reason) => {
                assert_eq!(reason, Refused::QueueFull);
                break;
            }
            Entry::Seated(_) => panic!("there is no seat"),
        }
    }
    assert_eq!(places.len(), 6, "two queues of three");
    let flood = shard::deal(want("flood", 1).flow, 8, 2).0;
    let other = (0..).map(|n| format!("other{n}")).find(|name| {
        let hand = shard::deal(want(name, 1).flow, 8, 2).0;
        !hand[..2].iter().any(|queue| flood[..2].contains(queue))
    });
    let calm = queued(set.enter(want(&other.unwrap(), 1)));
    let order = Mutex::new(Vec::new());
    let serve = async |name: &'static str, place: Place| {
        let seats = place.wait(LONG).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        order.lock().push(name);
        drop(seats);
    };
    drop(busy);
    let flood = places.into_iter().map(|place| serve("flood", place));
    futures::join!(futures::future::join_all(flood), serve("calm", calm));
    let at = order.lock().iter().position(|name| *name == "calm");
    assert!(at.unwrap() <= 2, "{order:?}");
    assert!(set.is_idle());
}

#[tokio::test(start_paused = true)]
async fn flows_share_seats_evenly_whatever_their_numbers() {
    let set = QueueSet::new(
        Queuing {
            queues: 64,
            hand: 1,
            length: 1000,
        },
        1,
    );
    let order = Arc::new(Mutex::new(Vec::new()));
    let busy = seated(set.enter(want("start", 1)));
    let mut tasks = Vec::new();
    for (name, count) in [("many", 60), ("few", 10)] {
        for _ in 0..count {
            let place = queued(set.enter(want(name, 1)));
            let order = order.clone();
            tasks.push(tokio::spawn(async move {
                let seats = place.wait(Duration::from_secs(1000)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
                order.lock().push(name);
                drop(seats);
            }));
        }
    }
    drop(busy);
    futures::future::join_all(tasks).await;
    let order = order.lock();
    let done = order.iter().rposition(|name| *name == "few").unwrap();
    assert!(done < 25, "the few were served in turn: {done}");
    assert_eq!(order.len(), 70);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_goes_away_leaves_the_queue() {
    let set = QueueSet::new(QUEUES, 1);
    let busy = seated(set.enter(want("x", 1)));
    let gone = queued(set.enter(want("x", 1)));
    let late = queued(set.enter(want("x", 1)));
    drop(gone);
    assert_eq!(late.wait(LONG).await.unwrap_err(), Refused::TimeOut);
    drop(busy);
    assert!(set.is_idle());
    // Seats that were granted to one who has gone are free again.
    let busy = seated(set.enter(want("x", 1)));
    let place = queued(set.enter(want("x", 1)));
    drop(busy);
    assert_eq!(set.seats_used(), 1);
    drop(place);
    assert!(set.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_wide_request_waits_for_all_its_seats() {
    let set = QueueSet::new(QUEUES, 4);
    let narrow = seated(set.enter(want("x", 1)));
    let wide = queued(set.enter(want("y", 4)));
    drop(narrow);
    let wide = wide.wait(LONG).await.unwrap();
    assert_eq!(set.seats_used(), 4);
    drop(wide);
    // Wider than all there are: alone.
    let one = seated(set.enter(want("x", 1)));
    let wider = queued(set.enter(want("y", 9)));
    drop(one);
    drop(wider.wait(LONG).await.unwrap());
    assert!(set.is_idle());
}

#[tokio::test(start_paused = true)]
async fn seats_linger_as_long_as_the_work_that_a_request_leaves_behind() {
    let set = QueueSet::new(QUEUES, 1);
    let want_long = Want {
        linger: Duration::from_millis(40),
        ..want("x", 1)
    };
    drop(seated(set.enter(want_long)));
    let place = queued(set.enter(want("x", 1)));
    let started = Instant::now();
    drop(place.wait(LONG).await.unwrap());
    assert_eq!(started.elapsed(), Duration::from_millis(40));
    assert!(set.is_idle());
}

#[tokio::test(start_paused = true)]
async fn without_queues_there_is_a_seat_or_there_is_none() {
    let none = Queuing {
        queues: 0,
        hand: 0,
        length: 0,
    };
    let set = QueueSet::new(none, 1);
    let one = seated(set.enter(want("x", 1)));
    match set.enter(want("y", 1)) {
        Entry::Refused(Refused::ConcurrencyLimit) => {}
        other => panic!("{other:?}"),
    }
    drop(one);
    drop(seated(set.enter(want("y", 1))));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_queues_or_seats_strands_nobody() {
    let set = QueueSet::new(QUEUES, 1);
    let busy = seated(set.enter(want("x", 1)));
    let places: Vec<Place> = (0..8)
        .map(|n| queued(set.enter(want(&n.to_string(), 1))))
        .collect();
    set.configure(Queuing {
        queues: 0,
        hand: 0,
        length: 0,
    });
    set.limit(3);
    assert_eq!(set.seats_used(), 3);
    drop(busy);
    let all = places.into_iter().map(|place| async move {
        drop(place.wait(LONG).await.unwrap());
    });
    futures::future::join_all(all).await;
    assert!(set.is_idle());
    assert!(set.0.lock().queues.is_empty());
    set.configure(QUEUES);
    drop(seated(set.enter(want("x", 1))));
    assert_eq!(set.0.lock().active, 0);
}

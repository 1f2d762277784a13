//! The conformance kit for [`Reconciler`]: one function per promise of its contract that can be
//! checked from outside.
//!
//! Each function drives a reconciler by hand, one call at a time, and panics with what was
//! promised when that does not hold. `writes` tells how many writes the reconciler has made so
//! far; count them in the client that it was given, or read a resource version that every write
//! moves.

use crate::runtime::{Reconciler, Requeue};

/// How many calls a reconciler may need until it has nothing more to do.
const STEPS: usize = 100;

/// Level-based and idempotent: called again and again without a change from outside, it comes to
/// rest, and a reconciler at rest writes nothing.
///
/// `observe` is awaited after each call, and must return when the reconciler's informers show all
/// that has been written.
///
/// # Panics
/// When the promise does not hold.
pub async fn comes_to_rest<R: Reconciler>(
    reconciler: &R,
    key: R::Key,
    mut writes: impl AsyncFnMut() -> u64,
    mut observe: impl AsyncFnMut(),
) {
    for _ in 0..STEPS {
        let before = writes().await;
        let result = reconciler.reconcile(key.clone()).await;
        observe().await;
        if let Err(error) = &result {
            assert!(
                reconciler.is_expected(error),
                "reconciling {key} fails: {error}"
            );
            continue;
        }
        if writes().await == before {
            return;
        }
    }
    panic!("{key} is still written to after {STEPS} calls without a change from outside");
}

/// A key whose object does not exist is success, asks for nothing, and writes nothing.
///
/// # Panics
/// When the promise does not hold.
pub async fn missing_object_is_success<R: Reconciler>(
    reconciler: &R,
    missing: R::Key,
    mut writes: impl AsyncFnMut() -> u64,
) {
    let before = writes().await;
    match reconciler.reconcile(missing.clone()).await {
        Ok(Requeue::OnChange) => {}
        Ok(Requeue::After(delay)) => {
            panic!("{missing} does not exist, and is asked for again in {delay:?}")
        }
        Err(error) => panic!("{missing} does not exist, which is taken for an error: {error}"),
    }
    assert_eq!(
        writes().await,
        before,
        "{missing} does not exist, and is written to"
    );
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// Counts up to a target, one write a call.
    struct Counter {
        writes: AtomicU64,
        target: u64,
    }

    impl Reconciler for Counter {
        type Key = &'static str;
        type Error = Infallible;

        async fn reconcile(&self, key: &'static str) -> Result<Requeue, Infallible> {
            if key == "there" && self.writes.load(Ordering::SeqCst) < self.target {
                self.writes.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Requeue::OnChange)
        }
    }

    #[tokio::test]
    async fn a_reconciler_that_converges_passes() {
        let counter = Counter {
            writes: AtomicU64::new(0),
            target: 3,
        };
        let writes = async || counter.writes.load(Ordering::SeqCst);
        comes_to_rest(&counter, "there", writes, async || {}).await;
        missing_object_is_success(&counter, "missing", writes).await;
        assert_eq!(counter.writes.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    #[should_panic(expected = "still written to")]
    async fn a_reconciler_that_never_rests_fails() {
        let counter = Counter {
            writes: AtomicU64::new(0),
            target: u64::MAX,
        };
        let writes = async || counter.writes.load(Ordering::SeqCst);
        comes_to_rest(&counter, "there", writes, async || {}).await;
    }
}

//! [`Controller`]: the workers that drive a [`Reconciler`].

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use super::{Reconciler, Requeue, WorkQueue};

/// The workers that drive a [`Reconciler`] from a [`WorkQueue`].
pub struct Controller<R: Reconciler> {
    name: &'static str,
    reconciler: Arc<R>,
    queue: WorkQueue<R::Key>,
    workers: usize,
    grace: Duration,
    ready: Vec<BoxFuture<'static, ()>>,
}

impl<R: Reconciler> fmt::Debug for Controller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl<R: Reconciler> Controller<R> {
    /// A controller with 5 workers, as most of upstream's have, and a grace period of 5 s.
    pub fn new(name: &'static str, reconciler: R, queue: WorkQueue<R::Key>) -> Self {
        Controller {
            name,
            reconciler: Arc::new(reconciler),
            queue,
            workers: 5,
            grace: Duration::from_secs(5),
            ready: Vec::new(),
        }
    }

    /// How many keys are worked on at once; at least one.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How long running reconciles may finish after a stop before they are dropped.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Something to wait for before the first reconcile, usually an informer's
    /// [`synced`](crate::runtime::Informer::synced). Several are all waited for.
    #[must_use]
    pub fn wait_for(mut self, ready: impl Future<Output = ()> + Send + 'static) -> Self {
        self.ready.push(ready.boxed());
        self
    }

    /// Runs until `stop` is cancelled.
    ///
    /// Stopping has two stages: no more keys are taken, and running reconciles get the grace
    /// period; then they are dropped.
    ///
    /// # Cancel safety
    /// Dropping the future aborts all workers at once.
    pub async fn run(self, stop: CancellationToken) {
        let Controller {
            name,
            reconciler,
            queue,
            workers,
            grace,
            ready,
        } = self;
        tokio::select! {
            () = stop.cancelled() => return queue.shut_down(),
            _ = futures::future::join_all(ready) => {}
        }
        debug!(controller = name, workers, "started");
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let (reconciler, queue) = (reconciler.clone(), queue.clone());
            tasks.spawn(async move {
                while let Some(key) = queue.get().await {
                    work(name, &*reconciler, &queue, &key).await;
                    queue.done(&key);
                }
            });
        }
        stop.cancelled().await;
        queue.shut_down();
        let finished =
            tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            warn!(
                controller = name,
                "reconciles still running after the grace period; dropping them"
            );
            tasks.shutdown().await;
        }
        debug!(controller = name, "stopped");
    }
}

async fn work<R: Reconciler>(
    name: &'static str,
    reconciler: &R,
    queue: &WorkQueue<R::Key>,
    key: &R::Key,
) {
    let span = info_span!("reconcile", controller = name, object.r#ref = %key);
    let result = AssertUnwindSafe(async { reconciler.reconcile(key.clone()).await })
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let _entered = span.enter();
    match result {
        Ok(Ok(requeue)) => {
            queue.forget(key);
            if let Requeue::After(delay) = requeue {
                queue.add_after(key.clone(), delay);
            }
        }
        Ok(Err(error)) => {
            let attempt = queue.failures(key) + 1;
            if reconciler.is_expected(&error) {
                debug!(error = %error, attempt, "reconcile will be retried");
            } else {
                warn!(error = %error, attempt, "reconcile failed and will be retried");
            }
            queue.add_rate_limited(key.clone());
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            error!(panic = text, "reconcile panicked and will be retried");
            queue.add_rate_limited(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("not this time")]
    struct Failed;

    struct Flaky {
        calls: Arc<AtomicUsize>,
        done: Arc<tokio::sync::Notify>,
    }

    impl Reconciler for Flaky {
        type Key = &'static str;
        type Error = Failed;

        async fn reconcile(&self, _key: &'static str) -> Result<Requeue, Failed> {
            match self.calls.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Failed),
                1 => panic!("boom"),
                2 => Ok(Requeue::After(Duration::from_secs(30))),
                _ => {
                    self.done.notify_one();
                    Ok(Requeue::OnChange)
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_panics_and_requeues_bring_the_key_back() {
        let (calls, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(tokio::sync::Notify::new()),
        );
        let queue = WorkQueue::new();
        queue.add("key");
        let stop = CancellationToken::new();
        let controller = Controller::new(
            "flaky",
            Flaky {
                calls: calls.clone(),
                done: done.clone(),
            },
            queue,
        );
        let task = tokio::spawn(controller.run(stop.clone()));
        done.notified().await;
        assert_eq!(calls.load(Ordering::SeqCst), 4);
        stop.cancel();
        task.await.unwrap();
    }

    struct Slow(Duration, Arc<AtomicUsize>);

    impl Reconciler for Slow {
        type Key = u8;
        type Error = Failed;

        async fn reconcile(&self, _key: u8) -> Result<Requeue, Failed> {
            tokio::time::sleep(self.0).await;
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(Requeue::OnChange)
        }
    }

    async fn stop_while_running(takes: Duration) -> usize {
        let finished = Arc::new(AtomicUsize::new(0));
        let queue = WorkQueue::new();
        queue.add(1);
        let stop = CancellationToken::new();
        let controller = Controller::new("slow", Slow(takes, finished.clone()), queue);
        let task = tokio::spawn(controller.run(stop.clone()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        stop.cancel();
        task.await.unwrap();
        finished.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_lets_running_work_finish_within_the_grace_period() {
        assert_eq!(stop_while_running(Duration::from_secs(3)).await, 1);
        assert_eq!(stop_while_running(Duration::from_secs(30)).await, 0);
    }
}

//! The reader's end of one watch: first the past, then what happens.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    sync::mpsc::{Receiver, error::TryRecvError},
    time::{Instant, Sleep},
};

use super::{history::Segment, registry::below};
use crate::{Error, Revision, WatchBatch, WatchStream};

/// How a store treats its watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// How many batches may wait for a watcher before it is disconnected with
    /// [`Error::Lagged`]. Waiting batches share their memory with the history.
    /// Default: 4,096.
    pub buffer: usize,
    /// After how long without a batch to send a progress notification; `None`
    /// never does. Default: 10 seconds.
    pub progress: Option<Duration>,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            buffer: 4096,
            progress: Some(Duration::from_secs(10)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) prefix: Bytes,
    /// What happened before the watch was registered, from the revision on that
    /// `seen` holds.
    pub(crate) past: VecDeque<Arc<Segment>>,
    pub(crate) seen: Revision,
    /// The newest revision when the watch was registered: what the segments
    /// hold beyond it comes through the channel as well.
    pub(crate) until: Revision,
    pub(crate) receiver: Receiver<WatchBatch>,
    pub(crate) lagged: Arc<AtomicBool>,
    /// The newest revision all of whose batches are in the channels.
    pub(crate) published: Arc<AtomicU64>,
    pub(crate) progress: Option<Duration>,
}

impl Feed {
    pub(crate) fn into_stream(self) -> WatchStream {
        let progress = self.progress.map(Progress::new);
        let state = Some((self, progress));
        futures::stream::unfold(state, |state| async {
            let (mut feed, mut progress) = state?;
            match feed.next(&mut progress).await {
                Ok(batch) => Some((Ok(batch), Some((feed, progress)))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self, progress: &mut Option<Progress>) -> Result<WatchBatch, Error> {
        if let Some(batch) = self.replay() {
            return Ok(batch);
        }
        loop {
            // In this order: what was published before the channel was seen
            // empty has come out of it.
            let published = self.published.load(Ordering::Acquire);
            match self.receiver.try_recv() {
                Ok(batch) => return Ok(self.passed(batch, progress)),
                Err(TryRecvError::Disconnected) => return Err(self.end()),
                Err(TryRecvError::Empty) => {}
            }
            let Some(timer) = progress else {
                let batch = self.receiver.recv().await.ok_or_else(|| self.end())?;
                return Ok(self.passed(batch, progress));
            };
            if timer.is_due() {
                let batch = WatchBatch {
                    revision: self.seen.max(Revision(published)),
                    changes: Arc::new([]),
                };
                return Ok(self.passed(batch, progress));
            }
            tokio::select! {
                biased;
                batch = self.receiver.recv() => {
                    let batch = batch.ok_or_else(|| self.end())?;
                    return Ok(self.passed(batch, progress));
                }
                () = timer.wait() => {}
            }
        }
    }

    fn passed(&mut self, batch: WatchBatch, progress: &mut Option<Progress>) -> WatchBatch {
        self.seen = batch.revision;
        if let Some(progress) = progress {
            progress.last = Instant::now();
        }
        batch
    }

    fn replay(&mut self) -> Option<WatchBatch> {
        while let Some(segment) = self.past.front() {
            for batch in segment.after(self.seen) {
                if batch.revision > self.until {
                    break;
                }
                self.seen = batch.revision;
                if let Some(batch) = below(batch, &self.prefix) {
                    return Some(batch);
                }
            }
            self.past.pop_front();
        }
        None
    }

    fn end(&self) -> Error {
        if self.lagged.load(Ordering::Acquire) {
            Error::Lagged
        } else {
            Error::Closed
        }
    }
}

/// Tells when a watcher has heard nothing for the interval.
#[derive(Debug)]
struct Progress {
    interval: Duration,
    last: Instant,
    /// Made when first waited for, and moved only when it has fired: batches
    /// come far more often than it does.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    fn new(interval: Duration) -> Self {
        Self {
            interval: interval.max(Duration::from_millis(1)),
            last: Instant::now(),
            sleep: None,
        }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= self.interval
    }

    async fn wait(&mut self) {
        let due = self.last + self.interval;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.is_elapsed() {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().await;
    }
}

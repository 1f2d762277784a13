//! A watch that goes on at another member where the last one left off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming};

use super::{
    Inner,
    client::Backoff,
    fault::{self, Fault, fault},
    proto::{Event, Nothing, WatchCreateRequest, WatchRequest, WatchRequestKind, WatchResponse},
    txn,
};
use crate::{Change, Error, Revision, WatchBatch, WatchStream};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A connection that carries one watch.
#[derive(Debug)]
pub(super) struct Connection {
    events: Streaming<WatchResponse>,
    requests: mpsc::Sender<WatchRequest>,
    /// Whether it can be asked how far it is.
    orderly: bool,
}

impl Connection {
    /// Begins a watch at the current member. The watch yields what happened at
    /// `from` once more: only so etcd says if something after it is compacted.
    pub(super) async fn open(inner: &Inner, prefix: &[u8], from: Revision) -> Result<Self, Status> {
        let (key, mut range_end) = inner.keys.range(prefix, None);
        if range_end == inner.keys.tick() {
            // Commits that change nothing show how far the watch is.
            range_end.push(0);
        }
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: txn::number(from).max(1),
            progress_notify: true,
            prev_kv: true,
        };
        let (requests, receiver) = mpsc::channel(4);
        let first = WatchRequest {
            request: Some(WatchRequestKind::Create(create)),
        };
        let queries = stream::once(async { first })
            .chain(stream::unfold(receiver, |mut receiver| async {
                Some((receiver.recv().await?, receiver))
            }));
        match inner.client.stream(WATCH, queries).await {
            Ok((events, member)) => Ok(Self {
                events,
                requests,
                orderly: inner.progress.is_some() && inner.client.is_orderly(member).await,
            }),
            Err((status, member)) => {
                inner.client.leave(member);
                Err(status)
            }
        }
    }

    async fn next(&mut self) -> Result<WatchResponse, Status> {
        let next = self.events.message().await?;
        next.ok_or_else(|| Status::unavailable("etcd ended the watch"))
    }

    fn ask_for_progress(&self) {
        let request = WatchRequest {
            request: Some(WatchRequestKind::Progress(Nothing {})),
        };
        // One that waits already will do.
        let _ = self.requests.try_send(request);
    }

    /// Waits until the watch has begun; `None` if it did not.
    pub(super) async fn begun(mut self) -> Option<Self> {
        match self.next().await {
            Ok(response) if response.created && !response.canceled => Some(self),
            _ => None,
        }
    }

    /// Which revision is the oldest that can be watched from, if `from` cannot.
    pub(super) async fn oldest(mut self) -> Option<Revision> {
        while let Ok(response) = self.next().await {
            if response.canceled {
                return (response.compact_revision > 0)
                    .then(|| txn::unsigned(response.compact_revision));
            }
            if !response.created {
                return None;
            }
        }
        None
    }
}

/// One watch, across as many connections as it takes.
pub(super) struct Follow {
    pub(super) inner: Arc<Inner>,
    pub(super) prefix: Bytes,
    /// Everything up to here has been yielded.
    pub(super) seen: Revision,
    pub(super) connection: Option<Connection>,
    pub(super) ready: VecDeque<WatchBatch>,
    pub(super) backoff: Backoff,
}

impl Follow {
    pub(super) fn into_stream(self) -> WatchStream {
        stream::unfold(Some(self), |follow| async {
            let mut follow = follow?;
            let mut closed = follow.inner.closed.subscribe();
            let next = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => Err(Error::Closed),
                next = follow.next() => next,
            };
            match next {
                Ok(batch) => Some((Ok(batch), Some(follow))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<WatchBatch, Error> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let connection = match &mut self.connection {
                Some(connection) => connection,
                None => match Connection::open(&self.inner, &self.prefix, self.seen).await {
                    Ok(connection) => self.connection.insert(connection),
                    Err(status) => {
                        self.lost(status).await?;
                        continue;
                    }
                },
            };
            match attend(connection, self.inner.progress).await {
                Ok(response) => {
                    self.backoff = Backoff::default();
                    self.take(response).await?;
                }
                Err(status) => self.lost(status).await?,
            }
        }
    }

    async fn take(&mut self, response: WatchResponse) -> Result<(), Error> {
        if response.canceled {
            if response.compact_revision > 0 {
                return Err(Error::Compacted {
                    requested: self.seen,
                    oldest: txn::unsigned(response.compact_revision),
                });
            }
            // A member without a leader gives its watches up, for one.
            return self.lost(Status::unavailable(response.cancel_reason)).await;
        }
        // Nothing is known of how far a watch is that just began.
        if response.events.is_empty() && !response.created {
            let at = txn::unsigned(response.header.unwrap_or_default().revision);
            if at >= self.seen {
                self.push(at, Vec::new());
            }
            return Ok(());
        }
        self.sort(response.events)
    }

    /// Makes batches of events, which come in order of their revisions.
    fn sort(&mut self, events: Vec<Event>) -> Result<(), Error> {
        let mut events = events.into_iter().peekable();
        while let Some(at) = events.peek().map(modified) {
            let mut changes = Vec::new();
            while let Some(event) = events.next_if(|event| modified(event) == at) {
                // Yielded before the connection was lost.
                if at <= self.seen {
                    continue;
                }
                changes.extend(self.change(event)?);
            }
            if at > self.seen {
                changes.sort_unstable_by(|a: &Change, b| a.key.cmp(&b.key));
                self.push(at, changes);
            }
        }
        Ok(())
    }

    /// `None` for what concerns others.
    fn change(&self, event: Event) -> Result<Option<Change>, Error> {
        let kv = event.kv.unwrap_or_default();
        let (deleted, made) = (event.kind == 1, kv.version == 1);
        let keys = &self.inner.keys;
        let Some(current) = txn::entry(keys, kv) else {
            return Ok(None);
        };
        let previous = event.prev_kv.and_then(|kv| txn::entry(keys, kv));
        if previous.is_none() && (deleted || !made) {
            // Compacted between the change and its turn in this watch.
            return Err(Error::Compacted {
                requested: self.seen,
                oldest: current.modified,
            });
        }
        Ok(Some(Change {
            key: current.key.clone(),
            current: (!deleted).then_some(current),
            previous,
        }))
    }

    fn push(&mut self, revision: Revision, changes: Vec<Change>) {
        self.seen = revision;
        self.ready.push_back(WatchBatch {
            revision,
            changes: changes.into(),
        });
    }

    /// Gets over the end of a connection, if that is possible.
    async fn lost(&mut self, status: Status) -> Result<(), Error> {
        self.connection = None;
        match fault(&status) {
            Fault::NotDone | Fault::Unknown | Fault::Token => {
                tracing::debug!(%status, revision = %self.seen, "a watch goes on at another member of etcd");
                tokio::time::sleep(self.backoff.step()).await;
                Ok(())
            }
            _ => Err(fault::error(status)),
        }
    }
}

fn modified(event: &Event) -> Revision {
    txn::unsigned(event.kv.as_ref().map_or(0, |kv| kv.mod_revision))
}

/// The next response; asks how far the watch is when none comes for a while.
async fn attend(
    connection: &mut Connection,
    progress: Option<Duration>,
) -> Result<WatchResponse, Status> {
    let Some(interval) = progress.filter(|_| connection.orderly) else {
        return connection.next().await;
    };
    let mut due = Instant::now() + interval;
    loop {
        tokio::select! {
            biased;
            response = connection.next() => return response,
            () = tokio::time::sleep_until(due) => {
                connection.ask_for_progress();
                due += interval;
            }
        }
    }
}

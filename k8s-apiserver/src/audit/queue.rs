//! The way of events from requests to a sink: a queue with so much room, and a thread that writes in batches.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Event, Level, Policy, record::Record};
use crate::metrics::Writer;

/// Events that wait; upstream's size of the buffer.
const QUEUE: usize = 10_000;
/// Events that are written at once, at most; as upstream.
const BATCH: usize = 400;

/// Takes audit events.
///
/// # Purpose
/// Calls come from a thread of the server's own, one after the other, with all events that have come in the
/// meantime, at most 400. Write your own to send events elsewhere than to a [`LogFile`](super::LogFile).
///
/// # Guarantees
/// When the call returns, the events are safe. It may block: requests wait for it only when 10,000 events do. Those that
/// have begun by then end without waiting, and no event of theirs is lost.
///
/// # Errors
/// The events are lost, all of them, and counted. It is logged when errors begin, and when they end.
pub trait AuditSink: fmt::Debug + Send {
    /// Writes the events, in order.
    fn write(&mut self, events: &[Event]) -> io::Result<()>;
}

/// A place in the queue; free again when it is dropped.
pub(super) type Room = OwnedSemaphorePermit;

enum Message {
    Record(Box<Record>, Option<Room>),
    Flush(oneshot::Sender<()>),
}

/// The policy, and the queue. The thread ends when this is dropped, after it has written what is queued.
pub(crate) struct Audit {
    pub(crate) policy: Policy,
    /// Requests wait for room where they begin, and no more after: so there are as many messages more than there is
    /// room as are sent by requests that have begun.
    queue: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
    /// Whether events were lost since it was last said.
    losing: Mutex<bool>,
    events: AtomicU64,
    /// Events that nobody takes any more.
    lost: AtomicU64,
    /// Events that the sink did not take.
    unwritten: Arc<AtomicU64>,
    /// Requests by the level that the policy says.
    levels: [AtomicU64; LEVELS.len()],
}

const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// Starts the thread.
    pub(crate) fn start(policy: Policy, sink: Box<dyn AuditSink>) -> io::Result<Arc<Self>> {
        Self::with_room(policy, sink, QUEUE)
    }

    /// With room for so many events.
    pub(super) fn with_room(
        policy: Policy,
        sink: Box<dyn AuditSink>,
        room: usize,
    ) -> io::Result<Arc<Self>> {
        let (queue, messages) = mpsc::unbounded_channel();
        let unwritten = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&unwritten);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write(messages, sink, &counter))?;
        Ok(Arc::new(Audit {
            policy,
            queue,
            room: Arc::new(Semaphore::new(room)),
            losing: Mutex::new(false),
            events: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            unwritten,
            levels: Default::default(),
        }))
    }

    /// Waits until there is room.
    pub(super) async fn room(&self) -> Option<Room> {
        // Nobody closes it.
        self.room.clone().acquire_owned().await.ok()
    }

    /// Counts a request by its level.
    pub(super) fn count(&self, level: Level) {
        self.levels[level as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the metrics.
    pub(crate) fn write_metrics(&self, out: &mut Writer) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64;
        out.family(
            "apiserver_audit_event_total",
            "counter",
            "[ALPHA] Counter of audit events generated and sent to the audit backend.",
        );
        out.sample("", "", load(&self.events));
        out.family(
            "apiserver_audit_level_total",
            "counter",
            "[ALPHA] Counter of policy levels for audit events (1 per request).",
        );
        for (level, count) in LEVELS.iter().zip(&self.levels) {
            out.sample("", &format!("level=\"{level}\""), load(count));
        }
        out.family(
            "apiserver_audit_error_total",
            "counter",
            "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
        );
        out.sample("", "plugin=\"buffered\"", load(&self.lost));
        out.sample("", "plugin=\"log\"", load(&self.unwritten));
    }

    /// Queues a record, in its room if it is the first of its request.
    pub(super) fn send(&self, record: Record, room: Option<Room>) {
        let sent = self.queue.send(Message::Record(Box::new(record), room));
        let counter = if sent.is_ok() {
            &self.events
        } else {
            &self.lost
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut losing = self.losing.lock();
        if sent.is_err() && !*losing {
            tracing::error!("audit events are lost: their sink has ended");
        }
        *losing = sent.is_err();
    }

    /// Waits until all that was queued is written.
    pub(crate) async fn flush(&self) {
        let (sender, done) = oneshot::channel();
        if self.queue.send(Message::Flush(sender)).is_ok() {
            let _ = done.await;
        }
    }
}

fn write(
    mut messages: mpsc::UnboundedReceiver<Message>,
    mut sink: Box<dyn AuditSink>,
    unwritten: &AtomicU64,
) {
    let mut failing = false;
    let mut batch = Vec::with_capacity(BATCH);
    let mut events = Vec::with_capacity(BATCH);
    let mut rooms = Vec::with_capacity(BATCH);
    while messages.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut flushed = Vec::new();
        for message in batch.drain(..) {
            match message {
                Message::Record(record, room) => {
                    events.push(record.into_event());
                    rooms.extend(room);
                }
                Message::Flush(done) => flushed.push(done),
            }
        }
        if !events.is_empty() {
            let written = sink.write(&events);
            if let Err(error) = &written {
                let lost = unwritten.fetch_add(events.len() as u64, Ordering::Relaxed);
                if !failing {
                    tracing::error!(%error, lost, "audit events cannot be written");
                }
            } else if failing {
                let lost = unwritten.load(Ordering::Relaxed);
                tracing::info!(lost, "audit events are written again");
            }
            failing = written.is_err();
        }
        events.clear();
        rooms.clear();
        for done in flushed {
            let _ = done.send(());
        }
    }
}

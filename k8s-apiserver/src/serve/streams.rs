//! The streams of an HTTP/2 connection: whether there are any, and whether each one's answer is read.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Response, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ReadWithin;

/// Runs the streams of one connection, each in a task of its own, and knows of them.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: AtomicUsize,
    /// How many there were altogether.
    begun: AtomicUsize,
    /// When the last one ended, or else the connection began.
    ended: Mutex<Instant>,
    /// The request that the HTTP library has just given to the service: it spawns the stream's task next.
    next: Mutex<Option<Arc<Reading>>>,
    /// The client of an answer is to be rid of the connection.
    unwelcome: CancellationToken,
}

/// How an answer is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// How long the client may leave it alone, once there is one.
    patience: OnceLock<Duration>,
    /// Whether a piece was taken since that was last looked at.
    moved: AtomicBool,
}

impl Streams {
    pub(super) fn new() -> Self {
        Streams(Arc::new(Shared {
            open: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            ended: Mutex::new(Instant::now()),
            next: Mutex::new(None),
            unwelcome: CancellationToken::new(),
        }))
    }

    /// Notes that a request has come, whose stream is spawned next.
    pub(super) fn begin(&self) -> Arc<Reading> {
        let reading = Arc::<Reading>::default();
        *self.0.next.lock() = Some(Arc::clone(&reading));
        reading
    }

    /// The answer to a request, such that it is known how it is read.
    pub(super) fn answer<B>(
        &self,
        reading: Arc<Reading>,
        mut answer: Response<B>,
    ) -> Response<Read<B>> {
        // In HTTP/2 no header says so.
        if let Some(connection) = answer.headers_mut().remove(header::CONNECTION)
            && connection.as_bytes().eq_ignore_ascii_case(b"close")
        {
            self.0.unwelcome.cancel();
        }
        let within = answer.extensions_mut().remove::<ReadWithin>();
        let reading = within.map(|ReadWithin(patience)| {
            let _ = reading.patience.set(patience);
            reading
        });
        answer.map(|body| Read { body, reading })
    }

    /// Waits until an answer was given whose client is to be rid of the connection.
    pub(super) async fn unwelcome(&self) {
        self.0.unwelcome.cancelled().await;
    }

    /// Waits until there has been no stream for so long, from now on.
    pub(super) async fn idle(&self, patience: Duration) {
        let asked = Instant::now();
        loop {
            let since = match self.0.open.load(Ordering::Acquire) {
                0 => asked.max(*self.0.ended.lock()),
                _ => Instant::now(),
            };
            let until = since + patience;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Waits, in steps of that length, until so many more streams have come.
    pub(super) async fn overrun(&self, most: usize, step: Duration) {
        let before = self.0.begun.load(Ordering::Relaxed);
        while self.0.begun.load(Ordering::Relaxed) - before <= most {
            sleep(step).await;
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.open.fetch_add(1, Ordering::Release);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(Stream {
            stream: Box::pin(stream),
            reading: self.0.next.lock().take(),
            sleep: None,
            _open: Open(Arc::clone(&self.0)),
        });
    }
}

#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.ended.lock() = Instant::now();
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}

/// Ends, which resets the stream, when its answer is left alone for too long.
struct Stream<F> {
    stream: Pin<Box<F>>,
    reading: Option<Arc<Reading>>,
    sleep: Option<Pin<Box<Sleep>>>,
    _open: Open,
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(reading) = &this.reading else {
            return Poll::Pending;
        };
        let Some(&patience) = reading.patience.get() else {
            return Poll::Pending;
        };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(patience)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if !reading.moved.swap(false, Ordering::Relaxed) {
                tracing::debug!("an answer is not read and is given up");
                return Poll::Ready(());
            }
            sleep.as_mut().reset(Instant::now() + patience);
        }
    }
}

/// A body of which it is known when it is read.
pub(super) struct Read<B> {
    body: B,
    reading: Option<Arc<Reading>>,
}

impl<B: Body + Unpin> Body for Read<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        if let Some(reading) = &this.reading {
            reading.moved.store(true, Ordering::Relaxed);
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

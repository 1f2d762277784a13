//! The streams of an HTTP/2 connection: whether there are any, and whether their answers are taken.
//!
//! The HTTP library takes a piece of an answer as soon as the client has room for one byte of it, and keeps the rest
//! until there is more room. So the pieces are [`Counted`]: they tell when they are sent. An answer that goes on, or is
//! long, is looked after by itself: its stream is reset when less of it is taken than [`least`] while something waits,
//! and it ends only when all of it is out, for until then it can be reset. Of short answers, which are many, it is only
//! known how many bytes wait since when: a client that leaves one alone loses the connection.

use std::{
    future::Future,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use futures::task::AtomicWaker;
use http::{Response, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{AtLeisure, pace::least};

/// Answers from this length on are looked after one by one.
const LONG: u64 = 16 << 10;
/// A client on a slow link may ask for much that is short: it is not hurried while it takes so many times the least.
const MANY: usize = 16;

/// How many more streams may come after a goodbye.
const STRAGGLERS: usize = 1000;
/// How long after a goodbye those are served that come.
const ON_THEIR_WAY: Duration = Duration::from_secs(5);

/// Runs the streams of one connection, each in a task of its own, and knows of them.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: AtomicUsize,
    /// When the last one ended, or else the connection began.
    ended: Mutex<Instant>,
    /// The request that the HTTP library has just given to the service: it spawns the stream's task next.
    next: Mutex<Option<Arc<Reading>>>,
    /// Those that have something to send.
    owing: Mutex<Vec<Owing>>,
    short: Short,
    /// The client of an answer is to be rid of the connection.
    unwelcome: CancellationToken,
    /// Until when requests are served, once the client was told goodbye.
    goodbye: Mutex<Option<Instant>>,
    stragglers: AtomicUsize,
    overrun: CancellationToken,
}

#[derive(Debug)]
struct Owing {
    reading: Arc<Reading>,
    /// Whether it was looked at before.
    seen: bool,
}

/// How many bytes of short answers wait to be sent: those of this turn and the one before, by whether it is odd.
#[derive(Debug, Default)]
struct Short {
    turn: AtomicUsize,
    owed: [AtomicUsize; 2],
    /// In this turn.
    sent: AtomicUsize,
}

impl Short {
    fn pay(&self, odd: usize, bytes: usize) {
        self.sent.fetch_add(bytes, Relaxed);
        self.owed[odd].fetch_sub(bytes, SeqCst);
    }

    /// Begins the next turn. Says whether some answer has waited for all of this one, and not because there are so many
    /// of them.
    fn turn(&self, least: usize) -> bool {
        let sent = self.sent.swap(0, Relaxed);
        let turn = self.turn.fetch_add(1, SeqCst) + 1;
        self.owed[turn % 2].load(SeqCst) > 0 && sent < least.saturating_mul(MANY)
    }
}

/// How an answer is taken.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Wakes the task of the stream.
    task: AtomicWaker,
    /// Bytes that the library has and that are not sent.
    owed: AtomicU32,
    /// Bytes that were sent since it was last looked at.
    sent: AtomicU32,
    /// Whether it is looked after, once there is an answer.
    long: AtomicBool,
    /// Whether all was sent at some time since it was last looked at.
    caught_up: AtomicBool,
    /// Whether it is among those that have something to send.
    listed: AtomicBool,
    /// Whether there is nothing more than what is owed.
    ending: AtomicBool,
    given_up: AtomicBool,
}

impl Reading {
    fn owe(&self, bytes: usize) {
        self.owed.fetch_add(size(bytes), SeqCst);
    }

    fn pay(&self, bytes: usize) {
        let bytes = size(bytes);
        self.sent.fetch_add(bytes, Relaxed);
        if self.owed.fetch_sub(bytes, SeqCst) == bytes {
            self.caught_up.store(true, Relaxed);
            if self.ending.load(SeqCst) {
                self.task.wake();
            }
        }
    }

    fn owes(&self) -> bool {
        self.owed.load(SeqCst) > 0
    }

    /// Ready when all is sent, of an answer of which no more comes.
    fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        self.ending.store(true, SeqCst);
        match self.owes() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Whether it is to be looked at again.
    fn look(&self, seen: bool, least: usize) -> bool {
        let caught_up = self.caught_up.swap(false, Relaxed);
        let sent = self.sent.swap(0, Relaxed);
        if !self.owes() {
            self.listed.store(false, SeqCst);
            // Unless it has got something to send just now.
            return self.owes() && !self.listed.swap(true, SeqCst);
        }
        if seen && !caught_up && (sent as usize) < least {
            tracing::debug!("an answer is not taken and is given up");
            self.given_up.store(true, SeqCst);
            self.task.wake();
            return false;
        }
        true
    }
}

/// Pieces are far smaller than this can hold.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Streams {
    pub(super) fn new() -> Self {
        Streams(Arc::new(Shared {
            open: AtomicUsize::new(0),
            ended: Mutex::new(Instant::now()),
            next: Mutex::new(None),
            owing: Mutex::new(Vec::new()),
            short: Short::default(),
            unwelcome: CancellationToken::new(),
            goodbye: Mutex::new(None),
            stragglers: AtomicUsize::new(0),
            overrun: CancellationToken::new(),
        }))
    }

    /// Notes that a request has come, whose stream is spawned next. None if it comes too long after the goodbye.
    pub(super) fn begin(&self) -> Option<Arc<Reading>> {
        if let Some(until) = *self.0.goodbye.lock() {
            if self.0.stragglers.fetch_add(1, Relaxed) >= STRAGGLERS {
                self.0.overrun.cancel();
            }
            if until <= Instant::now() {
                return None;
            }
        }
        let reading = Arc::<Reading>::default();
        *self.0.next.lock() = Some(Arc::clone(&reading));
        Some(reading)
    }

    /// The answer to a request, such that it is known how it is taken.
    pub(super) fn answer<B: Body>(
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
        let account = if answer.extensions().get::<AtLeisure>().is_some() {
            Account::None
        } else {
            match answer.body().size_hint().exact() {
                Some(0) => Account::None,
                Some(..LONG) => Account::Short(Arc::clone(&self.0)),
                _ => {
                    reading.long.store(true, Relaxed);
                    Account::Long(reading)
                }
            }
        };
        answer.map(|body| Read { body, account })
    }

    /// Waits until an answer was given whose client is to be rid of the connection.
    pub(super) async fn unwelcome(&self) {
        self.0.unwelcome.cancelled().await;
    }

    /// Waits until there has been no stream for so long, from now on.
    pub(super) async fn idle(&self, patience: Duration) {
        let asked = Instant::now();
        loop {
            let since = match self.0.open.load(SeqCst) {
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

    /// Gives up streams whose answers are not taken, looking every so often, until a short answer was left alone for
    /// longer than that.
    pub(super) async fn left_alone(&self, patience: Duration) {
        let least = least(patience);
        loop {
            sleep(patience).await;
            self.0.owing.lock().retain_mut(|owing| {
                let seen = std::mem::replace(&mut owing.seen, true);
                owing.reading.look(seen, least)
            });
            if self.0.short.turn(least) {
                return;
            }
        }
    }

    /// Notes that the client is told goodbye. What it has asked until it hears of that is served, unless it is
    /// unwelcome.
    pub(super) fn say_goodbye(&self) {
        let now = Instant::now();
        *self.0.goodbye.lock() = Some(match self.0.unwelcome.is_cancelled() {
            true => now,
            false => now + ON_THEIR_WAY,
        });
    }

    /// Waits until the client has asked too much since it was told goodbye.
    pub(super) async fn overrun(&self) {
        self.0.overrun.cancelled().await;
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.open.fetch_add(1, SeqCst);
        tokio::spawn(Stream {
            stream: Box::pin(stream),
            reading: self.0.next.lock().take(),
            open: Open(Arc::clone(&self.0)),
        });
    }
}

#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.ended.lock() = Instant::now();
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// Ends, which resets the stream, when its answer is given up.
struct Stream<F> {
    stream: Pin<Box<F>>,
    reading: Option<Arc<Reading>>,
    open: Open,
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(reading) = &this.reading
            && reading.given_up.load(SeqCst)
        {
            return Poll::Ready(());
        }
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(reading) = &this.reading
            && reading.long.load(Relaxed)
            && reading.owes()
        {
            reading.task.register(cx.waker());
            if !reading.listed.swap(true, SeqCst) {
                this.open.0.owing.lock().push(Owing {
                    reading: Arc::clone(reading),
                    seen: false,
                });
            }
        }
        Poll::Pending
    }
}

/// Where it is noted what of an answer is not sent yet.
enum Account {
    /// Nowhere: it may wait.
    None,
    Short(Arc<Shared>),
    Long(Arc<Reading>),
}

impl Account {
    fn count<D: Buf>(&self, data: D) -> Counted<D> {
        let bytes = data.remaining();
        let debt = match self {
            Account::None => Debt::None,
            Account::Short(shared) => {
                let turn = shared.short.turn.load(SeqCst);
                shared.short.owed[turn % 2].fetch_add(bytes, SeqCst);
                match turn % 2 {
                    0 => Debt::Even(Arc::clone(shared)),
                    _ => Debt::Odd(Arc::clone(shared)),
                }
            }
            Account::Long(reading) => {
                reading.owe(bytes);
                Debt::Long(Arc::clone(reading))
            }
        };
        Counted { data, debt }
    }
}

/// To whom it is told that something was sent.
enum Debt {
    None,
    Even(Arc<Shared>),
    Odd(Arc<Shared>),
    Long(Arc<Reading>),
}

impl Debt {
    fn pay(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        match self {
            Debt::None => {}
            Debt::Even(shared) => shared.short.pay(0, bytes),
            Debt::Odd(shared) => shared.short.pay(1, bytes),
            Debt::Long(reading) => reading.pay(bytes),
        }
    }
}

/// A piece that tells when it is sent, or dropped.
pub(super) struct Counted<D: Buf> {
    data: D,
    debt: Debt,
}

impl<D: Buf> Buf for Counted<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, parts: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(parts)
    }

    fn advance(&mut self, bytes: usize) {
        self.data.advance(bytes);
        self.debt.pay(bytes);
    }
}

impl<D: Buf> Drop for Counted<D> {
    fn drop(&mut self) {
        self.debt.pay(self.data.remaining());
    }
}

/// A body of which it is known how it is taken.
pub(super) struct Read<B> {
    body: B,
    account: Account,
}

impl<B: Body + Unpin> Body for Read<B> {
    type Data = Counted<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.get_mut();
        if let Account::Long(reading) = &this.account
            && reading.ending.load(Relaxed)
        {
            ready!(reading.poll_sent(cx));
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if next.is_none()
            && let Account::Long(reading) = &this.account
        {
            ready!(reading.poll_sent(cx));
        }
        let count = |frame: Frame<B::Data>| frame.map_data(|data| this.account.count(data));
        Poll::Ready(next.map(|frame| frame.map(count)))
    }

    fn is_end_stream(&self) -> bool {
        match self.account {
            // The end is told when all else is out.
            Account::Long(_) => false,
            _ => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = 100;

    #[test]
    fn short_answers_may_wait_for_one_turn() {
        let short = Short::default();
        short.owed[0].fetch_add(10, SeqCst);
        assert!(!short.turn(LEAST), "it came in this turn");
        short.owed[1].fetch_add(10, SeqCst);
        short.pay(0, 9);
        assert!(short.turn(LEAST), "a byte of it is left");
        short.pay(0, 1);
        short.pay(1, 10);
        assert!(!short.turn(LEAST));
        short.owed[1].fetch_add(10_000, SeqCst);
        assert!(!short.turn(LEAST));
        short.pay(1, LEAST * MANY);
        assert!(!short.turn(LEAST), "there is much of it");
    }

    #[test]
    fn answers_are_given_up_when_less_than_the_least_is_taken() {
        let reading = Reading::default();
        reading.owe(1000);
        assert!(reading.look(false, LEAST), "it was not looked at before");
        reading.pay(LEAST);
        assert!(reading.look(true, LEAST));
        reading.pay(LEAST - 1);
        assert!(!reading.look(true, LEAST));
        assert!(reading.given_up.load(SeqCst));
    }

    #[test]
    fn a_client_that_was_done_meanwhile_begins_anew() {
        let reading = Reading::default();
        reading.listed.store(true, SeqCst);
        reading.owe(10);
        assert!(reading.look(false, LEAST));
        reading.pay(10);
        reading.owe(10);
        assert!(reading.look(true, LEAST), "all was sent at some time");
        assert!(!reading.look(true, LEAST), "and nothing since");

        let reading = Reading::default();
        reading.owe(10);
        reading.pay(10);
        assert!(!reading.look(true, LEAST), "there is nothing to look at");
        assert!(!reading.given_up.load(SeqCst));
        assert!(!reading.listed.load(SeqCst));
    }
}

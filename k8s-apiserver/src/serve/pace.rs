//! [`Paced`]: a connection whose peer has to take what waits for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Bytes a second that a client has to take of what waits for it. ASP.NET's server asks for as many; the slowest of
/// links are faster.
const LEAST: u128 = 240;

/// How many bytes a client has to take in that time, if so many wait for it.
pub(super) fn least(time: Duration) -> usize {
    usize::try_from(LEAST * time.as_millis() / 1000)
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Fails with [`io::ErrorKind::TimedOut`] when less was taken than [`least`] while something waited for all of
/// `patience`.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    patience: Duration,
    at_leisure: bool,
    /// Since something waits.
    taken: usize,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Paced {
            inner,
            patience,
            at_leisure: false,
            taken: 0,
            waiting: None,
        }
    }

    /// Whether the peer may take its time from now on.
    pub(super) fn set_at_leisure(&mut self, at_leisure: bool) {
        self.at_leisure = at_leisure;
    }

    /// What is written of a number of bytes, and whether that goes too slowly.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        all: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            let taken = *result.as_ref().unwrap_or(&0);
            self.taken += taken;
            if taken == all || self.taken >= least(self.patience) {
                self.waiting = None;
            }
            return Poll::Ready(result);
        }
        if self.at_leisure {
            self.waiting = None;
            return Poll::Pending;
        }
        let sleep = match &mut self.waiting {
            Some(sleep) => sleep,
            none => {
                self.taken = 0;
                none.insert(Box::pin(sleep(self.patience)))
            }
        };
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take what is sent",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(cx, bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        let all = parts.iter().map(|part| part.len()).sum();
        self.judge(cx, all, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn pair() -> (Paced<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(1000);
        (Paced::new(near, PATIENCE), far)
    }

    /// Takes so many bytes every so often.
    async fn take(mut peer: DuplexStream, bytes: usize, each: Duration) {
        let mut space = vec![0; bytes];
        while peer.read_exact(&mut space).await.is_ok() {
            sleep(each).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut paced, _peer) = pair();
        let started = Instant::now();
        let error = paced.write_all(&[0; 1001]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let taken = started.elapsed();
        assert!((60..61).contains(&taken.as_secs()), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_now_and_then_is_given_up() {
        let (mut paced, peer) = pair();
        tokio::spawn(take(peer, 1, Duration::from_secs(10)));
        let error = paced.write_all(&[0; 10_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_gets_all_of_it() {
        let (mut paced, peer) = pair();
        tokio::spawn(take(peer, 300, Duration::from_secs(1)));
        let started = Instant::now();
        paced.write_all(&vec![0; 1 << 20]).await.unwrap();
        assert!(started.elapsed() > Duration::from_secs(3400));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_waits_does_not_count() {
        let (mut paced, mut peer) = pair();
        let mut space = [0; 1000];
        for _ in 0..3 {
            paced.write_all(&[0; 1000]).await.unwrap();
            let late = async {
                sleep(PATIENCE - Duration::from_secs(1)).await;
                peer.read_exact(&mut space).await.unwrap();
            };
            let (written, ()) = tokio::join!(paced.write_all(b"x"), late);
            written.unwrap();
            sleep(PATIENCE * 2).await;
            peer.read_exact(&mut space[..1]).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_at_leisure_is_waited_for() {
        let (mut paced, mut peer) = pair();
        paced.set_at_leisure(true);
        let late = async {
            sleep(PATIENCE * 100).await;
            let mut space = [0; 1000];
            peer.read_exact(&mut space).await.unwrap();
        };
        let (written, ()) = tokio::join!(paced.write_all(&[0; 1001]), late);
        written.unwrap();
    }
}

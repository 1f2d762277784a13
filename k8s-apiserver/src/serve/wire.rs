//! [`Wire`]: a connection's bytes, lent to the HTTP library, and taken back from it when the answer to a
//! watch has begun.
//!
//! An HTTP/1.1 connection of the library keeps buffers, the head of its last request and the state of its
//! service, some 30 KiB together, and looks at all of that whenever there is something to send. A watch
//! needs none of it once its head is on its way. So the library is given a body without an end in its place, and
//! when it has sent the head and waits, the connection is taken from it: what is left are the TLS session and the
//! watch. When that ends by itself, the library gets the connection back for the next request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{AtLeisure, BoxError, Endless, pace::Paced};

type Stream = Box<TlsStream<Paced<TcpStream>>>;

/// How much of what a client sends while it watches is kept for later.
const AHEAD: usize = 8 * 1024;

/// A connection's bytes. Gives the reader at most one head of a request at a time, and nothing while it may
/// have to give the connection back, so that it never has more than what belongs to the request that it serves.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Option<Stream>,
    /// Read, and not yet given to the reader.
    ahead: BytesMut,
    line: Line,
    home: Arc<dyn Home>,
}

/// Whom a wire belongs to that is lent.
trait Home: std::fmt::Debug + Send + Sync {
    fn come_home(&self, stream: Stream, ahead: BytesMut);
    fn written(&self);
    fn flushed(&self);
    /// Whether the reader is to wait. It is woken when it need not any more.
    fn is_held(&self, cx: &Context<'_>) -> bool;
    /// Whether the client may take its time with what is being sent.
    fn is_at_leisure(&self) -> bool;
}

/// A wire that is lent, and the watch for which it is wanted back.
pub(super) struct Loan<B> {
    wanted: Mutex<Option<B>>,
    /// Whether something was written since it is wanted back, and all of it is out.
    written: AtomicBool,
    flushed: AtomicBool,
    /// Whether a request is being served whose answer may be a watch, and who waits to read on.
    held: AtomicBool,
    reader: Mutex<Option<Waker>>,
    at_leisure: AtomicBool,
    home: Mutex<Option<(Stream, BytesMut)>>,
}

impl<B> std::fmt::Debug for Loan<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loan").finish_non_exhaustive()
    }
}

impl<B: Send> Home for Loan<B> {
    fn come_home(&self, stream: Stream, ahead: BytesMut) {
        *self.home.lock() = Some((stream, ahead));
    }

    fn written(&self) {
        self.written.store(true, Ordering::Relaxed);
        self.flushed.store(false, Ordering::Relaxed);
    }

    fn flushed(&self) {
        self.flushed.store(true, Ordering::Relaxed);
    }

    fn is_held(&self, cx: &Context<'_>) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        if held {
            *self.reader.lock() = Some(cx.waker().clone());
        }
        held
    }

    fn is_at_leisure(&self) -> bool {
        self.at_leisure.load(Ordering::Relaxed)
    }
}

impl<B: Send + 'static> Loan<B> {
    /// Lends a stream, of which something may have been read already.
    pub(super) fn new(stream: Stream, ahead: BytesMut) -> (Arc<Self>, Wire) {
        let loan = Arc::new(Loan {
            wanted: Mutex::new(None),
            written: AtomicBool::new(false),
            flushed: AtomicBool::new(false),
            held: AtomicBool::new(false),
            reader: Mutex::new(None),
            at_leisure: AtomicBool::new(false),
            home: Mutex::new(None),
        });
        let wire = Wire {
            stream: Some(stream),
            ahead,
            line: Line::Empty,
            home: loan.clone(),
        };
        (loan, wire)
    }

    /// That a request is being served for whose answer the connection may be wanted back.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// The answer as the HTTP library is to have it. The body of a watch is kept back.
    pub(super) fn keep_back(&self, answer: Response<B>) -> Response<Lent<B>> {
        let at_leisure = answer.extensions().get::<AtLeisure>().is_some();
        self.at_leisure.store(at_leisure, Ordering::Relaxed);
        let held = self.held.load(Ordering::Relaxed);
        if !held || answer.extensions().get::<Endless>().is_none() {
            self.held.store(false, Ordering::Relaxed);
            if let Some(reader) = self.reader.lock().take() {
                reader.wake();
            }
            return answer.map(Lent::Whole);
        }
        let (parts, body) = answer.into_parts();
        self.written.store(false, Ordering::Relaxed);
        *self.wanted.lock() = Some(body);
        Response::from_parts(parts, Lent::KeptBack)
    }

    /// The body that was kept back, as soon as all that goes before it is out.
    pub(super) fn kept_back(&self) -> Option<B> {
        if !self.written.load(Ordering::Relaxed) || !self.flushed.load(Ordering::Relaxed) {
            return None;
        }
        self.wanted.lock().take()
    }

    /// The stream, once the library has dropped its wire.
    pub(super) fn end(&self) -> Option<(Stream, BytesMut)> {
        self.home.lock().take()
    }
}

/// Whether the connection may be taken from the library for the answer to a request: nothing may come
/// after its head, and the client must not want the connection closed.
pub(super) fn may_take<B: Body>(request: &Request<B>) -> bool {
    let stays = |headers: &HeaderMap| {
        (headers.get_all(header::CONNECTION).iter())
            .all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
    };
    request.version() == Version::HTTP_11
        && request.method() == http::Method::GET
        && request.body().is_end_stream()
        && stays(request.headers())
}

/// What the HTTP library gets for a body.
pub(super) enum Lent<B> {
    /// The body.
    Whole(B),
    /// Nothing, and never an end.
    KeptBack,
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.get_mut() {
            Lent::Whole(body) => Pin::new(body).poll_frame(cx),
            Lent::KeptBack => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Lent::Whole(body) => body.is_end_stream(),
            Lent::KeptBack => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Lent::Whole(body) => body.size_hint(),
            Lent::KeptBack => SizeHint::default(),
        }
    }
}

/// Sends a body in chunks, after a head that has announced them. Ends with an error when the client goes away.
pub(super) async fn send<B>(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    mut body: B,
) -> Result<(), BoxError>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    loop {
        let next = std::future::poll_fn(|cx| {
            if poll_gone(stream, ahead, cx)?.is_ready() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Pin::new(&mut body).poll_frame(cx).map(Ok::<_, io::Error>)
        });
        let Some(frame) = next.await? else {
            stream.write_all(b"0\r\n\r\n").await?;
            stream.flush().await?;
            return Ok(());
        };
        let Ok(data) = frame.map_err(Into::into)?.into_data() else {
            continue;
        };
        if data.has_remaining() {
            let size = Bytes::from(format!("{:x}\r\n", data.remaining()));
            // One write for the three: one record of TLS, and one packet, if it is short.
            let mut chunk = size.chain(data).chain(&b"\r\n"[..]);
            stream.write_all_buf(&mut chunk).await?;
            stream.flush().await?;
        }
    }
}

/// Whether the client has gone away. Keeps what else it sends.
fn poll_gone(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    cx: &mut Context<'_>,
) -> io::Result<Poll<()>> {
    while ahead.len() < AHEAD {
        let mut space = [0; 256];
        let mut space = ReadBuf::new(&mut space);
        match Pin::new(&mut *stream).poll_read(cx, &mut space)? {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(()) if space.filled().is_empty() => return Ok(Poll::Ready(())),
            Poll::Ready(()) => ahead.extend_from_slice(space.filled()),
        }
    }
    Ok(Poll::Pending)
}

/// What there is so far of the line that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    Return,
    Text,
}

impl Line {
    /// How many of the bytes there are up to and with the first empty line.
    fn end_of_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(length) = memchr::memchr(b'\n', &bytes[at..]) {
            self.add(&bytes[at..at + length]);
            at += length + 1;
            if std::mem::replace(self, Line::Empty) != Line::Text {
                return Some(at);
            }
        }
        self.add(&bytes[at..]);
        None
    }

    fn add(&mut self, part: &[u8]) {
        *self = match (*self, part) {
            (line, []) => line,
            (Line::Empty, b"\r") => Line::Return,
            _ => Line::Text,
        };
    }
}

impl Wire {
    fn stream(&mut self) -> io::Result<Pin<&mut TlsStream<Paced<TcpStream>>>> {
        let stream = self.stream.as_deref_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn set_pace(&mut self) -> io::Result<()> {
        let at_leisure = self.home.is_at_leisure();
        self.stream()?
            .get_mut()
            .get_mut()
            .0
            .set_at_leisure(at_leisure);
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.home.is_held(cx) {
            // Of what comes now, the reader only needs to know whether it is the end.
            let stream = this.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            return poll_gone(stream, &mut this.ahead, cx)?.map(Ok);
        }
        if !this.ahead.is_empty() {
            let some = this.ahead.len().min(buffer.remaining());
            let some = this.line.end_of_head(&this.ahead[..some]).unwrap_or(some);
            buffer.put_slice(&this.ahead.split_to(some));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(this.stream()?.poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        if let Some(end) = this.line.end_of_head(new)
            && end < new.len()
        {
            this.ahead.extend_from_slice(&new[end..]);
            buffer.set_filled(before + end);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.home.written();
        self.set_pace()?;
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.home.written();
        self.set_pace()?;
        self.stream()?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.set_pace()?;
        ready!(self.stream()?.poll_flush(cx))?;
        self.home.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.home.come_home(stream, std::mem::take(&mut self.ahead));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the heads end when the bytes come in pieces of that size.
    fn ends(bytes: &[u8], size: usize) -> Vec<usize> {
        let (mut line, mut ends, mut at) = (Line::Empty, Vec::new(), 0);
        for piece in bytes.chunks(size) {
            let mut rest = piece;
            while let Some(end) = line.end_of_head(rest) {
                at += end;
                ends.push(at);
                rest = &rest[end..];
            }
            at += rest.len();
        }
        ends
    }

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        let bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\nHost: \r\r\n\n{}\r";
        for size in 1..=bytes.len() {
            assert_eq!(ends(bytes, size), [27, 53], "{size}");
        }
    }
}

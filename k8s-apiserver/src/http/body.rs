//! [`Body`]: the bytes of a request or an answer.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, stream::BoxStream};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

/// Any error, boxed.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// Makes the next piece of a body.
pub(crate) type Chunks = Box<dyn FnMut() -> Option<Result<Bytes, BoxError>> + Send>;

/// The body of a request or of an answer.
///
/// An answer made of stored objects is a list of slices that share the store's memory; nothing is
/// copied until the transport writes them out. A watch is a stream without an end.
pub struct Body {
    kind: Kind,
    /// What is to live as long as the body.
    kept: Option<Box<dyn Send>>,
}

enum Kind {
    Slices { slices: VecDeque<Bytes>, left: u64 },
    Chunks { next: Chunks, left: Option<u64> },
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Kind::Slices {
            slices: VecDeque::new(),
            left: 0,
        }
        .into()
    }

    /// The slices, one after the other.
    pub fn from_slices(slices: impl IntoIterator<Item = Bytes>) -> Self {
        let slices: VecDeque<Bytes> = slices.into_iter().filter(|s| !s.is_empty()).collect();
        let left = slices.iter().map(|s| s.len() as u64).sum();
        Kind::Slices { slices, left }.into()
    }

    /// Made piece by piece as it is read, as many bytes as said where that is known. An error cuts
    /// the connection.
    pub(crate) fn from_chunks(
        len: Option<u64>,
        next: impl FnMut() -> Option<Result<Bytes, BoxError>> + Send + 'static,
    ) -> Self {
        Kind::Chunks {
            next: Box::new(next),
            left: len,
        }
        .into()
    }

    /// Whatever the stream yields, as it yields it. An error cuts the connection.
    pub fn from_stream(
        stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    ) -> Self {
        Kind::Stream(Box::pin(stream)).into()
    }

    /// Another library's body.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        Kind::Boxed(body.map_err(Into::into).boxed_unsync()).into()
    }

    /// How many bytes it has, where that is known in advance.
    pub fn len(&self) -> Option<u64> {
        http_body::Body::size_hint(self).exact()
    }

    /// Whether it is known to have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The pieces of a body that needs not be waited for.
    pub(crate) fn into_chunks(self) -> Result<Chunks, Body> {
        match (self.kind, self.kept) {
            (Kind::Slices { mut slices, .. }, _) => {
                Ok(Box::new(move || slices.pop_front().map(Ok)))
            }
            (Kind::Chunks { next, .. }, None) => Ok(next),
            (Kind::Chunks { mut next, .. }, Some(kept)) => Ok(Box::new(move || {
                let _kept = &kept;
                next()
            })),
            (kind, kept) => Err(Body { kind, kept }),
        }
    }

    /// Whether there is still work to do until it is written: it is made piece by piece.
    pub(crate) fn is_unfinished(&self) -> bool {
        matches!(self.kind, Kind::Chunks { .. })
    }

    /// Lets something live as long as the body.
    pub(crate) fn keeping(mut self, kept: impl Send + 'static) -> Self {
        self.kept = Some(match self.kept.take() {
            Some(before) => Box::new((before, kept)),
            None => Box::new(kept),
        });
        self
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Body { kind, kept: None }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::from_slices([bytes])
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::from(Bytes::from(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Body::from(Bytes::from_static(text.as_bytes()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Slices { slices, left } => {
                let next = slices.pop_front();
                *left -= next.as_ref().map_or(0, |s| s.len() as u64);
                Poll::Ready(next.map(|s| Ok(Frame::data(s))))
            }
            Kind::Chunks { next, left } => {
                let next = next();
                if let (Some(left), Some(Ok(chunk))) = (left, &next) {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                Poll::Ready(next.map(|chunk| chunk.map(Frame::data)))
            }
            Kind::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|next| next.map(|r| r.map(Frame::data))),
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Slices { left, .. }
            | Kind::Chunks {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            Kind::Chunks { left: None, .. } | Kind::Stream(_) => SizeHint::default(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Slices { slices, .. } => slices.is_empty(),
            Kind::Chunks { left, .. } => *left == Some(0),
            Kind::Stream(_) => false,
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }
}

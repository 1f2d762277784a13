//! Request bodies that nobody reads to their end.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use super::body::{Body, BoxError};

/// No more than this is read for the sake of the connection; it is what Go's server reads.
const MOST: u64 = 256 << 10;
/// No longer than this is waited for it.
const LONGEST: Duration = Duration::from_secs(5);

impl Body {
    /// The body of a request. A request may be refused before its body has been read, or has come: what is
    /// left of a short one is read then, so that the connection can be used for the next request.
    pub(crate) fn of_request<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Body::empty();
        }
        let inner = body.map_err(Into::into).boxed_unsync();
        Body::wrap(Unread(Some(inner)))
    }
}

struct Unread(Option<UnsyncBoxBody<Bytes, BoxError>>);

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.0.as_ref().map(http_body::Body::size_hint);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.0.take() else {
            return;
        };
        let left = http_body::Body::size_hint(&body).exact();
        if http_body::Body::is_end_stream(&body) || left.is_none_or(|left| left > MOST) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, rest(body)));
        }
    }
}

async fn rest(mut body: UnsyncBoxBody<Bytes, BoxError>) {
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// Tells what is read of it.
    struct Told(u64, mpsc::UnboundedSender<u64>);

    impl http_body::Body for Told {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Ready(None);
            };
            self.0 = left;
            let _ = self.1.send(left);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }

        fn is_end_stream(&self) -> bool {
            self.0 == 0
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn a_short_body_is_read_to_its_end_and_a_long_one_left() {
        let (sender, mut told) = mpsc::unbounded_channel();
        drop(Body::of_request(Told(3, sender)));
        assert_eq!(told.recv().await, Some(2));
        assert_eq!(told.recv().await, Some(1));
        assert_eq!(told.recv().await, Some(0));
        assert_eq!(told.recv().await, None);
        let (sender, mut told) = mpsc::unbounded_channel();
        drop(Body::of_request(Told(MOST + 1, sender)));
        assert_eq!(told.recv().await, None);
    }
}

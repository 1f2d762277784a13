//! Bytes both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use k8s_streaming::channel::FINISH;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::forward::BUFFER;

/// Copies until both sides are done. When one has ended, the other has [`FINISH`] to take what is left and to end too:
/// nobody keeps half a tunnel for ever.
pub(super) async fn both_ways(
    client: impl AsyncRead + AsyncWrite + Unpin,
    backend: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let ended = &Notify::new();
    let mut client = Side {
        stream: client,
        ended,
    };
    let mut backend = Side {
        stream: backend,
        ended,
    };
    let patience = async {
        ended.notified().await;
        tokio::time::sleep(FINISH).await;
    };
    tokio::select! {
        copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER) => {
            copied.map(|_| ())
        }
        () = patience => Ok(()),
    }
}

/// A stream that tells of its end.
struct Side<'n, S> {
    stream: S,
    ended: &'n Notify,
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if before > 0 && buffer.remaining() == before {
            self.ended.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test]
    async fn who_has_ended_still_hears_the_other() {
        let ((mut client, near), (far, mut backend)) = (duplex(64), duplex(64));
        let copying = both_ways(near, far);
        let talking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let (mut asked, mut answer) = (Vec::new(), Vec::new());
            backend.read_to_end(&mut asked).await.unwrap();
            backend.write_all(b"answer").await.unwrap();
            drop(backend);
            client.read_to_end(&mut answer).await.unwrap();
            (asked, answer)
        };
        let (copied, talked) = tokio::join!(copying, talking);
        copied.unwrap();
        assert_eq!(talked, (b"question".to_vec(), b"answer".to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_tunnel_does_not_last() {
        for client_ends in [true, false] {
            let ((client, near), (far, backend)) = (duplex(64), duplex(64));
            let begun = Instant::now();
            let (mut ending, _open) = match client_ends {
                true => (client, backend),
                false => (backend, client),
            };
            ending.shutdown().await.unwrap();
            both_ways(near, far).await.unwrap();
            assert!(begun.elapsed() >= FINISH);
        }
    }
}

//! One connection, from its handshake to its end.

use std::{net::SocketAddr, pin::pin, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::{BoxError, Limits, PeerAddress, ServerTls, tls::H2, until_drained};

/// How long a connection is silent before the kernel asks whether the peer is there, and how often it asks then;
/// as Go's listeners.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Frames and windows of HTTP/2: lists are long, and a window that is too small makes them wait
/// for the client.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const FRAME: u32 = 64 << 10;

pub(super) struct Connection {
    pub(super) tls: ServerTls,
    pub(super) limits: Limits,
    pub(super) peer: SocketAddr,
    pub(super) drain: CancellationToken,
}

impl Connection {
    pub(super) async fn run<S, B>(self, stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        // Small answers must not wait for the peer's acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        // Nor may a peer that is gone keep a watch or a tunnel open.
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let handshake =
            tokio::time::timeout(self.limits.handshake, self.tls.acceptor().accept(stream));
        let stream = match self.drain.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => {
                tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                return;
            }
            Some(Err(_)) => {
                tracing::debug!(peer = %self.peer, "TLS handshake took too long");
                return;
            }
            None => return,
        };
        if let Err(error) = self.speak(stream, service).await {
            tracing::debug!(peer = %self.peer, error = &*error, "connection failed");
        }
    }

    async fn speak<S, B>(&self, stream: TlsStream<TcpStream>, service: S) -> Result<(), BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let session = stream.get_ref().1;
        let is_h2 = session.alpn_protocol() == Some(H2);
        let certificates = session
            .peer_certificates()
            .map(|chain| self.tls.peer(chain));
        let peer = PeerAddress(self.peer);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(peer);
            if let Some(certificates) = &certificates {
                extensions.insert(certificates.clone());
            }
            service.clone().oneshot(request)
        });
        let io = TokioIo::new(stream);
        if is_h2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(self.limits.streams)
                .max_header_list_size(self.limits.header_bytes)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                // Upstream pings an idle connection and gives it up when nothing comes back.
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(15))
                .serve_connection(io, service);
            let connection = pin!(connection);
            until_drained(connection, &self.drain, |c| c.graceful_shutdown()).await?;
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.header)
                .half_close(false)
                .serve_connection(io, service)
                .with_upgrades();
            let connection = pin!(connection);
            until_drained(connection, &self.drain, |c| c.graceful_shutdown()).await?;
        }
        Ok(())
    }
}

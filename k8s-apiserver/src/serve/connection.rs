//! One connection, from its handshake to its end.

use std::{net::SocketAddr, task::Poll, time::Duration};

use bytes::BytesMut;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::{
    BoxError, Limits, PeerAddress, ServerTls,
    pace::Paced,
    streams::Streams,
    tls::H2,
    until_drained,
    wire::{self, Loan},
};
use crate::auth::PeerCertificates;

/// How long a connection is silent before the kernel asks whether the peer is there, and how often it asks then;
/// as Go's listeners.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How much the kernel takes for a client that takes nothing, beside what is on its way. It would take some
/// megabytes, and ask for more when a third of that is gone: of a slow client it would be known once a minute that it takes
/// anything.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 512 << 10;
/// Frames and windows of HTTP/2: lists are long, and a window that is too small makes them wait
/// for the client.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const FRAME: u32 = 64 << 10;

/// How many headers a request over HTTP/1 may have; upstream counts their bytes alone. Who acts as somebody else names each
/// of his groups in one.
pub(crate) const MAX_HEADERS: usize = 512;

/// How long a client may take to let go of a connection on which nothing happens.
const GOODBYE: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    pub(super) tls: ServerTls,
    pub(super) limits: Limits,
    pub(super) peer: SocketAddr,
    pub(super) drain: CancellationToken,
}

/// Whether a client speaks HTTP without TLS, by how the requests begin that Go's server knows by.
async fn is_plain(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; 5];
    let seen = stream.peek(&mut first).await?;
    Ok(matches!(
        &first[..seen],
        b"GET /" | b"HEAD " | b"POST " | b"PUT /" | b"OPTIO"
    ))
}

/// What Go's server answers to it.
async fn answer_plainly(stream: &mut TcpStream) -> std::io::Result<()> {
    // What is unread at the end would take the answer with it.
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    let answer =
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

impl Connection {
    // Each stage is in a box of its own: a connection that has come further takes no memory for those
    // before, nor for the other protocol.
    pub(super) async fn run<S, B>(self, stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        // Small answers must not wait for the peer's acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        // Nor may a peer that is gone keep a watch or a tunnel open.
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE);
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_keepalive(&keepalive);
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        let acceptor = self.tls.acceptor();
        let untaken = self.limits.untaken;
        let accepted = Box::pin(async move {
            let mut stream = stream;
            if is_plain(&stream).await? {
                answer_plainly(&mut stream).await?;
                return Err(std::io::Error::other("HTTP without TLS"));
            }
            acceptor.accept(Paced::new(stream, untaken)).await
        });
        let handshake = tokio::time::timeout(self.limits.handshake, accepted);
        let stream = match self.drain.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => Box::new(stream),
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
        let ended = if stream.get_ref().1.alpn_protocol() == Some(H2) {
            Box::pin(self.speak_http2(stream, service)).await
        } else {
            Box::pin(self.speak_http1(stream, service)).await
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %self.peer, error = &*error, "connection failed");
        }
    }

    async fn speak_http2<S, B>(
        &self,
        stream: Box<TlsStream<Paced<TcpStream>>>,
        service: S,
    ) -> Result<(), BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let peer = self.peer(&stream);
        let streams = Streams::new();
        let begun = streams.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            peer.mark(&mut request);
            let streams = begun.clone();
            let served = (begun.begin()).map(|reading| (reading, service.clone().oneshot(request)));
            // In a box: the task of a stream goes on with the body, and takes no memory for what goes before.
            Box::pin(async move {
                match served {
                    Some((reading, answer)) => match answer.await {
                        Ok(answer) => Ok(streams.answer(reading, answer)),
                        Err(error) => Err(Failure::Service(error.into())),
                    },
                    None => Err(Failure::Late(h2::Reason::REFUSED_STREAM.into())),
                }
            })
        });
        let mut connection = Box::pin(
            http2::Builder::new(streams.clone())
                .timer(TokioTimer::new())
                .max_concurrent_streams(self.limits.streams)
                .max_header_list_size(self.limits.header_bytes)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .serve_connection(TokioIo::new(stream), service),
        );
        let mut left_alone = std::pin::pin!(streams.left_alone(self.limits.untaken));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Ok(ended?),
            () = left_alone.as_mut() => return Err("an answer is not taken".into()),
            () = self.drain.cancelled() => {}
            () = streams.unwelcome() => {}
            () = streams.idle(self.limits.idle) => {}
        }
        connection.as_mut().graceful_shutdown();
        streams.say_goodbye();
        // The client need not agree: it may leave its last streams unused, or go on with new ones.
        tokio::select! {
            biased;
            ended = connection => Ok(ended?),
            () = streams.idle(GOODBYE) => Ok(()),
            () = streams.overrun() => Ok(()),
            () = left_alone => Err("an answer is not taken".into()),
        }
    }

    async fn speak_http1<S, B>(
        &self,
        mut stream: Box<TlsStream<Paced<TcpStream>>>,
        service: S,
    ) -> Result<(), BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let mut ahead = BytesMut::new();
        loop {
            let Some(mut watch) = self.serve_http1(stream, ahead, service.clone()).await? else {
                return Ok(());
            };
            watch.stream.get_mut().0.set_at_leisure(false);
            wire::send(&mut watch.stream, &mut watch.ahead, watch.body).await?;
            (stream, ahead) = (watch.stream, watch.ahead);
            if self.drain.is_cancelled() {
                stream.shutdown().await?;
                return Ok(());
            }
        }
    }

    /// Answers requests until the connection ends, or until a watch is answered: that goes on without the HTTP
    /// library.
    async fn serve_http1<S, B>(
        &self,
        stream: Box<TlsStream<Paced<TcpStream>>>,
        ahead: BytesMut,
        service: S,
    ) -> Result<Option<Watch<B>>, BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let peer = self.peer(&stream);
        let (loan, wire) = Loan::new(stream, ahead);
        let lender = loan.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            peer.mark(&mut request);
            if wire::may_take(&request) {
                lender.hold();
            }
            let answer = service.clone().oneshot(request);
            let loan = lender.clone();
            async move { Ok::<_, S::Error>(loan.keep_back(answer.await?)) }
        });
        let mut connection = Box::pin(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.header)
                .half_close(false)
                .max_headers(MAX_HEADERS)
                .serve_connection(TokioIo::new(wire), service)
                .with_upgrades(),
        );
        let watch = {
            let served = until_drained(connection.as_mut(), &self.drain, |c| c.graceful_shutdown());
            let mut served = std::pin::pin!(served);
            std::future::poll_fn(|cx| match served.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
                Poll::Pending => match loan.kept_back() {
                    Some(body) => Poll::Ready(Ok(Some(body))),
                    None => Poll::Pending,
                },
            })
            .await?
        };
        // The library gives back what it was lent.
        drop(connection);
        Ok(watch.and_then(|body| {
            let (stream, ahead) = loan.end()?;
            Some(Watch {
                stream,
                ahead,
                body,
            })
        }))
    }

    fn peer(&self, stream: &TlsStream<Paced<TcpStream>>) -> Peer {
        let chain = stream.get_ref().1.peer_certificates();
        Peer {
            address: PeerAddress(self.peer),
            certificates: chain.map(|chain| self.tls.peer(chain)),
        }
    }
}

/// Why a stream has no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the client was told goodbye before")]
    Late(#[source] h2::Error),
    #[error("{0}")]
    Service(BoxError),
}

/// A watch whose head was sent, and the connection that it has to itself.
struct Watch<B> {
    stream: Box<TlsStream<Paced<TcpStream>>>,
    /// What the client has sent besides.
    ahead: BytesMut,
    body: B,
}

/// What a request is told of its connection.
struct Peer {
    address: PeerAddress,
    certificates: Option<PeerCertificates>,
}

impl Peer {
    fn mark(&self, request: &mut Request<Incoming>) {
        let extensions = request.extensions_mut();
        extensions.insert(self.address);
        if let Some(certificates) = &self.certificates {
            extensions.insert(certificates.clone());
        }
    }
}

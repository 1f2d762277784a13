//! The TLS listener: connections in, requests to any tower service.
//!
//! [`serve`] runs a service on one or more listening sockets. A connection is one task; HTTP/2
//! and HTTP/1.1 (with upgrades) are told apart by ALPN. What the service finds in a request's
//! extensions is [`PeerCertificates`](crate::auth::PeerCertificates), where the client showed
//! any, be they [good](crate::auth::PeerCertificates::is_client) or not, and [`PeerAddress`].

mod clients;
mod connection;
mod pace;
mod streams;
pub mod tls;
mod wire;

use std::{future::Future, io, net::SocketAddr, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

pub(crate) use self::connection::MAX_HEADERS;
pub use self::tls::{ServerTls, TlsError, client_config, server_config};

/// What a body's stream, or a service, fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The address at the other end of a request's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// In the extensions of an answer: its body goes on for as long as its client wants, as that of a watch
/// does. Over HTTP/1.1 the listener then keeps nothing of the request, and no buffers, beside the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// In the extensions of an answer: its client may leave it alone for as long as it likes, as one does who pages through
/// a log. All other answers are [given up](Limits::untaken) then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeisure;

/// A listening socket that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error("{address} is in use by another program")]
    InUse {
        /// Where.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Opens a listening socket.
///
/// # Errors
/// [`BindError::InUse`] if somebody else listens there.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse { address }
        } else {
            BindError::Io { address, source }
        }
    })
}

/// How long a client may take, and how much it may send before its request is understood.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request in HTTP/1.1, from the end of the one before on.
    pub header: Duration,
    /// Without a request in an HTTP/2 connection.
    pub idle: Duration,
    /// For taking the least of an answer that waits for the client: 240 bytes for each second of it. Over HTTP/2 the
    /// stream of such an answer is reset, once or twice that time after it has begun to wait; the connection
    /// ends if the answer was short. Over HTTP/1.1 the connection ends.
    pub untaken: Duration,
    /// Requests at once in an HTTP/2 connection.
    pub streams: u32,
    /// Bytes of a request's headers in HTTP/2; 1 MiB is what upstream's library takes.
    pub header_bytes: u32,
}

impl Default for Limits {
    /// Ten seconds for the handshake, ninety for a head and without a request, which is how long upstream keeps
    /// an idle connection; a minute for answers; 1000 streams, 1 MiB.
    fn default() -> Self {
        Limits {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(90),
            idle: Duration::from_secs(90),
            untaken: Duration::from_secs(60),
            streams: 1000,
            header_bytes: 1 << 20,
        }
    }
}

/// A running listener. Dropping it cuts every connection; [`Server::shutdown`] doesn't.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    drain: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts no more connections, closes idle ones, and closes the others when what they do has ended.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops in two stages. First no connection is accepted, idle ones are closed, and running
    /// requests may finish; after `grace`, or as soon as all are done, what is left is cut: streams
    /// that don't end by themselves, such as watches and tunnels.
    ///
    /// # Cancel safety
    /// Dropping the future cuts what is left at once.
    pub async fn shutdown(self, grace: Duration) {
        self.drain.cancel();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain.cancel();
        self.cut.cancel();
    }
}

/// Serves requests from the listeners until the returned value is dropped or shut down.
///
/// Spawns one task per listener and one per connection; the value owns them all.
///
/// # Errors
/// If a listener has no local address.
pub fn serve<S, B>(
    service: S,
    listeners: Vec<TcpListener>,
    tls: impl Into<ServerTls>,
    limits: Limits,
) -> io::Result<Server>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<_>>()?;
    let server = Server {
        addresses,
        drain: CancellationToken::new(),
        cut: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let tls: ServerTls = tls.into();
    for listener in listeners {
        let (drain, cut) = (server.drain.clone(), server.cut.clone());
        let (tls, service) = (tls.clone(), service.clone());
        let tasks = server.tasks.clone();
        server.tasks.spawn(async move {
            let draining = drain.clone();
            let accepting = accept(&listener, move |stream, peer| {
                let connection = connection::Connection {
                    tls: tls.clone(),
                    limits,
                    peer,
                    drain: drain.clone(),
                };
                let cut = cut.clone();
                let service = service.clone();
                tasks.spawn(async move {
                    cut.run_until_cancelled(connection.run(stream, service))
                        .await;
                });
            });
            draining.run_until_cancelled(accepting).await;
        });
    }
    server.tasks.close();
    Ok(server)
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, mut each: impl FnMut(TcpStream, SocketAddr)) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => each(stream, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Most likely out of file descriptors: accepting again at once would spin.
                tracing::warn!(%error, "connections cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Runs the connection; when told to drain, lets what it is doing finish.
async fn until_drained<C: Future>(
    mut connection: std::pin::Pin<&mut C>,
    drain: &CancellationToken,
    finish: impl FnOnce(std::pin::Pin<&mut C>),
) -> C::Output {
    tokio::select! {
        biased;
        output = connection.as_mut() => return output,
        () = drain.cancelled() => finish(connection.as_mut()),
    }
    connection.await
}

#[cfg(test)]
mod tests;

//! [`NodeDialer`]: the way to a kubelet.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    pki::Credential,
    serve::{TlsError, client_config},
};

/// How long it may take to reach something.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection: bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Where a kubelet says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The node's name.
    pub node: String,
    /// The node's address: its internal one, or else its external one or its host name.
    pub host: String,
    /// The kubelet's port.
    pub port: u16,
    /// What `host` stands for, if that has been looked up and judged: these are to be dialled, and nothing that a second
    /// look-up may say. Empty if nobody has looked.
    pub addresses: Vec<IpAddr>,
}

/// Opens connections to kubelets.
///
/// # Purpose
/// The server calls it once per request that has to do with a running pod or a node. Write your own to
/// reach kubelets otherwise than over TLS: within the process, through a tunnel.
///
/// # Guarantees
/// The stream speaks HTTP/1.1 to the kubelet's own server, which knows the caller to be the API server:
/// authorization of the end user is done.
///
/// # Errors
/// The client sees the error's text after `error dialing backend: `.
#[async_trait]
pub trait NodeDialer: Debug + Send + Sync {
    /// Connects to the kubelet of the node.
    async fn dial(&self, endpoint: &NodeEndpoint) -> io::Result<Box<dyn ByteStream>>;

    /// Whether it connects over the network to where the node says it is; true by default. A node says of itself what it
    /// likes, so `nodes/proxy` then refuses addresses that are the server's own: it would be asked as the API server.
    /// False is for those that find kubelets by the names of their nodes alone.
    fn dials(&self) -> bool {
        true
    }
}

/// Reaches kubelets over TLS: they must show a certificate of the cluster's authority for the address
/// dialled, and the server shows them one of its own. Clones share it.
#[derive(Clone)]
pub struct TlsDialer(Arc<Shared>);

struct Shared {
    authority: CertificateDer<'static>,
    config: ArcSwap<ClientConfig>,
}

impl Debug for TlsDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsDialer").finish_non_exhaustive()
    }
}

impl TlsDialer {
    /// Trusts the authority, and shows the credential: that of [`Pki::kubelet_client`](crate::pki::Pki::kubelet_client).
    ///
    /// # Errors
    /// If the certificates cannot be used.
    pub fn new(authority: &CertificateDer<'_>, credential: &Credential) -> Result<Self, TlsError> {
        Ok(TlsDialer(Arc::new(Shared {
            config: ArcSwap::new(config(authority, credential)?),
            authority: authority.clone().into_owned(),
        })))
    }

    /// Shows another credential from the next connection on: one that was renewed.
    ///
    /// # Errors
    /// If it cannot be used; what was shown before is shown on.
    pub fn show(&self, credential: &Credential) -> Result<(), TlsError> {
        self.0.config.store(config(&self.0.authority, credential)?);
        Ok(())
    }
}

fn config(
    authority: &CertificateDer<'_>,
    credential: &Credential,
) -> Result<Arc<ClientConfig>, TlsError> {
    client_config(authority, Some(credential), &[b"http/1.1"])
}

/// Connects to a host within [`DIAL_TIMEOUT`]. The error is as Go's dialler words it, whom clients know.
pub(crate) async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    tcp_to(host, &[], port).await
}

/// As [`tcp`], to one of these addresses of the host if there are any.
pub(super) async fn tcp_to(host: &str, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|ip| (*ip, port).into()).collect();
    let connecting = async {
        match addresses.as_slice() {
            [] => TcpStream::connect((host, port)).await,
            some => TcpStream::connect(some).await,
        }
    };
    let stream = tokio::time::timeout(DIAL_TIMEOUT, connecting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
        .flatten()
        .map_err(|e| {
            let text = match e.kind() {
                io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
                _ => match said(&e) {
                    Some(text) => format!("connect: {text}"),
                    None => e.to_string(),
                },
            };
            let host = match host.contains(':') {
                true => format!("[{host}]"),
                false => host.to_owned(),
            };
            io::Error::new(e.kind(), format!("dial tcp {host}:{port}: {text}"))
        })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What Go calls an error of the operating system that connections end with.
pub(crate) fn said(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::BrokenPipe => "broken pipe",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        _ => return None,
    })
}

/// The name to be found in a server's certificate.
pub(super) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(_) => ServerName::try_from(host.to_owned())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e)),
    }
}

#[async_trait]
impl NodeDialer for TlsDialer {
    async fn dial(&self, endpoint: &NodeEndpoint) -> io::Result<Box<dyn ByteStream>> {
        let stream = tcp_to(&endpoint.host, &endpoint.addresses, endpoint.port).await?;
        let handshake = TlsConnector::from(self.0.config.load_full())
            .connect(server_name(&endpoint.host)?, stream);
        let stream = tokio::time::timeout(DIAL_TIMEOUT, handshake)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{pki::Pki, serve::server_config};

    #[tokio::test]
    async fn kubelets_are_shown_the_renewed_certificate_from_then_on() {
        let pki = Pki::in_memory().unwrap();
        let kubelet = pki.issue_kubelet_server("n", &[[127, 0, 0, 1].into()]);
        let tls = server_config(&kubelet.unwrap(), pki.ca_der()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = NodeEndpoint {
            node: "n".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            addresses: Vec::new(),
        };
        let shown = async |dialer: &TlsDialer| {
            let accepting = async {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = tokio_rustls::TlsAcceptor::from(tls.clone());
                acceptor.accept(stream).await.unwrap()
            };
            let (kubelet, stream) = tokio::join!(accepting, dialer.dial(&endpoint));
            stream.unwrap();
            let chain = kubelet.get_ref().1.peer_certificates().unwrap();
            chain[0].clone().into_owned()
        };
        let [first, second] = [(); 2].map(|()| pki.kubelet_client().unwrap());
        let dialer = TlsDialer::new(pki.ca_der(), &first).unwrap();
        assert_eq!(shown(&dialer).await, first.certificate_der().unwrap());
        let clone = dialer.clone();
        dialer.show(&second).unwrap();
        assert_eq!(shown(&clone).await, second.certificate_der().unwrap());
        let useless = Credential {
            certificate: first.certificate,
            key: second.key.clone(),
        };
        dialer.show(&useless).unwrap_err();
        assert_eq!(shown(&clone).await, second.certificate_der().unwrap());
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_told_as_go_does() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let refused = tcp("127.0.0.1", port).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}

//! [`Connector`]: opens the connections of one client.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use k8s_openapi::api::core::v1::Service;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::Address;
use crate::{
    admission::reader::ObjectReader,
    proxy::{ByteStream, service_backends, tcp},
};

/// Opens the connections of one client.
#[derive(Clone, Debug)]
pub(super) struct Connector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Address,
    /// The name that the certificate must be for, and the settings; nothing for plain HTTP.
    tls: Option<(ServerName<'static>, Arc<rustls::ClientConfig>)>,
    reader: Arc<dyn ObjectReader>,
}

impl Connector {
    pub(super) fn new(
        address: Address,
        tls: Option<(ServerName<'static>, Arc<rustls::ClientConfig>)>,
        reader: Arc<dyn ObjectReader>,
    ) -> Self {
        Connector(Arc::new(Inner {
            address,
            tls,
            reader,
        }))
    }
}

impl Inner {
    async fn dial(&self, uri: &Uri) -> io::Result<Opened> {
        let (host, port) = match &self.address {
            Address::Service(service) => {
                resolve(
                    &*self.reader,
                    &service.namespace,
                    &service.name,
                    service.port,
                )
                .await?
            }
            Address::Url(_) => {
                let host = uri.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let port = if self.tls.is_some() { 443 } else { 80 };
                (host.to_owned(), uri.port_u16().unwrap_or(port))
            }
        };
        let stream = tcp(&host, port).await?;
        let stream: Box<dyn ByteStream> = match &self.tls {
            Some((name, config)) => {
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name.clone(), stream).await?)
            }
            None => Box::new(stream),
        };
        Ok(Opened(TokioIo::new(stream)))
    }
}

/// Where one of those that serve a Service's port is. As upstream with endpoint routing: the server need not
/// be in a network where the Service's own address works.
async fn resolve(
    reader: &dyn ObjectReader,
    namespace: &str,
    name: &str,
    port: u16,
) -> io::Result<(String, u16)> {
    let service: Option<Service> = reader
        .get(namespace, name)
        .await
        .map_err(io::Error::other)?;
    let spec = service
        .ok_or_else(|| io::Error::other(format!("service {name:?} not found")))?
        .spec
        .unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let host = spec.external_name.unwrap_or_default();
        return Ok((host, port));
    }
    let wanted = spec
        .ports
        .into_iter()
        .flatten()
        .find(|p| p.port == i32::from(port))
        .ok_or_else(|| {
            io::Error::other(format!("no service port {port} found for service {name:?}"))
        })?;
    let backends = service_backends(
        reader,
        namespace,
        name,
        wanted.name.as_deref().unwrap_or_default(),
    )
    .await
    .map_err(io::Error::other)?;
    fastrand::choice(backends)
        .ok_or_else(|| io::Error::other(format!("no endpoints available for service {name:?}")))
}

/// The name that a certificate must be for.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(ServerName::from(ip)),
        Err(_) => ServerName::try_from(host.to_owned()).ok(),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Opened;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Opened>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.dial(&uri).await })
    }
}

/// An open connection.
pub(super) struct Opened(TokioIo<Box<dyn ByteStream>>);

impl Connection for Opened {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! [`Connection`]: HTTP/1.1 over TLS, one request after another. [`Multiplexed`]: HTTP/2, many at once.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1::SendRequest, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;

/// What the servers are called.
pub(crate) const HOST: &str = "localhost";

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let stream = connect(address, tls).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        self.sender
            .send_request(request)
            .await
            .context("request failed")
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<(u16, usize)> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        drain(response).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> anyhow::Result<(u16, usize)> {
        let response = self.send(Method::POST, path, body).await?;
        drain(response).await
    }
}

/// An HTTP/2 connection.
pub(crate) struct Multiplexed {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Multiplexed {
    pub(crate) async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let stream = connect(address, tls).await?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::get(format!("https://localhost{path}"))
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))?;
        self.sender.ready().await?;
        self.sender
            .send_request(request)
            .await
            .context("request failed")
    }
}

async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = rustls::pki_types::ServerName::try_from(HOST)?;
    Ok(tokio_rustls::TlsConnector::from(tls)
        .connect(name, dial(address).await?)
        .await?)
}

pub(crate) async fn dial(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads a body to its end; the status and how many bytes came.
async fn drain(response: Response<Incoming>) -> anyhow::Result<(u16, usize)> {
    let code = response.status().as_u16();
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok((code, length))
}

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
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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

/// A watch over HTTP/1.1 on a connection of its own, read with as little work as can be: many of them
/// share the machine with the server that is measured.
pub(crate) struct Events {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Events {
    /// Opens a watch and reads the head of its answer.
    pub(crate) async fn open(
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        path: &str,
    ) -> anyhow::Result<Self> {
        let mut stream = connect(address, tls).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte, to leave what follows.
            head.push(stream.read_u8().await?);
        }
        anyhow::ensure!(
            head.starts_with(b"HTTP/1.1 200 "),
            "a watch was answered {}",
            String::from_utf8_lossy(&head)
        );
        Ok(Events {
            stream,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Waits for more events; how many came. An event is a line, and the lines that frame chunks end in a
    /// carriage return too.
    pub(crate) async fn next(&mut self) -> anyhow::Result<i64> {
        let length = self.stream.read(&mut self.buffer).await?;
        anyhow::ensure!(length > 0, "a watch ended early");
        let count = |byte: u8| memchr::memchr_iter(byte, &self.buffer[..length]).count() as i64;
        // A frame's line may be cut between the two: then one is missing until the next call.
        Ok(count(b'\n') - count(b'\r'))
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
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = rustls::pki_types::ServerName::try_from("localhost")?;
    Ok(tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await?)
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

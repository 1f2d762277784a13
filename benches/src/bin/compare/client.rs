//! [`Connection`]: HTTP/1.1 over TLS, one request after another. [`Multiplexed`]: HTTP/2, many at once.

use std::{io::Write, net::SocketAddr, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;

use crate::{answer::Answer, tls::Tls};

/// What the servers are called.
pub(crate) const HOST: &str = "localhost";

/// How much is read at once: several records.
pub(crate) const READ: usize = 64 * 1024;

pub(crate) struct Connection {
    tls: Tls,
    request: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let tls = Tls::open(address, tls, READ).await?;
        let request = Vec::new();
        Ok(Self { tls, request })
    }

    /// Sends a request and reads the answer; its code, and how many bytes came.
    async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, usize)> {
        self.request.clear();
        write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.tls.send(&self.request).await?;
        let mut answer = Answer::default();
        while answer.goes_on() {
            let mut taken = Ok(());
            self.tls.read(|bytes| taken = answer.take(bytes)).await?;
            taken?;
        }
        Ok((answer.code, answer.length))
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<(u16, usize)> {
        self.send("GET", path, &[]).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> anyhow::Result<(u16, usize)> {
        self.send("POST", path, body.as_bytes()).await
    }
}

/// An HTTP/2 connection.
pub(crate) struct Multiplexed {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Multiplexed {
    pub(crate) async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let name = rustls::pki_types::ServerName::try_from(HOST)?;
        let stream = tokio_rustls::TlsConnector::from(tls)
            .connect(name, dial(address).await?)
            .await?;
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

pub(crate) async fn dial(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

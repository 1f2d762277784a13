//! A server over TLS, and connections to it that are written to byte by byte.

use std::time::Duration;

use k8s_apiserver::{
    ApiServer, ApiServerBuilder,
    pki::{Credential, Pki},
    serve::{self, Limits, Server},
};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{MAPS, listen};

/// Far more than any of these answers needs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) pki: Pki,
    pub(crate) admin: Credential,
    _server: ApiServer,
    listener: Server,
}

pub(crate) async fn cluster() -> Cluster {
    cluster_of(ApiServer::builder()).await
}

pub(crate) async fn cluster_of(builder: ApiServerBuilder) -> Cluster {
    cluster_with(Pki::in_memory().unwrap(), builder).await
}

pub(crate) async fn cluster_with(pki: Pki, builder: ApiServerBuilder) -> Cluster {
    let server = builder.build().await.unwrap();
    let listener = listen(&server, &pki, Limits::default()).await;
    Cluster {
        admin: pki.issue_client("root", &["system:masters"]).unwrap(),
        pki,
        _server: server,
        listener,
    }
}

impl Cluster {
    pub(crate) async fn connect(&self, who: &Credential, protocol: &[u8]) -> TlsStream<TcpStream> {
        let config = serve::client_config(self.pki.ca_der(), Some(who), &[protocol]).unwrap();
        let stream = TcpStream::connect(self.listener.addresses()[0])
            .await
            .unwrap();
        TlsConnector::from(config)
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    }

    pub(crate) async fn wire(&self) -> Wire {
        self.wire_of(&self.admin).await
    }

    pub(crate) async fn wire_of(&self, who: &Credential) -> Wire {
        Wire {
            stream: self.connect(who, b"http/1.1").await,
            read: Vec::new(),
        }
    }
}

/// A connection, written to byte by byte.
pub(crate) struct Wire {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) read: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Wire {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // Who refuses early may stop reading.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub(crate) async fn more(&mut self) -> bool {
        let mut part = [0; 16 << 10];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut part)).await;
        let count = read.expect("the server answers in time").unwrap_or(0);
        self.read.extend_from_slice(&part[..count]);
        count > 0
    }

    /// The next answer; none if the server closes the connection instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        self.read.drain(..end);
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let header = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let body = match header("content-length") {
            Some(length) => self.take(length.parse().ok()?).await?,
            None if header("transfer-encoding").is_some() => self.chunks().await?,
            None => Vec::new(),
        };
        Some(Answer { status, body })
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..length).collect())
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.read.windows(2).position(|part| part == b"\r\n") {
                    break end;
                }
                if !self.more().await {
                    return None;
                }
            };
            let line = self.take(end + 2).await?;
            let length = usize::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()?;
            let chunk = self.take(length + 2).await?;
            if length == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.write(head.as_bytes()).await;
        self.write(body).await;
        self.answer().await.expect("there is an answer")
    }

    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        let kind = "content-type: application/json\r\n";
        self.ask("POST", path, kind, body).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", b"").await
    }

    /// The connection is good, and nothing was kept of what was sent over it.
    pub(crate) async fn is_sound(&mut self) {
        let answer = self.get(MAPS).await;
        assert_eq!(answer.status, 200);
        let items = answer.json()["items"].as_array().cloned().unwrap();
        let names: Vec<_> = items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap())
            .filter(|name| *name != "kube-root-ca.crt")
            .collect();
        assert_eq!(names, [""; 0]);
    }
}

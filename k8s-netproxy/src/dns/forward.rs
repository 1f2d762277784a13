//! Names outside the cluster: asked of somebody else.

use std::{net::SocketAddr, time::Duration};

use hickory_proto::op::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks each name server in turn and returns the first answer. `query` is the question as it arrived.
pub(super) async fn forward(query: &[u8], servers: &[SocketAddr]) -> Option<Message> {
    for server in servers {
        match timeout(PATIENCE, ask(query, *server)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "name server failed"),
            Err(_) => tracing::debug!(%server, "name server did not answer in time"),
        }
    }
    None
}

async fn ask(query: &[u8], server: SocketAddr) -> std::io::Result<Message> {
    let local = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // An answer to another question, or a forged one, is passed over.
        if length < 2 || buffer.get(..2) != query.get(..2) {
            continue;
        }
        let answer = parse(&buffer[..length])?;
        return if answer.metadata.truncation {
            ask_tcp(query, server).await
        } else {
            Ok(answer)
        };
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    parse(&buffer)
}

fn parse(bytes: &[u8]) -> std::io::Result<Message> {
    Message::from_vec(bytes).map_err(std::io::Error::other)
}

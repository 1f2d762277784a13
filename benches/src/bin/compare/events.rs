//! [`Events`]: a watch, read with as little work as can be. Many of them share the machine with the server that is
//! measured.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{bail, ensure};
use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{HOST, dial};

/// How much is read at once: several records.
const READ: usize = 64 * 1024;

/// A watch over HTTP/1.1 on a connection of its own.
pub(crate) struct Events {
    socket: TcpStream,
    // The usual connection would read 4 KiB at a time, and copy all of it twice more.
    tls: UnbufferedClientConnection,
    incoming: Vec<u8>,
    /// What of it has come in and was not looked at yet.
    new: std::ops::Range<usize>,
}

/// What a connection wants next.
enum Next {
    /// To go on.
    Nothing,
    /// These bytes sent.
    Send(Vec<u8>),
    /// More bytes.
    Read,
}

impl Events {
    /// Opens a watch and reads the head of its answer, which comes alone: there are no events yet.
    pub(crate) async fn open(
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        path: &str,
    ) -> anyhow::Result<Self> {
        let mut events = Events {
            socket: dial(address).await?,
            tls: UnbufferedClientConnection::new(tls, ServerName::try_from(HOST)?)?,
            incoming: vec![0; READ],
            new: 0..0,
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n\r\n");
        let mut request = Some(request.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let next = events.step(&mut request, |bytes| head.extend_from_slice(bytes))?;
            events.do_it(next).await?;
        }
        ensure!(
            head.starts_with(b"HTTP/1.1 200 "),
            "a watch was answered {}",
            String::from_utf8_lossy(&head)
        );
        Ok(events)
    }

    /// Waits for more events; how many came. An event is a line, and the lines that frame chunks end in a
    /// carriage return too.
    pub(crate) async fn next(&mut self) -> anyhow::Result<i64> {
        let (mut events, mut some) = (0, false);
        while !some {
            let next = self.step(&mut None, |bytes| {
                let count = |byte: u8| memchr::memchr_iter(byte, bytes).count() as i64;
                // A frame's line may be cut between the two: then one is missing until the next call.
                events += count(b'\n') - count(b'\r');
                some = true;
            })?;
            self.do_it(next).await?;
        }
        Ok(events)
    }

    /// Looks at what has come in. The request goes out as soon as it may.
    fn step(
        &mut self,
        request: &mut Option<&[u8]>,
        mut read: impl FnMut(&[u8]),
    ) -> anyhow::Result<Next> {
        let status = self
            .tls
            .process_tls_records(&mut self.incoming[self.new.clone()]);
        let mut discard = status.discard;
        let next = match status.state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    read(record.payload);
                }
                Next::Nothing
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let mut out = vec![0; READ];
                let length = match data.encode(&mut out) {
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        out.resize(required_size, 0);
                        data.encode(&mut out)?
                    }
                    length => length?,
                };
                out.truncate(length);
                Next::Send(out)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Next::Nothing
            }
            ConnectionState::WriteTraffic(mut traffic) => match request.take() {
                Some(request) => {
                    let mut out = vec![0; request.len() + 256];
                    let length = match traffic.encrypt(request, &mut out) {
                        Err(EncryptError::InsufficientSize(_)) => bail!("a request is too long"),
                        length => length?,
                    };
                    out.truncate(length);
                    Next::Send(out)
                }
                None => Next::Read,
            },
            ConnectionState::BlockedHandshake => Next::Read,
            _ => bail!("a watch ended early"),
        };
        self.new.start += discard;
        Ok(next)
    }

    async fn do_it(&mut self, next: Next) -> anyhow::Result<()> {
        match next {
            Next::Nothing => {}
            Next::Send(bytes) => self.socket.write_all(&bytes).await?,
            Next::Read => {
                self.incoming.copy_within(self.new.clone(), 0);
                self.new = 0..self.new.len();
                let space = &mut self.incoming[self.new.end..];
                let length = self.socket.read(space).await?;
                ensure!(length > 0, "a watch ended early");
                self.new.end += length;
            }
        }
        Ok(())
    }
}

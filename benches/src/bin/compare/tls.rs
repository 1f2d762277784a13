//! [`Tls`]: a connection that takes as little work as can be. Many of them share the machine with the server that is
//! measured.

use std::{io::ErrorKind, net::SocketAddr, ops::Range, sync::Arc};

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

/// More than a record has besides what is in it.
const RECORD: usize = 256;
/// Room for a record, and for what a server says at first.
const LEAST: usize = 18 * 1024;

/// A connection over TLS. The usual one would read 4 KiB at a time, and copy all of it twice more.
pub(crate) struct Tls {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    incoming: Vec<u8>,
    /// What of it has come in and was not looked at yet.
    new: Range<usize>,
    outgoing: Vec<u8>,
}

/// The server ended the connection.
#[derive(Debug, thiserror::Error)]
#[error("a connection ended early")]
pub(crate) struct Ended;

/// What is to be done next.
enum Next {
    /// To go on.
    Nothing,
    /// As much of what goes out is to be sent.
    Send(usize),
    /// More is to be read.
    Read,
    /// The same, and anything may be sent.
    Idle,
}

impl Tls {
    /// Opens a connection that reads at most that much at once.
    pub(crate) async fn open(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        at_once: usize,
    ) -> anyhow::Result<Self> {
        let mut this = Tls {
            socket: dial(address).await?,
            tls: UnbufferedClientConnection::new(config, ServerName::try_from(HOST)?)?,
            incoming: vec![0; at_once.max(LEAST)],
            new: 0..0,
            outgoing: Vec::new(),
        };
        loop {
            match this.step(&mut None, &mut |_| {})? {
                Next::Idle => return Ok(this),
                next => this.act(next).await?,
            }
        }
    }

    /// Sends what fits into one record.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut bytes = Some(bytes);
        while bytes.is_some() {
            let next = self.step(&mut bytes, &mut |_| {})?;
            self.act(next).await?;
        }
        Ok(())
    }

    /// Reads at least one record.
    pub(crate) async fn read(&mut self, mut read: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut some = false;
        while !some {
            let next = self.step(&mut None, &mut |bytes| {
                some = true;
                read(bytes);
            })?;
            self.act(next).await?;
        }
        Ok(())
    }

    /// Looks at what has come in. What there is to send is taken as soon as it may go out.
    fn step(
        &mut self,
        send: &mut Option<&[u8]>,
        read: &mut dyn FnMut(&[u8]),
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
                self.outgoing.resize(LEAST, 0);
                let length = match data.encode(&mut self.outgoing) {
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        self.outgoing.resize(required_size, 0);
                        data.encode(&mut self.outgoing)?
                    }
                    length => length?,
                };
                Next::Send(length)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Next::Nothing
            }
            ConnectionState::WriteTraffic(mut traffic) => match send.take() {
                Some(bytes) => {
                    self.outgoing.resize(bytes.len() + RECORD, 0);
                    match traffic.encrypt(bytes, &mut self.outgoing) {
                        Err(EncryptError::InsufficientSize(_)) => bail!("a request is too long"),
                        length => Next::Send(length?),
                    }
                }
                None => Next::Idle,
            },
            ConnectionState::BlockedHandshake => Next::Read,
            _ => bail!(Ended),
        };
        self.new.start += discard;
        Ok(next)
    }

    async fn act(&mut self, next: Next) -> anyhow::Result<()> {
        match next {
            Next::Nothing => {}
            Next::Send(length) => self.socket.write_all(&self.outgoing[..length]).await?,
            Next::Read | Next::Idle => {
                self.incoming.copy_within(self.new.clone(), 0);
                self.new = 0..self.new.len();
                let space = &mut self.incoming[self.new.end..];
                let length = match self.socket.read(space).await {
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                    length => length?,
                };
                ensure!(length > 0, Ended);
                self.new.end += length;
            }
        }
        Ok(())
    }
}

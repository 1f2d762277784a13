//! WebSockets with Kubernetes' channel protocols: the first byte of a message says which stream
//! it belongs to (KEP-4006).

mod half_close;
mod handshake;
mod messages;
pub mod process;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;

pub use self::{
    half_close::HalfClose,
    handshake::{Upgrade, accept_key, is_asked_for, switching},
    messages::{Incoming, Outgoing, split},
};

/// The longest message: as upstream's library has it.
pub const MAX_MESSAGE: usize = 32 << 20;

/// Which protocol was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// What it is called in `Sec-WebSocket-Protocol`.
    pub name: &'static str,
    /// 1 without any, 4 with a Status at the end, 5 with half-close. 0 stands for [`TUNNEL`].
    pub version: u8,
    /// Whether messages are text, with the channel as a digit and its data in base64.
    pub base64: bool,
}

const fn protocol(name: &'static str, version: u8, base64: bool) -> Protocol {
    Protocol {
        name,
        version,
        base64,
    }
}

/// Channels with half-close: what clients speak since v1.30 for exec and attach.
pub const V5: Protocol = protocol("v5.channel.k8s.io", 5, false);

/// For exec and attach, best first.
pub const REMOTE_COMMAND: [Protocol; 5] = [
    V5,
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
    protocol("channel.k8s.io", 1, false),
    protocol("base64.channel.k8s.io", 1, true),
];

/// SPDY's bytes in messages: what kubectl speaks since v1.31 for port-forward.
pub const TUNNEL: Protocol = protocol("SPDY/3.1+portforward.k8s.io", 0, false);

/// For port-forward.
pub const PORT_FORWARD: [Protocol; 3] = [
    TUNNEL,
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
];

/// A server's end.
pub type Socket = WebSocketStream<HalfClose<TokioIo<Upgraded>>>;

/// Reads what a client sends after its handshake, in each of the protocols, until the connection ends.
#[cfg(feature = "__fuzz")]
pub async fn fuzz_websocket(bytes: &[u8]) {
    use tokio::io::AsyncWriteExt;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use crate::channel::Input;
    for protocol in REMOTE_COMMAND.into_iter().chain(PORT_FORWARD) {
        let (mut near, far) = tokio::io::duplex(1 << 17);
        // What the server answers is read by nobody; it fits.
        if near.write_all(bytes).await.is_err() || near.shutdown().await.is_err() {
            return;
        }
        let far = HalfClose::new(far);
        let socket = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (outgoing, mut incoming, _writer) = split(socket, protocol);
        let mut read = 0;
        while let Some((_, data)) = incoming.next().await {
            read += data.len();
            assert!(read <= bytes.len(), "more is read than was sent");
        }
        drop(outgoing);
    }
}

#![forbid(unsafe_code)]
//! The streams of exec, attach and port-forward on the wire: SPDY/3.1, and Kubernetes' channels over WebSocket.
//!
//! It knows bytes and streams, no objects of the API and no containers. An API server translates with it from what
//! clients speak to what kubelets speak; a kubelet serves with it; both ends of SPDY are here.
//!
//! The end of a connection that opens streams, and the one that accepts them:
//!
//! ```
//! use k8s_streaming::{
//!     channel::{ERROR, Input, Output, STDIN, STDOUT},
//!     spdy::{Wire, process},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (near, far) = tokio::io::duplex(1 << 16);
//! let (client, out, _writer) = Wire::raw(near).into_parts();
//! let (server, answers, _writing) = Wire::raw(far).into_parts();
//! let (client, server) = tokio::join!(
//!     process::open(client, out, &[ERROR, STDIN, STDOUT]),
//!     process::accept(server, answers, 3),
//! );
//! let ((to, _), (_, mut from)) = (client.unwrap(), server.unwrap());
//! to.send(STDIN, b"ls\n").await.unwrap();
//! assert_eq!(from.next().await.unwrap(), (STDIN, "ls\n".into()));
//! # }
//! ```
//!
//! # Map
//!
//! - [`channel`]: a process' streams by number, whatever carries them.
//! - [`websocket`]: the handshake of a server, and messages whose first byte is a channel (KEP-4006).
//! - [`spdy`]: the handshakes, [connections](spdy::Connection), and [a process' streams](spdy::process) over one.
//!
//! # Relation to upstream
//!
//! Upstream's packages `httpstream/spdy`, `httpstream/wsstream` and `remotecommand`. SPDY is there as far as they speak
//! it: no flow control, no settings, no stream that a server opens.
//!
//! # Features
//!
//! None that is for users.

pub mod channel;
mod handshake;
pub mod spdy;
pub mod websocket;

#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub use self::{spdy::fuzz_spdy, websocket::fuzz_websocket};
pub use handshake::{Refused, is_upgrade, tokens};

//! SPDY/3.1, as far as clients of exec, attach and port-forward speak it: what older ones upgrade to, what kubelets
//! are asked in, and what `kubectl port-forward` sends inside of WebSocket messages (KEP-4006).
//!
//! A [`Wire`] carries frames, and a [`Connection`] makes events of them.

mod connection;
mod dictionary;
mod frame;
mod headers;
pub mod process;
pub mod upgrade;
mod wire;

pub use self::{
    connection::{Connection, Event, Headers},
    wire::{Out, Wire},
};

/// Reads frames and their headers as a connection does, until one is broken.
#[cfg(feature = "__fuzz")]
pub fn fuzz_spdy(bytes: &[u8]) {
    let (mut parser, mut inflater) = (frame::Parser::default(), headers::Inflater::new());
    for part in bytes.chunks(1 << 10) {
        parser.push(part);
        while let Ok(Some(read)) = parser.next() {
            let block = match read {
                frame::Frame::SynStream { headers, .. }
                | frame::Frame::SynReply { headers, .. } => Some(headers),
                frame::Frame::Other { headers } => headers,
                _ => None,
            };
            if block.is_some_and(|block| inflater.read(&block).is_none()) {
                return;
            }
        }
    }
}

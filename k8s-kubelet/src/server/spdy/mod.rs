//! SPDY/3.1, as far as clients of exec, attach and port-forward speak it: what older ones upgrade to, and what
//! `kubectl port-forward` sends inside of WebSocket messages (KEP-4006).
//!
//! A [`Wire`] carries frames, a connection makes events of them, and [`port_forward`] and
//! [`remote_command`] are what is done with the streams.

mod connection;
mod dictionary;
mod frame;
mod headers;
pub(crate) mod port_forward;
pub(crate) mod remote_command;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod upgrade;
mod wire;

pub(crate) use self::wire::Wire;

/// Reads frames and their headers as a connection does, until one is broken.
#[cfg(feature = "__fuzz")]
pub fn fuzz_spdy(bytes: &[u8]) {
    let (mut parser, mut inflater) = (frame::Parser::default(), headers::Inflater::new());
    for part in bytes.chunks(1 << 10) {
        parser.push(part);
        while let Ok(Some(read)) = parser.next() {
            let block = match read {
                frame::Frame::SynStream { headers, .. } => Some(headers),
                frame::Frame::Other { headers } => headers,
                _ => None,
            };
            if block.is_some_and(|block| inflater.read(&block).is_none()) {
                return;
            }
        }
    }
}

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

//! The streams of a process by the numbers that Kubernetes' channel protocols give them.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the process reads.
pub const STDIN: u8 = 0;
/// What it writes.
pub const STDOUT: u8 = 1;
/// What it writes of errors.
pub const STDERR: u8 = 2;
/// How it ended: a `Status` since version 4, a text before.
pub const ERROR: u8 = 3;
/// The sizes of its terminal, each a [`Size`] in JSON.
pub const RESIZE: u8 = 4;
/// That a stream has ended: its data is the stream's number (version 5).
pub const CLOSE: u8 = 255;

/// How long a peer may take to read what is left at the end, and to close the connection then. As upstream's: who
/// pages through a command's output must not lose the rest of it.
pub const FINISH: Duration = Duration::from_mins(15);

/// The size of a terminal in characters, as clients write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// Rows.
    #[serde(rename = "Height")]
    pub height: u16,
}

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side has closed the connection")]
pub struct Closed;

/// Where streams go, whatever carries them. Several may send at the same time.
pub trait Output: Sync {
    /// Sends a chunk of one stream, and waits while the other side reads too slowly.
    ///
    /// # Errors
    /// If the other side is gone.
    fn send(&self, channel: u8, data: &[u8]) -> impl Future<Output = Result<(), Closed>> + Send;

    /// Says that nothing more will come on the stream, where there is a way to say so.
    fn finish(&self, channel: u8) -> impl Future<Output = ()> + Send;
}

/// Where streams come from.
pub trait Input: Send {
    /// The next chunk and its stream; `None` when the other side has gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    fn next(&mut self) -> impl Future<Output = Option<(u8, Bytes)>> + Send;
}

//! exec and attach, as a server begins and ends them.

use tokio_util::task::AbortOnDropHandle;

use super::{Incoming, Outgoing};
use crate::channel::{Closed, ERROR, FINISH, Output, STDERR, STDOUT};

/// Tells the client that the connection stands: an empty message on the first channel that is there.
///
/// # Errors
/// If the client has gone.
pub async fn greet(out: &Outgoing, stdout: bool, stderr: bool) -> Result<(), Closed> {
    let channel = match (stdout, stderr) {
        (true, _) => STDOUT,
        (false, true) => STDERR,
        (false, false) => ERROR,
    };
    out.send(channel, &[]).await
}

/// Says how the process ended, and waits until the client has read everything and closes the connection, for at most
/// [`FINISH`].
pub async fn finish(
    out: Outgoing,
    mut incoming: Incoming,
    writer: AbortOnDropHandle<()>,
    verdict: &[u8],
) {
    let finishing = async {
        let _ = out.send(ERROR, verdict).await;
        out.close().await;
        drop(out);
        // A connection that is closed with something unread loses what it has still to send.
        let rest = async { while incoming.next_raw().await.is_some() {} };
        let _ = tokio::join!(rest, writer);
    };
    let _ = tokio::time::timeout(FINISH, finishing).await;
}

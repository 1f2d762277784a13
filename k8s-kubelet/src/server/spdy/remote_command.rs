//! exec and attach.

use std::time::Duration;

use k8s_runtime::{Error, ExecSession, Streams};
use k8s_streaming::{
    channel::{ERROR, FINISH, Output},
    spdy::{Wire, process},
};

use crate::server::exec;

/// How long a client may take to open its streams; as upstream.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a session, which begins when the client has opened all its streams, until either side ends it.
pub(in crate::server) async fn serve(
    wire: Wire,
    version: u8,
    streams: Streams,
    session: impl Future<Output = Result<ExecSession, Error>>,
) {
    let (connection, out, writer) = wire.into_parts();
    let expected = 1
        + usize::from(streams.stdin)
        + usize::from(streams.stdout)
        + usize::from(streams.stderr)
        + usize::from(streams.tty && version >= 3);
    let accepting = process::accept(connection, out, expected);
    let (sending, mut receiving) = match tokio::time::timeout(CREATION_TIMEOUT, accepting).await {
        Ok(Some(accepted)) => accepted,
        Ok(None) => return,
        Err(_) => return tracing::debug!("timed out waiting for client to create streams"),
    };
    let end = match session.await {
        Ok(session) => exec::talk(session, &sending, &mut receiving).await,
        Err(error) => Some(Err(error)),
    };
    let Some(end) = end else { return };
    let finishing = async {
        let verdict = exec::verdict(&end, version);
        let _ = sending.send(ERROR, verdict.as_bytes()).await;
        sending.end().await;
        drop(sending);
        let _ = tokio::join!(receiving.drain(), writer);
    };
    let _ = tokio::time::timeout(FINISH, finishing).await;
}

#[cfg(test)]
#[path = "remote_command_tests.rs"]
mod tests;

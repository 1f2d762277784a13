use k8s_streaming::channel::{CLOSE, Input, RESIZE, STDIN, STDOUT};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use super::*;
use crate::server::exec::tests::echo;

const STREAMS: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// A client with these streams.
async fn client(
    io: DuplexStream,
    channels: &[u8],
) -> (process::Sending, process::Receiving, impl Drop + use<>) {
    let (connection, out, writer) = Wire::raw(io).into_parts();
    let (sending, receiving) = process::open(connection, out, channels).await.unwrap();
    (sending, receiving, writer)
}

/// What came on standard output and on the error stream, when both have ended.
async fn read(receiving: &mut process::Receiving) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut status, mut ended) = (Vec::new(), Vec::new(), 0);
    while ended < 2 {
        match receiving.next().await.unwrap() {
            (STDOUT, data) => out.extend_from_slice(&data),
            (ERROR, data) => status.extend_from_slice(&data),
            (CLOSE, _) => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    (out, status)
}

/// Speaks with a process that answers in capitals and ends with 3: its output, and what the error stream said.
async fn speak(version: u8) -> (Vec<u8>, Vec<u8>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (session, mut sizes) = echo();
    let serving = tokio::spawn(async move {
        serve(Wire::raw(far), version, STREAMS, async { Ok(session) }).await;
    });
    let channels = [ERROR, STDIN, STDOUT, RESIZE];
    // Terminals' sizes have no stream in the first versions.
    let channels = &channels[..if version >= 3 { 4 } else { 3 }];
    let (sending, mut receiving, writer) = client(near, channels).await;
    sending.send(STDIN, b"hel").await.unwrap();
    if version >= 3 {
        let size = b"{\"Width\":80,\"Height\":24}\n";
        sending.send(RESIZE, size).await.unwrap();
        assert_eq!(sizes.recv().await.unwrap().width, 80);
    }
    sending.send(STDIN, b"lo").await.unwrap();
    sending.finish(STDIN).await;
    let read = read(&mut receiving).await;
    drop((sending, receiving, writer));
    serving.await.unwrap();
    read
}

#[tokio::test]
async fn v4_ends_with_a_status_that_has_the_exit_code() {
    let (out, status) = speak(4).await;
    assert_eq!(out, b"HELLO");
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "ExitCode", "message": "3"})
    );
}

#[tokio::test]
async fn older_protocols_end_with_a_text_and_v2_knows_no_terminal_sizes() {
    for version in [1, 2, 3] {
        let (out, status) = speak(version).await;
        assert_eq!(out, b"HELLO");
        assert_eq!(
            String::from_utf8(status).unwrap(),
            "command terminated with non-zero exit code: exit status 3"
        );
    }
}

#[tokio::test]
async fn a_session_that_cannot_begin_is_told_on_the_error_stream() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let serving = tokio::spawn(async move {
        let refused = async { Err(Error::Unsupported("exec".into())) };
        serve(Wire::raw(far), 4, streams, refused).await;
    });
    let (sending, mut receiving, writer) = client(near, &[ERROR, STDOUT]).await;
    let (out, status) = read(&mut receiving).await;
    assert!(out.is_empty());
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(
        (&status["status"], &status["code"]),
        (&json!("Failure"), &json!(500))
    );
    drop((sending, receiving, writer));
    serving.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_session() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut session, _sizes) = echo();
    // Nobody ends this process.
    session.exit = Box::pin(std::future::pending());
    let serving = tokio::spawn(async move {
        serve(Wire::raw(far), 4, STREAMS, async { Ok(session) }).await;
    });
    drop(client(near, &[ERROR, STDIN, STDOUT, RESIZE]).await);
    serving.await.unwrap();
}

use serde_json::{Value, json};

use super::*;
use crate::server::{exec::tests::echo, spdy::testing::Client};

const STREAMS: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// Speaks with a process that answers in capitals and ends with 3: its output, and what the error stream said.
async fn speak(version: u8) -> (Vec<u8>, Vec<u8>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (session, mut sizes) = echo();
    let serving = tokio::spawn(async move {
        serve(Wire::raw(far), version, STREAMS, async { Ok(session) }).await;
    });
    let mut client = Client::new(near);
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    client.send(stdin, b"hel", false).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    if version >= 3 {
        let resize = client.open(&[("streamtype", "resize")]).await;
        client.send(resize, b"{\"Width\":80,\"Hei", false).await;
        client.send(resize, b"ght\":24}\n", false).await;
        assert_eq!(sizes.recv().await.unwrap().width, 80);
    }
    client.send(stdin, b"lo", true).await;
    let [out, status] = client.read([stdout, error]).await;
    drop(client);
    serving.await.unwrap();
    (out, status)
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
    let mut client = Client::new(near);
    let error = client.open(&[("streamType", "error")]).await;
    let stdout = client.open(&[("streamType", "stdout")]).await;
    let [out, status] = client.read([stdout, error]).await;
    assert!(out.is_empty());
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(
        (&status["status"], &status["code"]),
        (&json!("Failure"), &json!(500))
    );
    drop(client);
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
    let mut client = Client::new(near);
    for kind in ["error", "stdin", "stdout", "resize"] {
        client.open(&[("streamtype", kind)]).await;
    }
    drop(client);
    serving.await.unwrap();
}

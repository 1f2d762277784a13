//! Sessions in simulated containers: exec, attach, connections to ports.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream},
    task::JoinHandle,
};

use super::{
    SimExec,
    shell::{self, End, Io, World},
};
use crate::{Duplex, Error, ExecOutput, ExecSession, Streams};

/// Bytes that a stream holds before its writer waits.
const PIPE: usize = 64 * 1024;

/// What a command does.
pub(super) enum Plan {
    /// What was scripted.
    Scripted(SimExec),
    /// What the simulated shell makes of it.
    Shell(Arc<World>, Vec<String>),
}

impl Plan {
    async fn run(self, io: &mut Io) -> Result<i32, Error> {
        match self {
            Plan::Scripted(said) => {
                let _ = io.stdout.write_all(said.stdout.as_bytes()).await;
                let _ = io.stderr.write_all(said.stderr.as_bytes()).await;
                Ok(said.exit_code)
            }
            Plan::Shell(world, command) => match shell::run(&world, &command, io).await {
                End::Code(code) => Ok(code),
                End::Unknown => Err(not_found(&command)),
            },
        }
    }

    /// Runs it without input. A command that nobody knows has done its work and says nothing: so
    /// probes and hooks pass that are not scripted.
    pub(super) async fn output(self) -> Result<ExecOutput, Error> {
        let (out, read_out) = tokio::io::duplex(PIPE);
        let (err, read_err) = tokio::io::duplex(PIPE);
        let running = async move {
            let mut io = Io {
                stdin: BufReader::new(Box::new(tokio::io::empty())),
                stdout: Box::new(out),
                stderr: Box::new(err),
            };
            match self {
                Plan::Shell(world, command) => match shell::run(&world, &command, &mut io).await {
                    End::Code(code) => code,
                    End::Unknown => 0,
                },
                scripted => scripted.run(&mut io).await.unwrap_or(0),
            }
        };
        let (exit_code, stdout, stderr) = tokio::join!(running, all(read_out), all(read_err));
        Ok(ExecOutput {
            stdout,
            stderr,
            exit_code,
        })
    }

    /// Runs it with the streams that are wanted, in a task that ends with the session.
    pub(super) fn session(self, streams: Streams) -> ExecSession {
        let (stdin, input) = Pipe::new(streams.stdin).input();
        let (stdout, output) = Pipe::new(streams.stdout).output();
        let (stderr, errors) = match streams.tty {
            // A terminal has one way out.
            true => (None, output.clone()),
            false => Pipe::new(streams.stderr).output(),
        };
        let task = tokio::spawn(async move {
            let mut io = Io {
                stdin: BufReader::new(input),
                stdout: Box::new(output),
                stderr: Box::new(errors),
            };
            self.run(&mut io).await
        });
        let task = Task(task);
        ExecSession {
            stdin,
            stdout,
            stderr,
            resize: streams.tty.then(terminal),
            exit: task.boxed(),
        }
    }
}

/// An attached session: silent until the container ends, as `exit` tells.
pub(super) fn attached(
    streams: Streams,
    exit: impl Future<Output = Result<i32, Error>> + Send + 'static,
) -> ExecSession {
    let (stdin, mut input) = Pipe::new(streams.stdin).input();
    let (stdout, output) = Pipe::new(streams.stdout).output();
    let (stderr, errors) = match streams.tty {
        true => (None, output.clone()),
        false => Pipe::new(streams.stderr).output(),
    };
    let task = tokio::spawn(async move {
        let held = (output, errors);
        let swallow = async {
            let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
            std::future::pending::<()>().await;
        };
        let code = tokio::select! {
            code = exit => code,
            () = swallow => Ok(0),
        };
        drop(held);
        code
    });
    let task = Task(task);
    ExecSession {
        stdin,
        stdout,
        stderr,
        resize: streams.tty.then(terminal),
        exit: task.boxed(),
    }
}

/// A terminal that takes any size.
fn terminal() -> tokio::sync::mpsc::Sender<crate::TerminalSize> {
    let (sender, mut sizes) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move { while sizes.recv().await.is_some() {} });
    sender
}

/// A task that ends when nobody waits for it any more.
struct Task(JoinHandle<Result<i32, Error>>);

impl Future for Task {
    type Output = Result<i32, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(ended.unwrap_or_else(|error| {
            Err(Error::RuntimeFailed {
                operation: "exec",
                message: error.to_string(),
            })
        }))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream of a session, if it is wanted.
struct Pipe(Option<(DuplexStream, DuplexStream)>);

impl Pipe {
    fn new(wanted: bool) -> Self {
        Pipe(wanted.then(|| tokio::io::duplex(PIPE)))
    }

    fn input(
        self,
    ) -> (
        Option<Box<dyn AsyncWrite + Send + Unpin>>,
        Box<dyn AsyncRead + Send + Unpin>,
    ) {
        match self.0 {
            Some((near, far)) => (Some(Box::new(near)), Box::new(far)),
            None => (None, Box::new(tokio::io::empty())),
        }
    }

    fn output(self) -> (Option<Box<dyn AsyncRead + Send + Unpin>>, Shared) {
        match self.0 {
            Some((near, far)) => (
                Some(Box::new(near)),
                Shared(Some(Arc::new(Mutex::new(far)))),
            ),
            None => (None, Shared(None)),
        }
    }
}

/// The writing end of a stream, which both outputs of a terminal have.
#[derive(Clone)]
struct Shared(Option<Arc<Mutex<DuplexStream>>>);

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.0 {
            Some(stream) => Pin::new(&mut *stream.lock()).poll_write(cx, bytes),
            None => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Some(stream) => Pin::new(&mut *stream.lock()).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Some(stream) => Pin::new(&mut *stream.lock()).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

async fn all(mut stream: DuplexStream) -> Bytes {
    let mut out = Vec::new();
    let _ = stream.read_to_end(&mut out).await;
    Bytes::from(out)
}

/// A port of a simulated container: answers each HTTP/1.1 request with this text, and closes.
pub(super) fn http(text: String) -> Box<dyn Duplex> {
    let (near, mut far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < PIPE {
            match far.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => head.extend_from_slice(&buffer[..n]),
            }
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = far.write_all(answer.as_bytes()).await;
        let _ = far.shutdown().await;
    });
    Box::new(near)
}

fn not_found(command: &[String]) -> Error {
    let program = command.first().map_or("", String::as_str);
    Error::RuntimeFailed {
        operation: "exec",
        message: format!(
            "unable to start container process: exec: {program:?}: executable file not found in $PATH"
        ),
    }
}

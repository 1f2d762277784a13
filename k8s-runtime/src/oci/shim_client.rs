//! The runtime's side of the shim's socket.

use std::{fs::File, os::fd::AsRawFd, path::Path};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
};

use crate::{
    Error, ExecSession, Streams, TerminalSize,
    error::IoContext,
    shim::{Exit, files, protocol},
};

/// Sends a request and reads the first line of the answer. `None` if no shim is there any more.
async fn request(dir: &Path, line: &str) -> Result<Option<BufReader<UnixStream>>, Error> {
    let handle = match File::open(dir) {
        Ok(handle) => handle,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("open {dir:?}"), e)),
    };
    // By descriptor, because the full path may be longer than a socket's name can be.
    let path = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), files::SOCKET);
    let Ok(stream) = UnixStream::connect(path).await else {
        return Ok(None);
    };
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    let context = || "talk to the shim".to_owned();
    if stream
        .write_all(format!("{line}\n").as_bytes())
        .await
        .is_err()
    {
        return Ok(None);
    }
    if stream
        .read_line(&mut answer)
        .await
        .context(context)
        .is_err()
        || answer.is_empty()
    {
        return Ok(None);
    }
    match answer.trim_end() {
        "ok" => Ok(Some(stream)),
        other => Err(Error::RuntimeFailed {
            operation: "shim",
            message: other.strip_prefix("error ").unwrap_or(other).to_owned(),
        }),
    }
}

/// A shim's announcement of its container's end.
pub(super) struct Watch(BufReader<UnixStream>);

impl Watch {
    /// Waits for the end. `None` if the shim ended without telling how.
    pub(super) async fn exit(mut self) -> Option<Exit> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok()?;
        serde_json::from_str(&line).ok()
    }
}

/// Asks to be told when a container ends. `None` if it has no shim any more.
pub(super) async fn watch(dir: &Path) -> Result<Option<Watch>, Error> {
    Ok(request(dir, "watch").await?.map(Watch))
}

/// Sends a signal to a container's first process. A container that ended is no error.
pub(super) async fn kill(dir: &Path, signal: i32) -> Result<(), Error> {
    request(dir, &format!("kill {signal}")).await.map(drop)
}

/// Lets a shim open its log file again.
pub(super) async fn reopen_log(dir: &Path) -> Result<bool, Error> {
    Ok(request(dir, "reopen").await?.is_some())
}

/// Joins a container's streams. `None` if it has no shim any more.
pub(super) async fn attach(dir: &Path, streams: Streams) -> Result<Option<ExecSession>, Error> {
    let flag = |b: bool| if b { '1' } else { '0' };
    // With a terminal, both outputs are one stream.
    let stderr = streams.stderr && !streams.tty;
    let line = format!(
        "attach {}{}{}",
        flag(streams.stdin),
        flag(streams.stdout),
        flag(stderr)
    );
    let Some(stream) = request(dir, &line).await? else {
        return Ok(None);
    };
    let buffered = stream.buffer().to_vec();
    let (reader, mut writer) = stream.into_inner().into_split();

    let (in_near, mut in_far) = tokio::io::duplex(protocol::MAX_FRAME);
    let (out_near, mut out_far) = tokio::io::duplex(protocol::MAX_FRAME);
    let (err_near, mut err_far) = tokio::io::duplex(protocol::MAX_FRAME);
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
    let (done, exit) = tokio::sync::oneshot::channel();

    tokio::spawn(async move {
        let mut reader = std::io::Cursor::new(buffered).chain(reader);
        let mut code = None;
        let mut head = [0; protocol::HEAD];
        while reader.read_exact(&mut head).await.is_ok() {
            let (kind, length) = protocol::parse_head(head);
            let mut content = vec![0; length.min(protocol::MAX_FRAME)];
            if reader.read_exact(&mut content).await.is_err() {
                break;
            }
            // A reader that is gone does not want it.
            match kind {
                protocol::STDOUT => drop(out_far.write_all(&content).await),
                protocol::STDERR => drop(err_far.write_all(&content).await),
                protocol::EXIT => code = content.try_into().ok().map(i32::from_be_bytes),
                _ => {}
            }
        }
        drop((out_far, err_far));
        let _ = done.send(code);
    });
    tokio::spawn(async move {
        let mut buf = vec![0; protocol::MAX_FRAME / 4];
        let (mut reading, mut sizing) = (streams.stdin, true);
        while reading || sizing {
            tokio::select! {
                n = in_far.read(&mut buf), if reading => {
                    let n = n.unwrap_or(0);
                    let kind = if n == 0 { protocol::STDIN_END } else { protocol::STDIN };
                    reading = n > 0;
                    let sent = async {
                        writer.write_all(&protocol::head(kind, n)).await?;
                        writer.write_all(&buf[..n]).await
                    };
                    if sent.await.is_err() {
                        break;
                    }
                }
                size = sizes.recv(), if sizing => match size {
                    Some(TerminalSize { width, height }) => {
                        let mut frame = protocol::head(protocol::RESIZE, 4).to_vec();
                        frame.extend(width.to_be_bytes());
                        frame.extend(height.to_be_bytes());
                        if writer.write_all(&frame).await.is_err() {
                            break;
                        }
                    }
                    None => sizing = false,
                },
            }
        }
        // Keeps the sending side open: closing it would look like a client that went away.
        writer.forget();
    });
    Ok(Some(ExecSession {
        stdin: streams.stdin.then(|| Box::new(in_near) as _),
        stdout: streams.stdout.then(|| Box::new(out_near) as _),
        stderr: stderr.then(|| Box::new(err_near) as _),
        resize: streams.tty.then_some(resize),
        exit: Box::pin(async move {
            match exit.await {
                Ok(Some(code)) => Ok(code),
                _ => Err(Error::RuntimeFailed {
                    operation: "attach",
                    message: "the connection to the container broke off".to_owned(),
                }),
            }
        }),
    }))
}

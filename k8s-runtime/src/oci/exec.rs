//! Running commands in running containers.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::openpty,
    sys::{
        signal::{Signal, kill},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, unix::AsyncFd},
    process::{Child, Command},
    sync::mpsc,
};

use crate::{Error, ExecOutput, ExecSession, Streams, TerminalSize, error::IoContext, sys};

/// No more of a short command's output is kept, as upstream.
const MAX_OUTPUT: usize = 16 << 20;

/// A command that runs in a container. Dropping it kills it.
struct Running {
    // Dropped before the child: it needs the runtime's process to be still there.
    guard: Guard,
    child: Child,
}

struct Guard {
    pid_file: PathBuf,
    log: PathBuf,
    runtime_pid: Option<u32>,
    pidfd: Option<Arc<OwnedFd>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let (Some(parent), Some(pidfd)) = (self.runtime_pid, &self.pidfd) {
            // The runtime tells its child's process ID late, so its children are looked for; and
            // it is stopped meanwhile, so that it starts no other.
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGSTOP);
            for pid in children_of(parent) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = fs::remove_file(&self.pid_file);
        let _ = fs::remove_file(&self.log);
    }
}

fn children_of(parent: u32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|p| parent_of(*p) == Some(parent)).collect()
}

fn read_pid(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn parent_of(pid: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

impl Running {
    /// Starts `runtime… exec … id command…`. `streams` gives the child's own ends.
    fn start(
        runtime: &[std::ffi::OsString],
        dir: &Path,
        id: &str,
        command: &[String],
        tty: bool,
        streams: [Stdio; 3],
    ) -> Result<Self, Error> {
        if command.is_empty() {
            return Err(Error::InvalidConfig("no command specified".to_owned()));
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let (pid_file, log) = (
            dir.join(format!("exec-{name}.pid")),
            dir.join(format!("exec-{name}.log")),
        );
        let mut process = Command::new(&runtime[0]);
        process.args(&runtime[1..]).arg("--log").arg(&log).args([
            "--log-format",
            "json",
            "exec",
            "--pid-file",
        ]);
        process.arg(&pid_file);
        if tty {
            process.args(["--tty", "--env", "TERM=xterm"]);
        }
        process.arg(id).args(command);
        let [stdin, stdout, stderr] = streams;
        process
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true);
        let child = process
            .spawn()
            .context(|| format!("run {:?}", runtime[0]))?;
        let runtime_pid = child.id();
        let pidfd = runtime_pid
            .and_then(|p| sys::pidfd_open(i32::try_from(p).ok()?).ok())
            .map(Arc::new);
        Ok(Self {
            guard: Guard {
                pid_file,
                log,
                runtime_pid,
                pidfd,
            },
            child,
        })
    }

    async fn wait(&mut self) -> Result<i32, Error> {
        use std::os::unix::process::ExitStatusExt;
        let status = self
            .child
            .wait()
            .await
            .context(|| "wait for a command".to_owned())?;
        self.guard.runtime_pid = None;
        let code = status
            .code()
            .or(status.signal().map(|s| 128 + s))
            .unwrap_or(-1);
        // Without a process ID, the command was never started.
        if code != 0 && read_pid(&self.guard.pid_file).is_none() {
            let message = super::last_runtime_error(&self.guard.log)
                .unwrap_or_else(|| format!("the runtime ended with {code}"));
            return Err(Error::RuntimeFailed {
                operation: "exec",
                message,
            });
        }
        Ok(code)
    }
}

/// Runs a command with streams.
pub(super) fn exec(
    runtime: &[std::ffi::OsString],
    dir: &Path,
    id: &str,
    command: &[String],
    streams: Streams,
) -> Result<ExecSession, Error> {
    if streams.tty {
        return exec_tty(runtime, dir, id, command, streams);
    }
    let pipe = |wanted: bool| {
        if wanted {
            Stdio::piped()
        } else {
            Stdio::null()
        }
    };
    let stdio = [
        pipe(streams.stdin),
        pipe(streams.stdout),
        pipe(streams.stderr),
    ];
    let mut running = Running::start(runtime, dir, id, command, false, stdio)?;
    Ok(ExecSession {
        stdin: running.child.stdin.take().map(|s| Box::new(s) as _),
        stdout: running.child.stdout.take().map(|s| Box::new(s) as _),
        stderr: running.child.stderr.take().map(|s| Box::new(s) as _),
        resize: None,
        exit: Box::pin(async move { running.wait().await }),
    })
}

fn exec_tty(
    runtime: &[std::ffi::OsString],
    dir: &Path,
    id: &str,
    command: &[String],
    streams: Streams,
) -> Result<ExecSession, Error> {
    // The runtime sits between two terminals: this one, which passes everything on, and the
    // command's.
    let pty = openpty(None, None).context(|| "open a terminal".to_owned())?;
    let mut mode = tcgetattr(&pty.slave).context(|| "set up a terminal".to_owned())?;
    cfmakeraw(&mut mode);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &mode).context(|| "set up a terminal".to_owned())?;
    cloexec(&pty.master)?;
    cloexec(&pty.slave)?;
    let copy = || {
        pty.slave
            .try_clone()
            .context(|| "open a terminal".to_owned())
    };
    let stdio = [copy()?.into(), copy()?.into(), copy()?.into()];
    let mut running = Running::start(runtime, dir, id, command, true, stdio)?;
    drop(pty.slave);
    let master = Arc::new(pty.master);
    let pidfd = running.guard.pidfd.clone();
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
    let terminal = Arc::clone(&master);
    tokio::spawn(async move {
        while let Some(TerminalSize { width, height }) = sizes.recv().await {
            let _ = sys::set_window_size(&*terminal, width, height);
            // The runtime does not have it as its controlling terminal, so nobody else tells it.
            if let Some(pidfd) = &pidfd {
                let _ = sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGWINCH);
            }
        }
    });
    Ok(ExecSession {
        stdin: match streams.stdin {
            true => Some(Box::new(Terminal::new(&master)?)),
            false => None,
        },
        stdout: Some(Box::new(Terminal::new(&master)?)),
        stderr: None,
        resize: Some(resize),
        exit: Box::pin(async move { running.wait().await }),
    })
}

fn cloexec(fd: &OwnedFd) -> Result<(), Error> {
    fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))
        .map(drop)
        .context(|| "open a terminal".to_owned())
}

/// The near side of a terminal.
struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    fn new(fd: &OwnedFd) -> Result<Self, Error> {
        let context = || "open a terminal".to_owned();
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).context(context)?);
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context(context)?;
        Ok(Self(
            sys::async_fd(fd.try_clone().context(context)?).context(context)?,
        ))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let space = buf.initialize_unfilled();
            match ready.try_io(|fd| nix::unistd::read(fd, space).map_err(io::Error::from)) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // How a terminal says that nobody is at the other side any more.
                Ok(Err(e)) if e.raw_os_error() == Some(nix::libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            let written = ready.try_io(|fd| nix::unistd::write(fd, data).map_err(io::Error::from));
            if let Ok(result) = written {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a short command and keeps what it says.
pub(super) async fn exec_sync(
    runtime: &[std::ffi::OsString],
    dir: &Path,
    id: &str,
    command: &[String],
    timeout: Option<Duration>,
) -> Result<ExecOutput, Error> {
    let stdio = [Stdio::null(), Stdio::piped(), Stdio::piped()];
    let mut running = Running::start(runtime, dir, id, command, false, stdio)?;
    let (stdout, stderr) = (running.child.stdout.take(), running.child.stderr.take());
    let all = async {
        let (code, stdout, stderr) = tokio::join!(running.wait(), collect(stdout), collect(stderr));
        Ok(ExecOutput {
            stdout: stdout?,
            stderr: stderr?,
            exit_code: code?,
        })
    };
    match timeout.filter(|t| !t.is_zero()) {
        None => all.await,
        Some(after) => match tokio::time::timeout(after, all).await {
            Ok(result) => result,
            // Dropping it kills the command.
            Err(_) => Err(Error::Timeout {
                operation: "exec",
                after,
            }),
        },
    }
}

async fn collect(stream: Option<impl AsyncRead + Unpin>) -> Result<Bytes, Error> {
    let Some(mut stream) = stream else {
        return Ok(Bytes::new());
    };
    let mut out = Vec::new();
    let mut buf = vec![0; 16 << 10];
    loop {
        let n = stream
            .read(&mut buf)
            .await
            .context(|| "read a command's output".to_owned())?;
        if n == 0 {
            return Ok(out.into());
        }
        // The rest is read too, so that the command does not wait for us for ever.
        let room = MAX_OUTPUT - out.len();
        out.extend_from_slice(&buf[..n.min(room)]);
    }
}

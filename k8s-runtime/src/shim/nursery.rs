//! The process that shims are forked from.
//!
//! A program that contains a whole cluster is large, and starting it once more for each container
//! would cost milliseconds and megabytes each time. So it is started once: this process waits for
//! directories of containers on a socket and forks a shim for each, which shares its memory. It
//! ends with the program that started it; the shims stay.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, setsid},
};

use super::{files, server};
use crate::sys;

/// How long a client may take to say what it wants.
const HEARING: Duration = Duration::from_secs(5);

pub(super) fn main(root: &Path) -> i32 {
    match run(root) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{e}");
            1
        }
    }
}

fn run(root: &Path) -> io::Result<()> {
    // Forking a process with several threads would leave locks behind that nobody opens.
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "main_if_requested was called after threads were started",
        ));
    }
    let _ = setsid();
    sys::set_process_name(c"k8s-shims");
    std::env::set_current_dir(root)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let mut blocked = children;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        blocked.add(signal);
    }
    blocked.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&children, flags)?;
    // That of a former run; a relative name, because a socket's name must be short.
    let _ = fs::remove_file(files::NURSERY);
    let listener = UnixListener::bind(files::NURSERY)?;
    listener.set_nonblocking(true)?;
    io::stdout().write_all(b"ready\n")?;
    io::stdout().flush()?;

    let stdin = io::stdin();
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::NONE);
        let ended = fds[2].any().unwrap_or(false);
        while let Ok(Some(_)) = signals.read_signal() {}
        while !matches!(
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
            Err(_) | Ok(WaitStatus::StillAlive)
        ) {}
        while let Ok((stream, _)) = listener.accept() {
            let Ok(dir) = hear(&stream) else { continue };
            match sys::fork() {
                Ok(None) => {
                    drop((signals, listener));
                    return become_shim(&dir, stream);
                }
                Ok(Some(_)) => {}
                Err(e) => server::refuse(&stream, &format!("shim: fork: {e}")),
            }
        }
        // Nobody writes there: it is the end of the program.
        if ended && !matches!(stdin.lock().read(&mut [0; 16]), Ok(n) if n > 0) {
            return Ok(());
        }
    }
}

fn hear(stream: &UnixStream) -> io::Result<PathBuf> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HEARING))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(8192)).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\n") {
        Some(dir) => Ok(PathBuf::from(std::ffi::OsStr::from_bytes(dir))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What the forked child does.
fn become_shim(dir: &Path, answer: UnixStream) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&File::create(dir.join("shim.log"))?)?;
    drop(null);
    server::main(dir, answer);
    Ok(())
}

//! The shim's life: start the container, move bytes, report the end.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, ErrorKind, IoSliceMut, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, pipe2, setsid},
};

use super::{
    Exit, ShimConfig, Started, files,
    log::{Log, Stream},
    protocol,
};
use crate::sys;

/// A client that lets more than this pile up is disconnected.
const MAX_BACKLOG: usize = 1 << 20;

/// How long output is still read after the container ended.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) fn main(dir: &Path) -> i32 {
    let started = start(dir);
    let answer = match &started {
        Ok(s) => Started::Pid {
            pid: s.init.as_raw(),
            at: jiff::Timestamp::now(),
        },
        Err(message) => Started::Error(message.clone()),
    };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    let mut stdout = io::stdout();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    // The runtime waits for the end of this stream.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
    match started {
        Ok(mut shim) => {
            shim.run();
            0
        }
        Err(_) => 1,
    }
}

/// How long a signal waits for the container's program.
const PROGRAM: Duration = Duration::from_secs(1);

/// Waits until the container's program has taken the place of the runtime's. The runtime's, the first process of its
/// namespace, would end on a signal that stops others, with a code of its own.
fn await_program(init: Pid) {
    let name = format!("/proc/{init}/comm");
    let is_runtime =
        || fs::read(&name).is_ok_and(|n| n.starts_with(b"runc:[") || n.starts_with(b"youki:["));
    let end = Instant::now() + PROGRAM;
    while is_runtime() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client of the socket.
struct Client {
    stream: UnixStream,
    kind: Kind,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// To be dropped when its output is written.
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    New,
    Watch,
    Attached {
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
}

struct Shim {
    config: ShimConfig,
    init: Pid,
    signals: SignalFd,
    listener: UnixListener,
    log: Log,
    stdin: Option<OwnedFd>,
    stdin_pending: VecDeque<u8>,
    stdin_closing: bool,
    outputs: [Option<OwnedFd>; 2],
    clients: Vec<Client>,
    exit: Option<Exit>,
}

fn start(dir: &Path) -> Result<Shim, String> {
    let fail = |what: &'static str| move |e: io::Error| format!("shim: {what}: {e}");
    let _ = setsid();
    sys::set_process_name(c"k8s-shim");
    sys::set_child_subreaper().map_err(fail("become the reaper"))?;
    std::env::set_current_dir(dir).map_err(fail("enter the directory"))?;
    let config = fs::read(files::CONFIG).map_err(fail("read the configuration"))?;
    let config: ShimConfig =
        serde_json::from_slice(&config).map_err(|e| format!("shim: configuration: {e}"))?;

    // Signals are blocked rather than ignored: the container must not inherit that, and the
    // standard library gives children an empty mask.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let mut blocked = children;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        blocked.add(signal);
    }
    let errno = |what: &'static str| move |e: Errno| format!("shim: {what}: {e}");
    blocked.thread_block().map_err(errno("block signals"))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&children, flags).map_err(errno("watch children"))?;

    let log = Log::open(config.log.clone()).map_err(fail("open the log"))?;
    // A relative name, because an absolute one may be longer than a socket's name can be.
    let listener = UnixListener::bind(files::SOCKET).map_err(fail("open the socket"))?;
    listener
        .set_nonblocking(true)
        .map_err(fail("open the socket"))?;

    let mut command = Command::new(&config.runtime[0]);
    command.args(&config.runtime[1..]);
    command.args(["run", "--detach", "--bundle", ".", "--pid-file", files::PID]);
    let mut console = None;
    let mut stdin = None;
    let mut outputs = [None, None];
    if config.tty {
        console =
            Some(UnixListener::bind(files::CONSOLE).map_err(fail("open the console socket"))?);
        command.args(["--console-socket", files::CONSOLE]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    } else {
        if config.stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(errno("make a pipe"))?;
            command.stdin(read);
            stdin = Some(write);
        } else {
            command.stdin(Stdio::null());
        }
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(errno("make a pipe"))?;
        outputs[0] = Some(read);
        command.stdout(write);
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(errno("make a pipe"))?;
        outputs[1] = Some(read);
        command.stderr(write);
    }
    command.arg(&config.id);
    let runtime = command
        .spawn()
        .map_err(|e| format!("{}: {e}", config.runtime[0].display()))?;
    // Lets go of the container's ends of the pipes.
    drop(command);
    let runtime = Pid::from_raw(i32::try_from(runtime.id()).unwrap_or(-1));

    let mut terminal = None;
    let status = loop {
        match waitpid(runtime, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) => break status,
            Err(e) => return Err(format!("shim: wait for the runtime: {e}")),
        }
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let (Some(console), None) = (&console, &terminal) {
            fds.push(PollFd::new(console.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        let knocked = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        let _ = signals.read_signal();
        if let (true, Some(console)) = (knocked, &console) {
            let (stream, _) = console.accept().map_err(fail("take the console"))?;
            terminal = Some(receive_fd(&stream).map_err(fail("take the console"))?);
        }
    };
    let _ = fs::remove_file(files::CONSOLE);
    if status != WaitStatus::Exited(runtime, 0) {
        return Err(runtime_error(&config.runtime).unwrap_or_else(|| format!("{status:?}")));
    }
    if let Some(terminal) = terminal {
        stdin = Some(terminal.try_clone().map_err(fail("keep the console"))?);
        outputs[0] = Some(terminal);
    }
    for fd in stdin.iter().chain(outputs.iter().flatten()) {
        set_nonblocking(fd.as_fd()).map_err(errno("set up streams"))?;
    }
    let pid = fs::read_to_string(files::PID).map_err(fail("read the process ID"))?;
    let init = pid
        .trim()
        .parse()
        .map_err(|e| format!("shim: process ID {pid:?}: {e}"))?;
    Ok(Shim {
        config,
        init: Pid::from_raw(init),
        signals,
        listener,
        log,
        stdin,
        stdin_pending: VecDeque::new(),
        stdin_closing: false,
        outputs,
        clients: Vec::new(),
        exit: None,
    })
}

/// The runtime's last error, from its JSON log.
fn runtime_error(_runtime: &[std::ffi::OsString]) -> Option<String> {
    crate::oci::last_runtime_error(Path::new(files::RUNTIME_LOG))
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Takes one descriptor from a socket.
fn receive_fd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0u8; 4096];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut iov = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return Ok(sys::own_fd(*fd));
        }
    }
    Err(ErrorKind::InvalidData.into())
}

impl Shim {
    fn run(&mut self) {
        let mut deadline = None;
        loop {
            if self.exit.is_some() {
                let end = *deadline.get_or_insert_with(|| Instant::now() + DRAIN);
                if self.outputs.iter().all(Option::is_none) || Instant::now() >= end {
                    break;
                }
            }
            self.wait(deadline);
            self.reap();
            self.accept();
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.read_output(stream);
            }
            self.serve_clients();
            self.write_stdin();
        }
        self.finish();
    }

    fn wait(&self, deadline: Option<Instant>) {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for fd in self.outputs.iter().flatten() {
            fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stdin) = self
            .stdin
            .as_ref()
            .filter(|_| !self.stdin_pending.is_empty())
        {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            if !client.closing && self.stdin_pending.len() < protocol::MAX_FRAME {
                flags |= PollFlags::POLLIN;
            }
            if !client.output.is_empty() {
                flags |= PollFlags::POLLOUT;
            }
            fds.push(PollFd::new(client.stream.as_fd(), flags));
        }
        let timeout = match deadline {
            Some(d) => {
                let left = d.saturating_duration_since(Instant::now());
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let _ = poll(&mut fds, timeout);
    }

    /// Takes the exit codes of all that ended: the container's and those of orphans.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code, signal) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128 + signal as i32, Some(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid == self.init {
                self.exit = Some(Exit {
                    code,
                    signal,
                    at: jiff::Timestamp::now(),
                });
                self.kill_rest();
            }
        }
    }

    /// Kills what the container's first process left behind.
    fn kill_rest(&self) {
        let Some(path) = &self.config.kill_all else {
            return;
        };
        for _ in 0..100 {
            let pids = fs::read_to_string(path).unwrap_or_default();
            if pids.trim().is_empty() {
                return;
            }
            for pid in pids.lines().filter_map(|p| p.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            while matches!(waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)), Ok(s) if s != WaitStatus::StillAlive)
            {
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                let (input, output) = (Vec::new(), VecDeque::new());
                self.clients.push(Client {
                    stream,
                    kind: Kind::New,
                    input,
                    output,
                    closing: false,
                });
            }
        }
    }

    fn read_output(&mut self, stream: Stream) {
        let mut buf = [0u8; 16 << 10];
        // Bounded, so that a busy container leaves a turn to the others.
        for _ in 0..16 {
            let Some(fd) = &self.outputs[stream as usize] else {
                return;
            };
            match nix::unistd::read(fd, &mut buf) {
                Ok(n) if n > 0 => {
                    self.log.write(stream, &buf[..n]);
                    let kind = if stream == Stream::Stdout {
                        protocol::STDOUT
                    } else {
                        protocol::STDERR
                    };
                    for client in &mut self.clients {
                        client.output(kind, &buf[..n]);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                // The end; a terminal says so with EIO.
                Ok(_) | Err(_) => {
                    self.log.finish(stream);
                    self.outputs[stream as usize] = None;
                }
            }
        }
    }

    fn serve_clients(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| {
            let alive = self.serve(client);
            if !alive
                && matches!(client.kind, Kind::Attached { stdin: true, .. })
                && self.config.stdin_once
                && !self.config.tty
            {
                self.stdin_closing = true;
            }
            alive
        });
        self.clients.append(&mut clients);
    }

    /// Moves a client's bytes. Tells whether it stays.
    fn serve(&mut self, client: &mut Client) -> bool {
        let mut buf = [0u8; 16 << 10];
        while !client.closing && self.stdin_pending.len() < protocol::MAX_FRAME {
            match client.stream.read(&mut buf) {
                Ok(0) => return false,
                Ok(n) => {
                    client.input.extend_from_slice(&buf[..n]);
                    if !self.take_input(client) {
                        return false;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        client.flush()
            && client.output.len() <= MAX_BACKLOG
            && !(client.closing && client.output.is_empty())
    }

    fn take_input(&mut self, client: &mut Client) -> bool {
        if client.kind == Kind::New {
            let Some(end) = client.input.iter().position(|b| *b == b'\n') else {
                return client.input.len() < 256;
            };
            let line: Vec<u8> = client.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            self.request(client, &line);
        }
        while let Some((&head, rest)) = client.input.split_first_chunk::<{ protocol::HEAD }>() {
            let (kind, length) = protocol::parse_head(head);
            if length > protocol::MAX_FRAME || !matches!(client.kind, Kind::Attached { .. }) {
                return false;
            }
            let Some(content) = rest.get(..length) else {
                break;
            };
            match kind {
                protocol::STDIN
                    if self.stdin.is_some()
                        && matches!(client.kind, Kind::Attached { stdin: true, .. }) =>
                {
                    self.stdin_pending.extend(content);
                }
                protocol::STDIN_END if self.config.stdin_once && !self.config.tty => {
                    self.stdin_closing = true
                }
                // Others may attach later: the container's input stays open, and this client has done what it
                // came for.
                protocol::STDIN_END
                    if matches!(client.kind, Kind::Attached { stdin: true, .. }) =>
                {
                    client.output.extend(protocol::head(protocol::EXIT, 4));
                    client.output.extend(0i32.to_be_bytes());
                    client.closing = true;
                }
                protocol::RESIZE => {
                    if let (true, &[a, b, c, d], Some(terminal)) =
                        (self.config.tty, content, &self.stdin)
                    {
                        let size = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                        let _ = sys::set_window_size(terminal, size.0, size.1);
                    }
                }
                _ => {}
            }
            client.input.drain(..protocol::HEAD + length);
        }
        true
    }

    fn request(&mut self, client: &mut Client, line: &str) {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let result = match verb {
            "kill" => match argument.parse::<i32>().ok().and_then(|n| {
                if n != nix::libc::SIGKILL {
                    await_program(self.init);
                }
                sys::signal(self.init.as_raw(), n)
            }) {
                Some(Ok(())) => Ok(()),
                Some(Err(e)) => Err(e.to_string()),
                None => Err(format!("bad signal {argument:?}")),
            },
            "reopen" => self.log.reopen().map_err(|e| e.to_string()),
            "watch" => {
                client.kind = Kind::Watch;
                Ok(())
            }
            "attach" => match argument.as_bytes() {
                &[i, o, e] => {
                    client.kind = Kind::Attached {
                        stdin: i == b'1',
                        stdout: o == b'1',
                        stderr: e == b'1',
                    };
                    Ok(())
                }
                _ => Err("bad streams".to_owned()),
            },
            _ => Err(format!("unknown request {verb:?}")),
        };
        client.closing = client.kind == Kind::New;
        match result {
            Ok(()) => client.output.extend(b"ok\n"),
            Err(message) => client
                .output
                .extend(format!("error {message}\n").as_bytes()),
        }
    }

    fn write_stdin(&mut self) {
        while let Some(stdin) = self
            .stdin
            .as_ref()
            .filter(|_| !self.stdin_pending.is_empty())
        {
            match nix::unistd::write(stdin, self.stdin_pending.as_slices().0) {
                Ok(n) => drop(self.stdin_pending.drain(..n)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.stdin = None;
                    self.stdin_pending.clear();
                }
            }
        }
        if self.stdin_closing {
            self.stdin = None;
        }
    }

    /// Writes the exit down, then tells those who wait for it.
    fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.log.finish(stream);
        }
        let Some(exit) = self.exit else { return };
        let mut json = serde_json::to_vec(&exit).unwrap_or_default();
        let temporary = format!("{}.tmp", files::EXIT);
        let _ = fs::write(&temporary, &json).and_then(|()| fs::rename(&temporary, files::EXIT));
        let _ = fs::remove_file(files::SOCKET);
        json.push(b'\n');
        let end = Instant::now() + DRAIN;
        for client in &mut self.clients {
            match client.kind {
                Kind::Watch => client.output.extend(&json),
                Kind::Attached { .. } => {
                    client.output.extend(protocol::head(protocol::EXIT, 4));
                    client.output.extend(exit.code.to_be_bytes());
                }
                Kind::New => continue,
            }
            while client.flush() && !client.output.is_empty() && Instant::now() < end {
                let mut fds = [PollFd::new(client.stream.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::from(100u8));
            }
        }
    }
}

impl Client {
    fn output(&mut self, kind: u8, data: &[u8]) {
        let Kind::Attached { stdout, stderr, .. } = self.kind else {
            return;
        };
        if (kind == protocol::STDOUT && stdout) || (kind == protocol::STDERR && stderr) {
            self.output.extend(protocol::head(kind, data.len()));
            self.output.extend(data);
        }
    }

    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

//! Asking for shims.

use std::{
    fs::File,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    Error,
    error::IoContext,
    shim::{SHIM_ARG, Started, files},
};

/// The process that shims are forked from, started when it is first needed.
#[derive(Debug)]
pub(super) struct Shims {
    root: PathBuf,
    program: PathBuf,
    nursery: tokio::sync::Mutex<Option<Child>>,
}

fn failed(message: String) -> Error {
    Error::RuntimeFailed {
        operation: "start",
        message,
    }
}

impl Shims {
    pub(super) fn new(root: PathBuf, program: PathBuf) -> Self {
        Self {
            root,
            program,
            nursery: tokio::sync::Mutex::default(),
        }
    }

    /// The executable.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a shim, which starts the container in this directory. Gives the container's process
    /// ID and the time of its start.
    pub(super) async fn start(&self, dir: &Path) -> Result<(u32, Timestamp), Error> {
        let mut stream = BufReader::new(self.connect().await?);
        let mut request = dir.as_os_str().as_bytes().to_vec();
        request.push(b'\n');
        let context = || "ask for a shim".to_owned();
        stream.write_all(&request).await.context(context)?;
        let mut line = String::new();
        stream.read_line(&mut line).await.context(context)?;
        match serde_json::from_str(&line) {
            Ok(Started::Pid { pid, at }) => match u32::try_from(pid) {
                Ok(pid) => Ok((pid, at)),
                Err(e) => Err(failed(e.to_string())),
            },
            Ok(Started::Error(message)) => Err(failed(message)),
            Err(_) => {
                let said = std::fs::read_to_string(dir.join("shim.log")).unwrap_or_default();
                Err(failed(format!("the shim did not answer: {}", said.trim())))
            }
        }
    }

    async fn connect(&self) -> Result<UnixStream, Error> {
        let mut nursery = self.nursery.lock().await;
        let alive = nursery
            .as_mut()
            .is_some_and(|c| matches!(c.try_wait(), Ok(None)));
        if !alive {
            *nursery = Some(self.open().await?);
        }
        let handle = File::open(&self.root).context(|| format!("open {:?}", self.root))?;
        // By descriptor, because the full path may be longer than a socket's name can be.
        let path = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), files::NURSERY);
        UnixStream::connect(path)
            .await
            .context(|| "ask for a shim".to_owned())
    }

    async fn open(&self) -> Result<Child, Error> {
        let log = self.root.join("shims.log");
        let errors = File::create(&log).context(|| format!("make {log:?}"))?;
        let mut child = Command::new(&self.program)
            .arg(SHIM_ARG)
            .arg(&self.root)
            // Its end tells the process that this program has ended.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("start {:?}", self.program))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            stdout
                .read_line(&mut line)
                .await
                .context(|| "hear from the shims".to_owned())?;
        }
        if line != "ready\n" {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let program = self.program.display();
            return Err(failed(format!(
                "{program} does not become a shim (its main must call \
                 k8s_runtime::shim::main_if_requested first): {}",
                said.trim()
            )));
        }
        Ok(child)
    }

    /// Ends the process. Shims stay.
    pub(super) async fn stop(&self) {
        if let Some(mut child) = self.nursery.lock().await.take() {
            drop(child.stdin.take());
            let _ = child.wait().await;
            let _ = std::fs::remove_file(self.root.join(files::NURSERY));
        }
    }
}

//! The process between the runtime and a container, which outlives both.
//!
//! A container's standard streams must go somewhere and its exit code must be taken by somebody,
//! also while the program that started it is down. That somebody is a small single-threaded
//! process for each container: it runs the OCI runtime, takes the container's processes as their
//! reaper, writes the log in CRI's format, serves attaching on a Unix socket, writes the exit code
//! into a file and ends.
//!
//! It is the same executable as the program that uses this crate, started with a special first
//! argument. That program must therefore call [`main_if_requested`] before anything else:
//!
//! ```
//! // First thing in `main`:
//! k8s_runtime::shim::main_if_requested();
//! // … the program itself
//! ```
//!
//! A program that can't names another executable that does in
//! [`OciOptions::shim`](crate::oci::OciOptions::shim); this crate's `k8s-runtime-shim` is one.

mod log;
mod pause;
pub(crate) mod protocol;
mod server;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The first argument that makes a program a shim.
pub(crate) const SHIM_ARG: &str = "k8s-runtime-shim";

/// The first argument that makes a program the first process of a shared process namespace.
pub(crate) const PAUSE_ARG: &str = "k8s-runtime-pause";

/// The files in a container's directory that shim and runtime share.
pub(crate) mod files {
    pub(crate) const CONFIG: &str = "shim.json";
    pub(crate) const SOCKET: &str = "shim.sock";
    pub(crate) const CONSOLE: &str = "console.sock";
    pub(crate) const EXIT: &str = "exit.json";
    pub(crate) const PID: &str = "init.pid";
    pub(crate) const RUNTIME_LOG: &str = "runtime.log";
}

/// What a shim has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShimConfig {
    /// The OCI runtime and its general arguments.
    pub(crate) runtime: Vec<OsString>,
    pub(crate) id: String,
    /// The log file; none when empty.
    pub(crate) log: PathBuf,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    /// A `cgroup.procs` file whose processes are killed when the first one ended. Needed where the
    /// container has no process namespace of its own.
    pub(crate) kill_all: Option<PathBuf>,
}

/// What a shim answers on its standard output once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Started {
    Pid { pid: i32, at: jiff::Timestamp },
    Error(String),
}

/// How a container ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) at: jiff::Timestamp,
}

/// Becomes a shim if this process was started as one, and then does not return.
///
/// Call it first thing in `main`, before threads are started and the arguments are looked at. It
/// does nothing in a process that was started by anybody else.
pub fn main_if_requested() {
    let mut args = std::env::args_os().skip(1);
    let code = match args.next() {
        Some(a) if a == OsStr::new(SHIM_ARG) => match args.next() {
            Some(dir) => server::main(Path::new(&dir)),
            None => 2,
        },
        Some(a) if a == OsStr::new(PAUSE_ARG) => pause::main(),
        _ => return,
    };
    std::process::exit(code)
}

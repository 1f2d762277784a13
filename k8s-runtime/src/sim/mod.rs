//! A runtime that runs nothing: sandboxes and containers are records that keep time.
//!
//! It needs no privileges, touches no file and no network, and starts no process. A started
//! container stays running until something ends it: [`SimRuntime::finish`], a stop, a script, or its command.
//! Scripts are annotations, looked up in the container's own, then in its sandbox's (that is, the
//! pod's), first with the container's name as a suffix and then without:
//!
//! - `sim.k8s-runtime/exit-after` (`sim.k8s-runtime/exit-after.web`): the container ends by itself
//!   after this many seconds (`2`, `0.5`) or milliseconds (`250ms`).
//! - `sim.k8s-runtime/exit-code` (`sim.k8s-runtime/exit-code.web`): with this code; 0 when absent.
//! - `sim.k8s-runtime/log` (`sim.k8s-runtime/log.web`): what it writes to its log when it starts.
//!   [`SimRuntime::log`] writes at any later time.
//! - `sim.k8s-runtime/exec` (`sim.k8s-runtime/exec.web`): what commands do in it, as in
//!   `{"ls /": {"stdout": "bin\n"}, "*": {"stderr": "no", "exitCode": 1}}`; see [`SimExec`].
//! - `sim.k8s-runtime/http` (`sim.k8s-runtime/http.8080`): the pod's ports, or that one, answer HTTP
//!   requests with this text. Others refuse connections.
//!
//! A container whose command is given and known to that shell to the last word, as `sh -c 'echo done; exit 3'` or
//! `sleep 60`, runs it unless an annotation or [`SimOptions::script`] says how it ends or what it logs: what the command
//! writes is its log, and the container ends with it. Any other runs on.
//!
//! A command that is not scripted is run by a shell of a few words: `echo`, `cat` of standard input,
//! `env`, `printenv`, `hostname`, `date`, `pwd`, `whoami`, `true`, `false`, `sleep`, `exit`, and `sh -c` with `;`,
//! `&&`, `||`, quotes, variables and `>&2`. Of any other, exec says that it is not there, but probes and
//! hooks that run one succeed, so that pods become Ready.
//!
//! Time is [`tokio::time`]'s, so a paused clock works; IDs and addresses follow from the order of
//! the calls alone, so that the same calls give the same answers.

mod images;
mod log;
mod options;
mod program;
mod runtime;
mod script;
mod session;
mod shell;

pub use images::SimImages;
pub use options::SimOptions;
pub use runtime::SimRuntime;
pub use script::{EXEC, EXIT_AFTER, EXIT_CODE, HTTP, LOG, SimExec, SimExit};

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
}

//! A runtime that runs nothing: sandboxes and containers are records that keep time.
//!
//! It needs no privileges, touches no file and no network, and starts no process. A started
//! container stays running until something ends it: [`SimRuntime::finish`], a stop, or a script.
//! Scripts are annotations, looked up in the container's own, then in its sandbox's (that is, the
//! pod's), first with the container's name as a suffix and then without:
//!
//! - `sim.k8s-runtime/exit-after` (`sim.k8s-runtime/exit-after.web`): the container ends by itself
//!   after this many seconds (`2`, `0.5`) or milliseconds (`250ms`).
//! - `sim.k8s-runtime/exit-code` (`sim.k8s-runtime/exit-code.web`): with this code; 0 when absent.
//!
//! Time is [`tokio::time`]'s, so a paused clock works; IDs and addresses follow from the order of
//! the calls alone, so that the same calls give the same answers.

mod images;
mod runtime;
mod script;

pub use images::SimImages;
pub use runtime::{SimOptions, SimRuntime};
pub use script::{EXIT_AFTER, EXIT_CODE, SimExit};

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
}

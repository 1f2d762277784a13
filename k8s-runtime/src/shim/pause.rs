//! The first process of a shared process namespace: it reaps orphans until it is told to end.

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, setsid},
};

pub(super) fn main() -> i32 {
    let _ = setsid();
    crate::sys::set_process_name(c"pause");
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    if signals.thread_block().is_err() {
        return 1;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {
                while !matches!(
                    waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
                    Err(_) | Ok(WaitStatus::StillAlive)
                ) {}
            }
            Ok(_) => return 0,
            Err(_) => return 1,
        }
    }
}

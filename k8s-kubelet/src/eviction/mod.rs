//! Eviction of pods that use more of their node's disk than they may.

mod limits;
mod watch;

pub(crate) use watch::{Eviction, run};

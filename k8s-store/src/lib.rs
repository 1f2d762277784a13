//! A revisioned key-value store with watch: bytes in, bytes out.
#![forbid(unsafe_code)]

mod embedded;
mod error;
mod memory;
mod state;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use error::Error;
pub use memory::{MemoryOptions, MemoryStore};
pub use state::{HistoryLimits, Limits, WatchLimits};
pub use store::{
    Change, Committed, Entry, Expect, List, Op, Page, Revision, Store, WatchBatch, WatchStream,
    Write,
};

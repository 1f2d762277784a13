//! Named places in the embedded store at which a crash is worst.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// A place at which [`EmbeddedStore`](crate::EmbeddedStore) can be interrupted.
///
/// Each lies between two steps of which a crash may see the first and not the
/// second. [`arm`](Self::arm) does something when it is reached; a test ends its
/// process there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// A commit was let through and waits for its group; nothing is written.
    CommitQueued,
    /// Half of a group's bytes are in the log.
    RecordsTorn,
    /// A group is in the log, and was not synced.
    RecordsWritten,
    /// The log was made longer, and not synced.
    LogExtended,
    /// A group is on disk; nobody has seen it.
    RecordsSynced,
    /// A group is visible; its commits are not acknowledged.
    Published,
    /// A log has been cut to its length; the one after it is not made.
    LogFinished,
    /// A new log is there and empty.
    LogPlaced,
    /// A new file is complete under its temporary name.
    FileWritten,
    /// A new file has its name, and the directory was not synced.
    FileRenamed,
    /// A snapshot is there; what it makes superfluous still is, too.
    SnapshotPlaced,
    /// One of several superfluous files was removed.
    FileRemoved,
    /// A directory was read; the log's torn tail is still there.
    Recovered,
    /// The log's torn tail was cut off.
    LogReopened,
    /// The last record of a store being closed was written; the log was not cut
    /// to its length.
    Sealed,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::CommitQueued,
        Self::RecordsTorn,
        Self::RecordsWritten,
        Self::LogExtended,
        Self::RecordsSynced,
        Self::Published,
        Self::LogFinished,
        Self::LogPlaced,
        Self::FileWritten,
        Self::FileRenamed,
        Self::SnapshotPlaced,
        Self::FileRemoved,
        Self::Recovered,
        Self::LogReopened,
        Self::Sealed,
    ];

    /// The point of that name, as `Debug` writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|point| format!("{point:?}") == name)
    }

    /// Does `crash`, once, when this process reaches the point for the nth time,
    /// counted from 1. Only the first call in a process counts.
    pub fn arm(self, nth: u64, crash: impl Fn() + Send + Sync + 'static) {
        let left = AtomicU64::new(nth);
        let _ = ARMED.set(Armed {
            point: self,
            left,
            crash: Box::new(crash),
        });
    }

    /// Counts that the point is reached; whether it is time to crash.
    pub(crate) fn is_due(self) -> bool {
        let armed = ARMED.get().filter(|armed| armed.point == self);
        armed.is_some_and(|armed| armed.left.fetch_sub(1, Ordering::SeqCst) == 1)
    }

    pub(crate) fn crash() {
        if let Some(armed) = ARMED.get() {
            (armed.crash)();
        }
    }

    pub(crate) fn reached(self) {
        if self.is_due() {
            Self::crash();
        }
    }
}

struct Armed {
    point: CrashPoint,
    left: AtomicU64,
    crash: Box<dyn Fn() + Send + Sync>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

//! What can go wrong in a store.

use std::{fmt, io, path::PathBuf, sync::Arc};

use crate::{Entry, Expect, Revision};

/// What can go wrong in a store.
///
/// Every variant says what the caller does about it. Unless a variant says
/// otherwise, a commit that returns an error has changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A write's [`Expect`] did not hold. Read again (or use `actual`) and decide anew.
    #[error(
        "conflict on key {}: expected {expected}, found {}",
        Lossy(key),
        Found(actual)
    )]
    Conflict {
        /// The key of the first write, in batch order, whose demand did not hold.
        key: Box<[u8]>,
        /// What the write demanded.
        expected: Expect,
        /// The entry that is there instead; `None` if the key is absent.
        actual: Option<Entry>,
    },

    /// The revision is older than the history that is kept. List again.
    #[error("revision {requested} has been compacted, the oldest kept is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest revision that can be read.
        oldest: Revision,
    },

    /// The revision has not happened yet. Wait, or ask for an older one.
    #[error("revision {requested} is in the future, the newest is {current}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },

    /// A key is empty or longer than the store accepts. Give up.
    #[error("a key must have 1 to {limit} bytes, this one has {bytes}")]
    KeyTooLarge {
        /// The key's length in bytes.
        bytes: usize,
        /// The longest key accepted, in bytes.
        limit: usize,
    },

    /// A value is longer than the store accepts. Give up.
    #[error(
        "the value of key {} has {bytes} bytes, the limit is {limit}",
        Lossy(key)
    )]
    ValueTooLarge {
        /// The key written.
        key: Box<[u8]>,
        /// The value's length in bytes.
        bytes: usize,
        /// The longest value accepted, in bytes.
        limit: usize,
    },

    /// The keys and values of one batch exceed what the store accepts. Split it.
    #[error("the batch has {bytes} bytes, the limit is {limit}")]
    BatchTooLarge {
        /// The sum of the keys' and values' lengths, in bytes.
        bytes: usize,
        /// The largest sum accepted, in bytes.
        limit: usize,
    },

    /// Two writes of one batch name the same key. A mistake of the caller.
    #[error("key {} appears twice in one batch", Lossy(key))]
    DuplicateKey {
        /// The key.
        key: Box<[u8]>,
    },

    /// One batch has more writes than the store accepts. Split it.
    #[error("the batch has {writes} writes, the limit is {limit}")]
    TooManyWrites {
        /// How many writes the batch has.
        writes: usize,
        /// The most accepted.
        limit: usize,
    },

    /// The store needs the key for itself. Choose another.
    #[error("key {} is reserved by the store", Lossy(key))]
    ReservedKey {
        /// The key.
        key: Box<[u8]>,
    },

    /// A value was encrypted with a key that is not here, or was changed since.
    /// Bring the key back, or restore a backup.
    #[error("the value of key {} cannot be decrypted: {detail}", Lossy(key))]
    Undecipherable {
        /// The key whose value it is.
        key: Box<[u8]>,
        /// What is wrong with it.
        detail: &'static str,
    },

    /// A watcher did not keep up and was disconnected. Watch again after the
    /// last revision seen, or list again if that one is compacted by then.
    #[error("the watcher fell behind and was disconnected")]
    Lagged,

    /// The medium takes no more writes, most often because the disk is full.
    /// Reads go on. Each later commit tries again, so the store heals by itself
    /// once there is space.
    #[error("the store is read-only")]
    ReadOnly {
        /// What the medium answered.
        #[source]
        source: Arc<io::Error>,
    },

    /// An I/O error left it unknown what is on disk. Reads go on, no commit will
    /// succeed any more: stop using this handle and open the store again. The
    /// commits in flight when it happened may or may not survive that.
    #[error("the store was disabled by an earlier i/o error and must be opened again")]
    Poisoned {
        /// The error that did it.
        #[source]
        source: Arc<io::Error>,
    },

    /// Another handle, in this process or another, holds the directory. Close that one, or use
    /// another directory.
    #[error("{} is in use by another process{}", dir.display(), Pid(*pid))]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// The holder's process id, where it could be found out.
        pid: Option<u32>,
    },

    /// The directory or the backup was written by another version, or is no store at all. Use that
    /// version, or another directory.
    #[error("{} has store format {found}, this program reads format {supported}", dir.display())]
    Version {
        /// The store's directory, or the backup.
        dir: PathBuf,
        /// What it says it is.
        found: String,
        /// What this program can read.
        supported: u32,
    },

    /// A file does not hold what was written to it. Restore a backup.
    #[error("{} is corrupt at offset {offset}: {detail}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        detail: &'static str,
    },

    /// An operating system call did not succeed. Retrying may help.
    #[error("i/o error on {}", path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: Arc<io::Error>,
    },

    /// A remote store did not answer, or not in time. Retrying may help. A
    /// commit that was on its way may have happened or not.
    #[error("the store is not available")]
    Unavailable {
        /// What was heard last.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },

    /// A remote store does not know the user, or does not let it do this. Give
    /// it other credentials or more rights.
    #[error("the store denies access: {detail}")]
    Denied {
        /// What it said.
        detail: String,
    },

    /// The options make no sense. Correct them.
    #[error("{detail}")]
    Setup {
        /// What is wrong with them.
        detail: String,
    },

    /// The store has been closed, or every handle to it was dropped. Give up, or open it again.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            path,
            source: Arc::new(source),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Absent => f.write_str("no entry"),
            Self::Present => f.write_str("an entry"),
            Self::Modified(revision) => write!(f, "revision {revision}"),
        }
    }
}

struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

struct Found<'a>(&'a Option<Entry>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(entry) => write!(f, "revision {}", entry.modified),
            None => f.write_str("no entry"),
        }
    }
}

struct Pid(Option<u32>);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " (pid {pid})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() < 128, "{}", size_of::<Error>());
    }

    #[test]
    fn a_locked_directory_names_itself_and_the_holder() {
        let error = Error::Locked {
            dir: "/data".into(),
            pid: Some(7),
        };
        assert_eq!(
            error.to_string(),
            "/data is in use by another process (pid 7)"
        );
    }
}

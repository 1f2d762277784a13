//! The store's directory: who holds it, which format it has, what is in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

#[cfg(test)]
use super::trace;
use super::{crash_point, log};
use crate::{Error, Revision};

/// The on-disk format that this code reads and writes; see `docs/design.md`.
pub(crate) const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
/// What is in a store is nobody else's business.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A directory that nobody else uses as long as this value lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// `None` for a directory that is only read.
    _lock: Option<File>,
}

/// Whether a directory holds a store already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Nothing,
    Store,
}

impl Directory {
    /// Makes the directory if it is missing, and takes hold of it.
    pub(crate) fn lock(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(DIRECTORY_MODE).create(path);
            made.map_err(Error::io(path))?;
            sync_dir(parent(path))?;
        }
        let name = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&name)
            .map_err(Error::io(&name))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = lock.take(20).read_to_string(&mut pid);
                return Err(Error::Locked {
                    dir: path.to_owned(),
                    pid: read.ok().and_then(|_| pid.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(name)(error)),
        }
        // Only a courtesy to whoever finds it locked: a full disk is no reason to stop.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self {
            path: path.to_owned(),
            _lock: Some(lock),
        })
    }

    /// A directory that is only read, whoever has it open. It must hold a store.
    pub(crate) fn peek(path: &Path) -> Result<Self, Error> {
        let directory = Self {
            path: path.to_owned(),
            _lock: None,
        };
        match directory.format()? {
            Some(()) => Ok(directory),
            None => Err(directory.version("none")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self, first: Revision) -> PathBuf {
        self.path.join(format!("{:016x}.log", first.0))
    }

    pub(crate) fn snapshot(&self, revision: Revision) -> PathBuf {
        self.path.join(format!("{:016x}.snapshot", revision.0))
    }

    /// Checks the format, and clears away what an interrupted write left.
    pub(crate) fn check(&self) -> Result<Contents, Error> {
        let mut others = false;
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path))? {
            let entry = entry.map_err(Error::io(&self.path))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".tmp") {
                fs::remove_file(entry.path()).map_err(Error::io(entry.path()))?;
            } else {
                let ours = [LOCK_FILE, FORMAT_FILE, "lost+found"].contains(&&*name);
                // Making a store begins with its first, empty log and ends with the
                // format file.
                let begun = entry.path() == self.log(Revision(2))
                    && entry.metadata().is_ok_and(|data| data.len() <= log::HEADER);
                others |= !ours && !begun;
            }
        }
        match self.format()? {
            Some(()) => Ok(Contents::Store),
            None if others => Err(self.version("none")),
            None => Ok(Contents::Nothing),
        }
    }

    /// Makes sure that the format, if there is one, can be read.
    fn format(&self) -> Result<Option<()>, Error> {
        let path = self.path.join(FORMAT_FILE);
        match fs::read(&path) {
            Ok(text) => {
                let text = String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned();
                let found = text.trim().strip_prefix("k8s-store ");
                if found == Some(&FORMAT.to_string()) {
                    return Ok(Some(()));
                }
                Err(self.version(found.unwrap_or("unknown")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    fn version(&self, found: &str) -> Error {
        Error::Version {
            dir: self.path.clone(),
            found: found.to_owned(),
            supported: FORMAT,
        }
    }

    /// Declares that the directory holds a store.
    pub(crate) fn seal(&self) -> Result<(), Error> {
        self.place(&self.path.join(FORMAT_FILE), |file| {
            writeln!(file, "k8s-store {FORMAT}")
        })?;
        Ok(())
    }

    /// Writes a file such that it is there completely or not at all.
    pub(crate) fn place(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, Error> {
        place(path, write)
    }

    /// The first revisions of all logs, ascending.
    pub(crate) fn logs(&self) -> Result<Vec<Revision>, Error> {
        self.numbered(".log")
    }

    /// The revisions of all snapshots, ascending.
    pub(crate) fn snapshots(&self) -> Result<Vec<Revision>, Error> {
        self.numbered(".snapshot")
    }

    fn numbered(&self, suffix: &str) -> Result<Vec<Revision>, Error> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path))? {
            let name = entry.map_err(Error::io(&self.path))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
            if let Some(number) = number.and_then(|n| u64::from_str_radix(n, 16).ok()) {
                found.push(Revision(number));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes what a snapshot makes superfluous: older ones, and the logs all
    /// of whose records it holds.
    pub(crate) fn prune(&self, snapshot: Revision) -> Result<(), Error> {
        let logs = self.logs()?;
        let covered = logs.windows(2).filter(|pair| pair[1].0 <= snapshot.0 + 1);
        let mut gone: Vec<PathBuf> = covered.map(|pair| self.log(pair[0])).collect();
        let snapshots = self.snapshots()?;
        let older = snapshots
            .into_iter()
            .filter(|revision| *revision < snapshot);
        gone.extend(older.map(|revision| self.snapshot(revision)));
        for path in &gone {
            fs::remove_file(path).map_err(Error::io(path))?;
            crash_point!(FileRemoved);
            #[cfg(test)]
            trace::note_file(path, trace::Step::Remove);
        }
        if gone.is_empty() {
            Ok(())
        } else {
            sync_dir(&self.path)
        }
    }
}

/// Writes a file such that it is there completely or not at all.
pub(crate) fn place(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<File, Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let placed = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&temporary)
        .and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()?;
            crash_point!(FileWritten);
            fs::rename(&temporary, path)?;
            #[cfg(test)]
            trace::note_file(path, |name| {
                trace::Step::Place(name, fs::read(path).unwrap_or_default())
            });
            Ok(file)
        });
    match placed {
        Ok(file) => {
            crash_point!(FileRenamed);
            sync_dir(parent(path))?;
            Ok(file)
        }
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(Error::io(path)(error))
        }
    }
}

/// The directory that an entry is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io(path))?;
    #[cfg(test)]
    trace::note(path, || trace::Step::SyncNames);
    Ok(())
}

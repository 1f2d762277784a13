//! Reads a directory back into memory.

use std::{fs, path::PathBuf};

use super::{
    directory::{Contents, Directory},
    log::{self, Log},
    record::{Body, Record},
    snapshot,
};
use crate::{
    Error, HistoryLimits, Revision, WatchLimits,
    state::{Head, Timer, View},
};

/// What a directory held.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) view: View,
    /// The log to go on with.
    pub(crate) log: Log,
    /// The bytes of all logs, and of the newest snapshot.
    pub(crate) log_bytes: u64,
    pub(crate) snapshot_bytes: u64,
}

/// Reads the newest snapshot and the logs that follow it.
pub(crate) fn recover(
    directory: &Directory,
    history: HistoryLimits,
    watch: WatchLimits,
    timer: &Timer,
) -> Result<Recovered, Error> {
    if directory.check()? == Contents::Nothing {
        let log = Log::create(directory, Revision(2))?;
        directory.seal()?;
        return Ok(Recovered {
            view: View::new(Head::default(), history, watch),
            log_bytes: log.len(),
            snapshot_bytes: 0,
            log,
        });
    }
    if let Some(&revision) = directory.snapshots()?.last() {
        directory.prune(revision)?;
    }
    let found = read(directory, history, watch, timer)?;
    Ok(Recovered {
        view: found.view,
        log: Log::reopen(directory.log(found.newest), found.newest, found.end)?,
        log_bytes: found.log_bytes,
        snapshot_bytes: found.snapshot_bytes,
    })
}

/// What a directory holds, as it is.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) view: View,
    /// The first revision of the newest log, and where its intact part ends.
    newest: Revision,
    end: u64,
    log_bytes: u64,
    snapshot_bytes: u64,
}

/// Reads a directory and changes nothing.
pub(crate) fn read(
    directory: &Directory,
    history: HistoryLimits,
    watch: WatchLimits,
    timer: &Timer,
) -> Result<Found, Error> {
    let (head, snapshot_bytes) = match directory.snapshots()?.last() {
        Some(&revision) => snapshot::read(&directory.snapshot(revision), Some(revision))?,
        None => (Head::default(), 0),
    };
    for record in head.tree.iter().filter(|record| record.expires != 0) {
        timer.note(record.expires, record.entry.key.clone());
    }
    let mut view = View::new(head, history, watch);
    let logs = directory.logs()?;
    let Some(&newest) = logs.last() else {
        return Err(Error::Corrupt {
            file: directory.path().to_owned(),
            offset: 0,
            detail: "the log is missing",
        });
    };
    let mut log_bytes = 0;
    let mut end = log::HEADER;
    for first in logs {
        let path = directory.log(first);
        end = replay(&path, first, first == newest, &mut view, timer)?;
        log_bytes += end;
    }
    Ok(Found {
        view,
        newest,
        end,
        log_bytes,
        snapshot_bytes,
    })
}

/// Applies a log's records and returns where the intact part of the file ends.
fn replay(
    path: &PathBuf,
    first: Revision,
    newest: bool,
    view: &mut View,
    timer: &Timer,
) -> Result<u64, Error> {
    let file = fs::read(path).map_err(Error::io(path))?;
    let corrupt = |offset: usize, detail| Error::Corrupt {
        file: path.clone(),
        offset: offset as u64,
        detail,
    };
    if !log::begins(&file, first) {
        return Err(corrupt(0, "not the header of this log"));
    }
    if first.0 > view.head.revision.0 + 1 {
        return Err(corrupt(
            0,
            "the log before this one is missing or cut short",
        ));
    }
    let mut offset = log::HEADER as usize;
    while offset < file.len() {
        let rest = &file[offset..];
        let Some(record) = Record::first(rest) else {
            // A crash tears only what was not on disk yet, and no record that
            // was acknowledged: then none was written after it was synced.
            if !newest || Record::any_beyond(&rest[1..], offset as u64) {
                return Err(corrupt(offset, "a record does not match its checksum"));
            }
            if rest.iter().any(|byte| *byte != 0) {
                tracing::warn!(
                    file = %path.display(),
                    offset,
                    "the log ends in an unfinished record, which is dropped"
                );
            }
            break;
        };
        match record.read() {
            Some(Body::Commit(revision, _)) if revision <= view.head.revision => {}
            Some(Body::Commit(revision, writes)) => {
                if revision.0 != view.head.revision.0 + 1 {
                    return Err(corrupt(offset, "a revision is missing"));
                }
                let batch = writes.apply(&mut view.head, revision, |expires, key| {
                    timer.note(expires, key);
                });
                match batch {
                    Some(batch) => view.publish(std::slice::from_ref(&batch)),
                    None => return Err(corrupt(offset, "a record makes no sense")),
                }
            }
            Some(Body::Compact(oldest)) => {
                if view.check_compact(oldest).is_ok() {
                    view.compact(oldest);
                }
            }
            Some(Body::Seal) => {}
            None => return Err(corrupt(offset, "a record makes no sense")),
        }
        offset += record.len();
    }
    Ok(offset as u64)
}

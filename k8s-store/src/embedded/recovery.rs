//! Reads a directory back into memory.

use std::{fs::File, io::Read, mem, path::Path, sync::mpsc, thread};

use super::{
    crash_point,
    directory::{Contents, Directory},
    log::{self, Log},
    record::{self, Body, Record},
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
    crash_point!(Recovered);
    let log = Log::reopen(directory.log(found.newest), found.newest, found.end)?;
    crash_point!(LogReopened);
    Ok(Recovered {
        view: found.view,
        log,
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
    let snapshot = match directory.snapshots()?.last() {
        Some(&revision) => snapshot::read(&directory.snapshot(revision), Some(revision))?,
        None => snapshot::Contents::default(),
    };
    for (expires, key) in snapshot.ends {
        timer.note(expires, key);
    }
    let mut view = View::new(snapshot.head, history, watch);
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
    // One thread reads and checks, while this one applies what it has read.
    thread::scope(|scope| {
        let (sender, pieces) = mpsc::sync_channel(PIECES_AHEAD);
        scope.spawn(move || {
            let mut file = Vec::new();
            for first in logs {
                let path = directory.log(first);
                let scanned = scan(&path, first, first == newest, &mut file, &sender);
                if let Err(error) = scanned {
                    // Whoever applies may have stopped at an earlier mistake.
                    let _ = sender.send(Err(error));
                    return;
                }
            }
        });
        for piece in pieces {
            let piece = piece?;
            let path = directory.log(piece.log);
            if let Some(ends) = piece.end {
                log_bytes += ends;
                end = ends;
            }
            replay(&path, piece, &mut view, timer)?;
        }
        Ok::<(), Error>(())
    })?;
    Ok(Found {
        view,
        newest,
        end,
        log_bytes,
        snapshot_bytes: snapshot.size,
    })
}

/// Some records of a log, in order.
#[derive(Debug)]
struct Piece {
    /// The first revision of the log.
    log: Revision,
    records: Vec<(usize, Body)>,
    /// Where the intact part of the file ends, after its last record.
    end: Option<u64>,
}

/// How many bytes of a log make a piece, at least.
const PIECE: usize = 256 << 10;
/// How many pieces may wait to be applied.
const PIECES_AHEAD: usize = 16;

fn corrupt(path: &Path, offset: usize, detail: &'static str) -> Error {
    Error::Corrupt {
        file: path.to_owned(),
        offset: offset as u64,
        detail,
    }
}

/// Reads a log and sends all that is intact of it. `file` is a buffer.
fn scan(
    path: &Path,
    first: Revision,
    newest: bool,
    file: &mut Vec<u8>,
    to: &mpsc::SyncSender<Result<Piece, Error>>,
) -> Result<(), Error> {
    file.clear();
    let read = File::open(path).and_then(|mut input| input.read_to_end(file));
    read.map_err(Error::io(path))?;
    if !log::begins(file, first) {
        return Err(corrupt(path, 0, "not the header of this log"));
    }
    let mut offset = log::HEADER as usize;
    let mut begun = 0;
    let mut records = Vec::new();
    while offset < file.len() {
        let rest = &file[offset..];
        let Some(record) = Record::first(rest) else {
            // A crash tears only what was not on disk yet, and no record that
            // was acknowledged: then none was written after it was synced.
            if !newest || Record::any_beyond(&rest[1..], offset as u64) {
                let detail = "a record does not match its checksum";
                return Err(corrupt(path, offset, detail));
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
        let Some(body) = record.read() else {
            return Err(corrupt(path, offset, NONSENSE));
        };
        records.push((offset, body));
        offset += record.len();
        if begun == 0 || offset - begun >= PIECE {
            begun = offset;
            let piece = Piece {
                log: first,
                records: mem::take(&mut records),
                end: None,
            };
            if to.send(Ok(piece)).is_err() {
                return Ok(());
            }
        }
    }
    let last = Piece {
        log: first,
        records,
        end: Some(offset as u64),
    };
    // Nobody listens any more if a mistake was found.
    let _ = to.send(Ok(last));
    Ok(())
}

const NONSENSE: &str = "a record makes no sense";

/// Applies some records of a log.
fn replay(path: &Path, piece: Piece, view: &mut View, timer: &Timer) -> Result<(), Error> {
    if piece.log.0 > view.head.revision.0 + 1 {
        let detail = "the log before this one is missing or cut short";
        return Err(corrupt(path, 0, detail));
    }
    for (offset, body) in piece.records {
        match body {
            Body::Commit(revision, _) if revision <= view.head.revision => {}
            Body::Commit(revision, writes) => {
                if revision.0 != view.head.revision.0 + 1 {
                    return Err(corrupt(path, offset, "a revision is missing"));
                }
                let batch = record::apply(writes, &mut view.head, revision, |expires, key| {
                    timer.note(expires, key);
                });
                match batch {
                    Some(batch) => view.publish(std::slice::from_ref(&batch)),
                    None => return Err(corrupt(path, offset, NONSENSE)),
                }
            }
            Body::Compact(oldest) => {
                if view.check_compact(oldest).is_ok() {
                    view.compact(oldest);
                }
            }
            Body::Seal => {}
        }
    }
    Ok(())
}

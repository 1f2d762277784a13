//! The thread that writes groups of commits to the log.

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{
    crash_point,
    directory::Directory,
    log::{self, Failure, Log},
    pending::{Shared, Work},
    record, snapshot,
};
use crate::{Error, Revision};

/// A log file is not made longer than this; recovery reads one at a time.
const LOG_BYTES: u64 = 64 << 20;
/// A buffer that has grown larger is not kept.
const MOST_SPARE: usize = 1 << 20;

/// Writes groups to the log, changes to a new log when the old one is long, and
/// has snapshots taken so that old logs can go.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    log: Log,
    /// The next group begins a new log, whose first revision this is.
    turn: Option<Revision>,
    /// The bytes in all logs since the newest snapshot.
    log_bytes: u64,
    /// At how many of them to take the next one.
    snapshot_at: u64,
    snapshot_after: u64,
    snapshot: Option<Snapshot>,
    /// The last group was refused.
    refusing: bool,
}

/// A snapshot that is being written.
#[derive(Debug)]
struct Snapshot {
    thread: JoinHandle<Result<Option<u64>, Error>>,
    stop: Arc<AtomicBool>,
    /// The bytes of the logs that it makes superfluous.
    covers: u64,
}

/// Ends the store however the thread ends.
struct End<'a>(&'a Shared, Option<Result<(), Error>>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let outcome = self.1.take().unwrap_or_else(|| {
            let source = Arc::new(io::Error::other("the writer panicked"));
            Err(Error::Poisoned { source })
        });
        self.0.end(outcome);
    }
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        directory: Directory,
        recovered: (Log, u64, u64),
        snapshot_after: u64,
    ) -> Self {
        let (log, log_bytes, snapshot_bytes) = recovered;
        Self {
            shared,
            directory: Arc::new(directory),
            log,
            turn: None,
            log_bytes,
            // Each snapshot costs its own size in writes, so let the logs grow as much.
            snapshot_at: snapshot_after.max(snapshot_bytes),
            snapshot_after,
            snapshot: None,
            refusing: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn faults(&self) -> super::faults::Faults {
        self.log.faults()
    }

    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut end = End(&shared, None);
        let mut spare = Vec::new();
        let mut last = 0;
        loop {
            let mut plan = Plan::default();
            let work = shared.next(mem::take(&mut spare), last, |length, revision| {
                plan = self.plan(length, revision);
                plan.base
            });
            let Work::Group(mut group) = work else {
                break;
            };
            last = group.size();
            match self.append(&group.records) {
                Ok(()) => {
                    self.refusing = false;
                    if group.records.capacity() <= MOST_SPARE {
                        spare = mem::take(&mut group.records);
                        spare.clear();
                    }
                    shared.publish(group);
                    if plan.turn {
                        self.turn(plan.snapshot);
                    }
                }
                Err(failure) => {
                    if !self.refusing {
                        let error = Error::from(failure.clone());
                        tracing::error!(%error, cause = %failure.source(), "commits are not written");
                    }
                    self.refusing = true;
                    shared.fail(group, &failure, self.base());
                }
            }
        }
        let outcome = self.close();
        // The directory is free before anybody hears that the store is closed.
        drop(self);
        end.1 = Some(outcome);
    }

    /// Where the next append goes.
    fn base(&self) -> u64 {
        if self.turn.is_some() {
            log::HEADER
        } else {
            self.log.len()
        }
    }

    /// Decides what happens after a group of this length.
    fn plan(&mut self, length: u64, leads_to: Revision) -> Plan {
        self.reap();
        let end = self.base() + length;
        let snapshot = self.snapshot.is_none() && self.log_bytes + length >= self.snapshot_at;
        // A log without commits must not be replaced by another of its name.
        let advanced = leads_to >= self.turn.unwrap_or(self.log.first());
        let snapshot = snapshot && advanced;
        let turn = snapshot || (end >= LOG_BYTES && advanced);
        Plan {
            base: if turn { log::HEADER } else { end },
            turn,
            snapshot,
        }
    }

    fn append(&mut self, records: &[u8]) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        self.make_turn().map_err(|error| match error {
            // A new file that could not be made leaves the old ones as they were.
            Error::Io { source, .. } => Failure::Refused(source),
            error => Failure::Refused(Arc::new(io::Error::other(error))),
        })?;
        self.log.append(records)?;
        self.log_bytes += records.len() as u64;
        Ok(())
    }

    /// Begins a new log if one is due.
    fn make_turn(&mut self) -> Result<(), Error> {
        if let Some(first) = self.turn {
            // First, for only the newest log may end in anything but a record.
            self.log
                .finish()
                .map_err(Error::io(self.directory.path()))?;
            crash_point!(LogFinished);
            let log = Log::create(&self.directory, first)?;
            crash_point!(LogPlaced);
            #[cfg(test)]
            let log = log.with_faults(self.log.faults());
            self.log = log;
            self.turn = None;
        }
        Ok(())
    }

    /// Ends the current log behind the data, and takes a snapshot of that.
    fn turn(&mut self, snapshot: bool) {
        // Nobody else changes the view. As long as the clone lives, though, that
        // copies nodes.
        let head = self.shared.view.read().head.clone();
        self.turn = Some(Revision(head.revision.0 + 1));
        if let Err(error) = self.make_turn() {
            tracing::debug!(%error, "the next commit will try again to begin a log");
        }
        if !snapshot {
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let taken = {
            let stop = Arc::clone(&stop);
            let directory = Arc::clone(&self.directory);
            move || {
                let size = snapshot::write(&directory.snapshot(head.revision), &head, &stop)?;
                if size.is_some() {
                    crash_point!(SnapshotPlaced);
                    directory.prune(head.revision)?;
                }
                Ok(size)
            }
        };
        match thread::Builder::new()
            .name("store-snapshot".into())
            .spawn(taken)
        {
            Ok(thread) => {
                self.snapshot = Some(Snapshot {
                    thread,
                    stop,
                    covers: self.log_bytes,
                });
            }
            Err(error) => self.put_off(&error),
        }
    }

    /// Takes note of a snapshot that is finished.
    fn reap(&mut self) {
        let Some(snapshot) = self.snapshot.take_if(|s| s.thread.is_finished()) else {
            return;
        };
        match snapshot.thread.join() {
            Ok(Ok(size)) => {
                self.log_bytes -= snapshot.covers;
                self.snapshot_at = self.snapshot_after.max(size.unwrap_or_default());
            }
            Ok(Err(error)) => self.put_off(&error),
            Err(_) => self.put_off(&"its thread panicked"),
        }
    }

    fn put_off(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "no snapshot was taken, old logs stay for now");
        self.snapshot_at = self.log_bytes + self.snapshot_after;
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some(snapshot) = self.snapshot.take() {
            snapshot.stop.store(true, Ordering::Relaxed);
            // How it went matters no more: the logs it was for are still there.
            let _ = snapshot.thread.join();
        }
        self.shared.check_disk()?;
        if self.turn.is_some() {
            // A later log, or the next opening, cuts off what was written ahead.
            return Ok(());
        }
        let mut record = Vec::new();
        let revision = self.shared.view.read().head.revision;
        record::seal(&mut record, self.log.len(), revision);
        match self.log.append(&record) {
            // The record only helps to find corruption: a full disk is none.
            Ok(()) | Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
        crash_point!(Sealed);
        self.log.finish().map_err(Error::io(self.directory.path()))
    }
}

/// What happens after a group.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// Where the group after it begins.
    base: u64,
    /// The group after it begins a new log.
    turn: bool,
    /// And a snapshot is taken between the two.
    snapshot: bool,
}

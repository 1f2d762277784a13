//! What was done to the disk, for tests of what a power cut leaves of it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use parking_lot::Mutex;

use crate::Revision;

/// One thing that was done, in order. Files are named within the directory.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Bytes were written, and may be on disk from now on, in part.
    Write(PathBuf, u64, Vec<u8>),
    /// What was written to a file is on disk.
    Sync(PathBuf),
    /// A file was cut off or lengthened.
    Truncate(PathBuf, u64),
    /// A file appeared under its name, with contents that are on disk. Its name
    /// may not be.
    Place(PathBuf, Vec<u8>),
    /// A file's name was removed, perhaps from the disk too.
    Remove(PathBuf),
    /// All names are on disk.
    SyncNames,
    /// Everything up to a revision was acknowledged.
    Acknowledged(Revision),
}

static TRACES: LazyLock<Mutex<HashMap<PathBuf, Vec<Step>>>> = LazyLock::new(Mutex::default);

/// Notes everything that is done below a directory from now on.
pub(crate) fn begin(dir: &Path) {
    TRACES.lock().insert(dir.to_owned(), Vec::new());
}

pub(crate) fn end(dir: &Path) -> Vec<Step> {
    TRACES.lock().remove(dir).unwrap_or_default()
}

/// Notes a step, if anybody wants to know of what is done there.
pub(crate) fn note(dir: &Path, step: impl FnOnce() -> Step) {
    if let Some(trace) = TRACES.lock().get_mut(dir) {
        trace.push(step());
    }
}

/// The same for a file: the step is told its name.
pub(crate) fn note_file(path: &Path, step: impl FnOnce(PathBuf) -> Step) {
    if let (Some(dir), Some(name)) = (path.parent(), path.file_name()) {
        note(dir, || step(name.into()));
    }
}

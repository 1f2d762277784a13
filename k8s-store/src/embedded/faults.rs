//! A disk that fails on command, for tests.

use std::{io, sync::Arc};

use parking_lot::Mutex;

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Writes stop halfway with this error.
    Write(io::ErrorKind),
    /// Writes succeed and the sync does not.
    Sync(io::ErrorKind),
    /// Writes stop halfway with the disk full, and cannot be taken back.
    TakeBack,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Fault>>);

impl Faults {
    pub(crate) fn set(&self, fault: Fault) {
        *self.0.lock() = fault;
    }

    /// Half of what was to be written is, if this fails.
    pub(crate) fn before_write(&self) -> io::Result<()> {
        match *self.0.lock() {
            Fault::Write(kind) => Err(kind.into()),
            Fault::TakeBack => Err(io::ErrorKind::StorageFull.into()),
            Fault::None | Fault::Sync(_) => Ok(()),
        }
    }

    pub(crate) fn before_sync(&self) -> io::Result<()> {
        match *self.0.lock() {
            Fault::Sync(kind) => Err(kind.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn before_take_back(&self) -> io::Result<()> {
        match *self.0.lock() {
            Fault::TakeBack => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }
}

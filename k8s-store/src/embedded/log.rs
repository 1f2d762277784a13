//! The write-ahead log: one file at a time, appended to and synced.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use super::{
    crash_point,
    directory::Directory,
    file::{BLOCK, LogFile},
};
#[cfg(feature = "testing")]
use crate::testing::CrashPoint;
use crate::{Error, Revision};

const MAGIC: [u8; 8] = *b"k8sstlog";
/// The length of a log file's header: magic, first revision, checksum.
pub(crate) const HEADER: u64 = 20;

/// How many zeros are written ahead of the records: as many bytes as the log
/// has, within these bounds.
const AHEAD: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 20);

/// The log file that is being appended to.
#[derive(Debug)]
pub(crate) struct Log {
    first: Revision,
    file: LogFile,
    /// Where the part ends that is known to be on disk.
    len: u64,
    /// Where the file ends: zeros lie between. Writing over them leaves the
    /// file's metadata alone, which makes a sync about twice as fast.
    allocated: u64,
    #[cfg(test)]
    faults: super::faults::Faults,
}

/// Why an append did not happen.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Nothing of it is on disk, and later appends may well succeed.
    Refused(Arc<io::Error>),
    /// Nobody knows what is on disk.
    Unknown(Arc<io::Error>),
}

impl Failure {
    pub(crate) fn source(&self) -> &io::Error {
        match self {
            Self::Refused(source) | Self::Unknown(source) => source,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(source) => Self::ReadOnly { source },
            Failure::Unknown(source) => Self::Poisoned { source },
        }
    }
}

impl Log {
    /// Makes a log file for the records from a revision on.
    pub(crate) fn create(directory: &Directory, first: Revision) -> Result<Self, Error> {
        let path = directory.log(first);
        directory.place(&path, |file| file.write_all(&header(first)))?;
        Self::at(path, first, HEADER)
    }

    /// Opens a log file, cuts off what follows `len` and makes sure of the rest.
    pub(crate) fn reopen(path: PathBuf, first: Revision, len: u64) -> Result<Self, Error> {
        let log = Self::at(path, first, len)?;
        // What was read back may not be on disk yet: it is shown from now on.
        log.file.sync_all().map_err(Error::io(log.file.path()))?;
        Ok(log)
    }

    fn at(path: PathBuf, first: Revision, len: u64) -> Result<Self, Error> {
        let file = LogFile::open(path.clone(), len).map_err(Error::io(path))?;
        Ok(Self {
            first,
            file,
            len,
            allocated: len,
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }

    /// The first revision that the file may have a commit of.
    pub(crate) fn first(&self) -> Revision {
        self.first
    }

    /// Where the next record goes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn with_faults(self, faults: super::faults::Faults) -> Self {
        Self { faults, ..self }
    }

    #[cfg(test)]
    pub(crate) fn faults(&self) -> super::faults::Faults {
        self.faults.clone()
    }

    /// Appends records; they are on disk when this returns.
    pub(crate) fn append(&mut self, records: &[u8]) -> Result<(), Failure> {
        match self.write(records) {
            Ok(()) => {
                self.len += records.len() as u64;
                Ok(())
            }
            Err(error) => {
                let full = is_refusal(&error);
                let error = Arc::new(error);
                if !full {
                    return Err(Failure::Unknown(error));
                }
                match self.take_back() {
                    Ok(()) => Err(Failure::Refused(error)),
                    Err(_) => Err(Failure::Unknown(error)),
                }
            }
        }
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Err(error) = self.faults.before_write() {
            self.file.append(&records[..records.len() / 2])?;
            return Err(error);
        }
        #[cfg(feature = "testing")]
        if CrashPoint::RecordsTorn.is_due() {
            self.file.append(&records[..records.len() / 2])?;
            CrashPoint::crash();
        }
        let end = self.file.append(records)?;
        crash_point!(RecordsWritten);
        if end > self.allocated {
            self.allocate(end)?;
            crash_point!(LogExtended);
        }
        #[cfg(test)]
        self.faults.before_sync()?;
        self.file.sync_data()?;
        crash_point!(RecordsSynced);
        Ok(())
    }

    /// Writes zeros from `end` on, where the file ends now.
    fn allocate(&mut self, end: u64) -> io::Result<()> {
        let mut ahead = end.clamp(*AHEAD.start(), *AHEAD.end());
        self.allocated = end;
        while ahead > 0 {
            let most = usize::try_from(ahead).unwrap_or(usize::MAX);
            match self.file.lengthen(self.allocated, most) {
                Ok(0) => break,
                Ok(written) => {
                    self.allocated += written as u64;
                    ahead = ahead.saturating_sub(written as u64);
                    // The disk is as good as full, and what is written directly begins with a block.
                    if written % BLOCK != 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The records themselves fit; the next ones will tell.
                Err(error) if is_refusal(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts off what was written ahead: nothing will be appended any more.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.allocated != self.len {
            self.cut()?;
        }
        Ok(())
    }

    /// Removes what an append left behind that did not succeed, before it can
    /// come back after a crash.
    fn take_back(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_take_back()?;
        self.cut()
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.cut(self.len)?;
        self.file.sync_all()?;
        self.allocated = self.len;
        Ok(())
    }
}

/// Whether an error means that the medium takes no more, for now.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        error.kind(),
        StorageFull | QuotaExceeded | ReadOnlyFilesystem
    )
}

fn header(first: Revision) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&first.0.to_le_bytes());
    let sum = crc32c::crc32c(&header[..16]);
    header[16..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Whether a file begins as the log from that revision on.
pub(crate) fn begins(file: &[u8], first: Revision) -> bool {
    file.starts_with(&header(first))
}

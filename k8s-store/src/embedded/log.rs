//! The write-ahead log: one file at a time, appended to and synced.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::Arc,
};

#[cfg(test)]
use super::trace::{self, Step};
use super::{crash_point, directory::Directory};
#[cfg(feature = "testing")]
use crate::testing::CrashPoint;
use crate::{Error, Revision};

const MAGIC: [u8; 8] = *b"k8sstlog";
/// The length of a log file's header: magic, first revision, checksum.
pub(crate) const HEADER: u64 = 20;

/// How many zeros are written ahead of the records: as many bytes as the log
/// has, within these bounds.
const AHEAD: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 20);
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The log file that is being appended to.
#[derive(Debug)]
pub(crate) struct Log {
    first: Revision,
    file: File,
    /// Where the part ends that is known to be on disk.
    len: u64,
    /// Where the file ends: zeros lie between. Writing over them leaves the
    /// file's metadata alone, which makes a sync about twice as fast.
    allocated: u64,
    #[cfg(test)]
    path: PathBuf,
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
        let file = directory.place(&path, |file| file.write_all(&header(first)))?;
        Ok(Self {
            first,
            file,
            len: HEADER,
            allocated: HEADER,
            #[cfg(test)]
            path,
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }

    /// Opens a log file, cuts off what follows `len` and makes sure of the rest.
    pub(crate) fn reopen(path: PathBuf, first: Revision, len: u64) -> Result<Self, Error> {
        let open = || {
            let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
            if file.metadata()?.len() != len {
                file.set_len(len)?;
            }
            // What was read back may not be on disk yet: it is shown from now on.
            file.sync_all()?;
            file.seek(SeekFrom::Start(len))?;
            Ok(file)
        };
        let file = open().map_err(Error::io(&path))?;
        #[cfg(test)]
        {
            trace::note_file(&path, |name| Step::Truncate(name, len));
            trace::note_file(&path, Step::Sync);
        }
        Ok(Self {
            first,
            file,
            len,
            allocated: len,
            #[cfg(test)]
            path,
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
        self.faults.before_write(&mut self.file, records)?;
        #[cfg(feature = "testing")]
        if CrashPoint::RecordsTorn.is_due() {
            self.file.write_all(&records[..records.len() / 2])?;
            CrashPoint::crash();
        }
        self.file.write_all(records)?;
        crash_point!(RecordsWritten);
        #[cfg(test)]
        trace::note_file(&self.path, |name| {
            Step::Write(name, self.len, records.to_vec())
        });
        let end = self.len + records.len() as u64;
        if end > self.allocated {
            self.allocate(end)?;
            crash_point!(LogExtended);
        }
        #[cfg(test)]
        self.faults.before_sync()?;
        self.file.sync_data()?;
        crash_point!(RecordsSynced);
        #[cfg(test)]
        trace::note_file(&self.path, Step::Sync);
        Ok(())
    }

    /// Writes zeros from `end` on, where the file ends now.
    fn allocate(&mut self, end: u64) -> io::Result<()> {
        let mut ahead = end.clamp(*AHEAD.start(), *AHEAD.end());
        self.allocated = end;
        while ahead > 0 {
            let zeros = &ZEROS[..ZEROS
                .len()
                .min(usize::try_from(ahead).unwrap_or(usize::MAX))];
            match self.file.write(zeros) {
                Ok(0) => break,
                Ok(written) => {
                    #[cfg(test)]
                    trace::note_file(&self.path, |name| {
                        Step::Write(name, self.allocated, vec![0; written])
                    });
                    self.allocated += written as u64;
                    ahead = ahead.saturating_sub(written as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The records themselves fit; the next ones will tell.
                Err(error) if is_refusal(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.file.seek(SeekFrom::Start(end))?;
        Ok(())
    }

    /// Cuts off what was written ahead: nothing will be appended any more.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.allocated != self.len {
            self.file.set_len(self.len)?;
            #[cfg(test)]
            trace::note_file(&self.path, |name| Step::Truncate(name, self.len));
            self.file.sync_all()?;
            #[cfg(test)]
            trace::note_file(&self.path, Step::Sync);
            self.allocated = self.len;
            self.file.seek(SeekFrom::Start(self.len))?;
        }
        Ok(())
    }

    /// Removes what an append left behind that did not succeed, before it can
    /// come back after a crash.
    fn take_back(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_take_back()?;
        if self.file.metadata()?.len() != self.len {
            self.file.set_len(self.len)?;
            self.file.sync_all()?;
        }
        self.allocated = self.len;
        self.file.seek(SeekFrom::Start(self.len))?;
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

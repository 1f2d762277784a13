//! A log's file, written past the page cache where the file system can do that.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

#[cfg(test)]
use super::trace::{self, Step};

/// What is written directly begins and ends at multiples of this, in the file and in memory: no disk has larger
/// sectors.
pub(crate) const BLOCK: usize = 4096;
/// A buffer that has grown larger is not kept.
const MOST_KEPT: usize = 1 << 20;

/// A file that is only ever written behind what it holds.
///
/// A write that bypasses the page cache and the sync after it take the processor a sixth less time than one through
/// it. Such a write is of whole blocks, so the last one is kept here and written again with what follows.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// `None` where writes go through the page cache.
    direct: Option<Blocks>,
    /// Where the next write goes.
    len: u64,
}

impl LogFile {
    /// Opens a file whose first `len` bytes stay.
    pub(crate) fn open(path: PathBuf, len: u64) -> io::Result<Self> {
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(&path);
        let (file, direct) = match direct {
            Ok(file) => (file, Some(Blocks::default())),
            Err(error) if is_unable(&error) => (buffered(&path)?, None),
            Err(error) => return Err(error),
        };
        let mut file = Self {
            path,
            file,
            direct,
            len,
        };
        file.cut(len)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when all that was written is on disk.
    ///
    /// # Errors
    ///
    /// Nobody knows what is on disk.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        #[cfg(test)]
        trace::note_file(&self.path, Step::Sync);
        Ok(())
    }

    /// The same, for the length of the file too.
    ///
    /// # Errors
    ///
    /// Nobody knows what is on disk.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()?;
        #[cfg(test)]
        trace::note_file(&self.path, Step::Sync);
        Ok(())
    }

    /// Writes bytes at the end, and perhaps zeros up to the end of a block; says where the file ends at least.
    ///
    /// # Errors
    ///
    /// Of the system. Some of it may be in the file; the next write goes to the same place.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if let Some(blocks) = &mut self.direct {
            let (at, whole) = blocks.with(self.len, bytes);
            match self.file.write_all_at(whole, at) {
                Ok(()) => {
                    #[cfg(test)]
                    trace::note_file(&self.path, |name| Step::Write(name, at, whole.to_vec()));
                    let end = at + whole.len() as u64;
                    blocks.written();
                    self.len += bytes.len() as u64;
                    return Ok(end);
                }
                // It can be opened so, and not written.
                Err(error) if is_unable(&error) => {
                    self.file = buffered(&self.path)?;
                    self.direct = None;
                }
                Err(error) => return Err(error),
            }
        }
        self.file.write_all_at(bytes, self.len)?;
        #[cfg(test)]
        trace::note_file(&self.path, |name| {
            Step::Write(name, self.len, bytes.to_vec())
        });
        self.len += bytes.len() as u64;
        Ok(self.len)
    }

    /// Writes zeros behind the last block, from `from` on; says how many.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub(crate) fn lengthen(&self, from: u64, most: usize) -> io::Result<usize> {
        static ZEROS: Zeros = Zeros([0; 64 << 10]);
        // From the end of a block on, all zeros are whole blocks.
        let zeros = &ZEROS.0[..ZEROS.0.len().min(most.next_multiple_of(BLOCK))];
        let written = self.file.write_at(zeros, from)?;
        #[cfg(test)]
        trace::note_file(&self.path, |name| Step::Write(name, from, vec![0; written]));
        Ok(written)
    }

    /// Cuts the file off and goes on from there. Nothing is synced.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub(crate) fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.file.metadata()?.len() != len {
            self.file.set_len(len)?;
            #[cfg(test)]
            trace::note_file(&self.path, |name| Step::Truncate(name, len));
        }
        if let Some(blocks) = &mut self.direct {
            match blocks.begin(&self.file, len) {
                Ok(()) => {}
                Err(error) if is_unable(&error) => {
                    self.file = buffered(&self.path)?;
                    self.direct = None;
                }
                Err(error) => return Err(error),
            }
        }
        self.len = len;
        Ok(())
    }
}

fn buffered(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Whether an error means that the file system cannot bypass the page cache.
fn is_unable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

#[repr(align(4096))]
struct Zeros([u8; 64 << 10]);

/// The last block of a file, in memory that begins at a multiple of [`BLOCK`].
#[derive(Debug, Default)]
struct Blocks {
    memory: Vec<u8>,
    /// Where in it the block begins.
    start: usize,
    /// How much of the block is in the file.
    kept: usize,
    /// How much is there with what is being written.
    filled: usize,
}

impl Blocks {
    /// Makes room for so many bytes, aligned; the block stays.
    fn reserve(&mut self, length: usize) {
        if self.memory.len() >= self.start + length {
            return;
        }
        let mut memory = vec![0; length.next_multiple_of(16 * BLOCK) + BLOCK];
        // In a vector that does not grow any more. It is never `usize::MAX` for bytes.
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        memory[start..start + self.kept]
            .copy_from_slice(&self.memory[self.start..self.start + self.kept]);
        (self.memory, self.start) = (memory, start);
    }

    /// Reads the block that a file of this length ends in.
    fn begin(&mut self, file: &File, len: u64) -> io::Result<()> {
        self.kept = 0;
        self.reserve(BLOCK);
        let kept = block_offset(len);
        if kept > 0 {
            let block = &mut self.memory[self.start..self.start + BLOCK];
            let mut read = 0;
            while read < kept {
                // A file ends anywhere: only there may less be read than asked for.
                match file.read_at(block, len - kept as u64) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(more) => read = more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.kept = kept;
        Ok(())
    }

    /// The blocks to write for bytes that follow those that are there, and where.
    fn with(&mut self, len: u64, bytes: &[u8]) -> (u64, &[u8]) {
        let filled = self.kept + bytes.len();
        let whole = filled.next_multiple_of(BLOCK);
        self.reserve(whole);
        let memory = &mut self.memory[self.start..self.start + whole];
        memory[self.kept..filled].copy_from_slice(bytes);
        memory[filled..].fill(0);
        self.filled = filled;
        (len - self.kept as u64, memory)
    }

    /// Keeps the last block of what was written.
    fn written(&mut self) {
        let kept = self.filled % BLOCK;
        let last = self.start + self.filled - kept;
        self.memory.copy_within(last..last + kept, self.start);
        self.kept = kept;
        if self.memory.len() > MOST_KEPT {
            let block = self.memory[self.start..self.start + kept].to_vec();
            *self = Self::default();
            self.reserve(BLOCK);
            self.memory[self.start..self.start + kept].copy_from_slice(&block);
            self.kept = kept;
        }
    }
}

fn block_offset(at: u64) -> usize {
    // Smaller than a block.
    (at % BLOCK as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::Random;

    /// As a file system that takes only what goes through the page cache.
    fn buffered_only(path: &Path) -> LogFile {
        LogFile {
            path: path.to_owned(),
            file: buffered(path).unwrap(),
            direct: None,
            len: 0,
        }
    }

    #[test]
    fn a_file_holds_what_was_appended_whatever_was_cut_off_between() {
        let dir = tempfile::tempdir().unwrap();
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let path = dir.path().join(format!("{seed}"));
            fs::write(&path, b"").unwrap();
            let mut file = if seed % 4 == 0 {
                buffered_only(&path)
            } else {
                LogFile::open(path.clone(), 0).unwrap()
            };
            let mut expected: Vec<u8> = Vec::new();
            for round in 0..60_u8 {
                match random.below(10) {
                    0 => {
                        let len = random.below(expected.len() + 1);
                        file.cut(len as u64).unwrap();
                        expected.truncate(len);
                    }
                    1 => {
                        file.cut(expected.len() as u64).unwrap();
                        file = LogFile::open(path.clone(), expected.len() as u64).unwrap();
                    }
                    _ => {
                        let most = [10, 5000, 100_000, 1_500_000][random.below(4)];
                        let bytes = vec![round + 1; random.below(most)];
                        let end = file.append(&bytes).unwrap();
                        expected.extend_from_slice(&bytes);
                        assert!(end >= expected.len() as u64);
                    }
                }
                let found = fs::read(&path).unwrap();
                assert!(found.starts_with(&expected), "seed {seed}, round {round}");
                assert!(
                    found[expected.len()..].iter().all(|byte| *byte == 0),
                    "zeros follow"
                );
            }
        }
    }
}

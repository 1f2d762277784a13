//! A file with all data at one revision, so that older logs can go.
//!
//! ```text
//! magic (8) | revision (8) | entries (8) | checksum (4)
//! block*: length (4) | checksum (4) | entry* (length)
//! ```
//!
//! The last letter of the magic is the format: `p` is 1, `q` would be 2.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    directory,
    record::{self, Reader},
};
use crate::{
    Entry, Error, Revision,
    state::{Head, Record, Tree},
};

const MAGIC: [u8; 8] = *b"k8sstsnp";
const HEADER: usize = 28;
/// A block is written once it has so many bytes.
const BLOCK: usize = 256 << 10;
/// The most threads that read a snapshot.
const MOST_WORKERS: usize = 8;

/// Writes a snapshot and returns its size in bytes; `None` if told to stop.
pub(crate) fn write(path: &Path, head: &Head, stop: &AtomicBool) -> Result<Option<u64>, Error> {
    let mut size = 0;
    let placed = directory::place(path, |file| {
        size = fill(file, head, stop)?;
        Ok(())
    });
    match placed {
        Ok(_) => Ok(Some(size)),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

fn fill(file: &mut File, head: &Head, stop: &AtomicBool) -> io::Result<u64> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&head.revision.0.to_le_bytes());
    header.extend_from_slice(&(head.tree.len() as u64).to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    file.write_all(&header)?;
    let mut size = header.len() as u64;
    let mut block = Vec::with_capacity(BLOCK + BLOCK / 4);
    let mut records = head.tree.iter().peekable();
    while records.peek().is_some() {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        block.clear();
        block.extend_from_slice(&[0; 8]);
        while block.len() < BLOCK
            && let Some(record) = records.next()
        {
            encode(&mut block, record);
        }
        let length = u32::try_from(block.len() - 8).map_err(io::Error::other)?;
        let sum = crc32c::crc32c(&block[8..]);
        block[..4].copy_from_slice(&length.to_le_bytes());
        block[4..8].copy_from_slice(&sum.to_le_bytes());
        file.write_all(&block)?;
        size += block.len() as u64;
    }
    Ok(size)
}

fn encode(block: &mut Vec<u8>, record: &Record) {
    let Record { entry, expires } = record;
    record::bytes(block, &entry.key);
    record::bytes(block, &entry.value);
    for number in [entry.created.0, entry.modified.0, *expires] {
        block.extend_from_slice(&number.to_le_bytes());
    }
}

/// What a snapshot holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) head: Head,
    /// The file's size, in bytes.
    pub(crate) size: u64,
    /// Which keys end when.
    pub(crate) ends: Vec<(u64, Bytes)>,
}

/// Reads a snapshot, of a certain revision if one is given.
pub(crate) fn read(path: &Path, revision: Option<Revision>) -> Result<Contents, Error> {
    let mut input = Input {
        path,
        file: File::open(path).map_err(Error::io(path))?,
        offset: 0,
    };
    let mut header = [0; HEADER];
    input.fill(&mut header)?;
    let mut fields = Reader(&header[8..]);
    let found = fields.u64().map(Revision);
    let count = fields.u64();
    let sum = fields.u32();
    let (revision, count) = match (found, count) {
        (Some(found), Some(count))
            if header[..8] == MAGIC
                && revision.is_none_or(|revision| revision == found)
                && sum == Some(crc32c::crc32c(&header[..24])) =>
        {
            (found, count)
        }
        _ if header[..7] == MAGIC[..7]
            && header[7].is_ascii_lowercase()
            && header[7] > MAGIC[7] =>
        {
            return Err(Error::Version {
                dir: path.to_owned(),
                found: (u32::from(header[7] - MAGIC[7]) + directory::FORMAT).to_string(),
                supported: directory::FORMAT,
            });
        }
        _ => return Err(input.corrupt(0, "not the header of this snapshot")),
    };
    let size = input.file.metadata().map_err(Error::io(path))?.len();
    let shared = Mutex::new((input, 0));
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS));
    let mut blocks = thread::scope(|scope| {
        let read = || blocks(path, &shared, size);
        let helpers: Vec<_> = (1..workers).map(|_| scope.spawn(read)).collect();
        let mut all = read();
        for helper in helpers {
            match helper.join() {
                Ok(more) => all.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    blocks.sort_unstable_by_key(|block| block.0);
    let mut records = Vec::new();
    let mut ends = Vec::new();
    for (_, block) in blocks {
        let block = block?;
        records.push(block.records);
        ends.extend(block.ends);
    }
    if records.iter().map(Vec::len).sum::<usize>() as u64 != count {
        return Err(corrupt(
            path,
            0,
            "there are fewer or more entries than it says",
        ));
    }
    let tree = Tree::from_sorted(records.into_iter().flatten())
        .ok_or_else(|| corrupt(path, 0, "the entries are not in order"))?;
    let head = Head { revision, tree };
    Ok(Contents { head, size, ends })
}

/// What a block holds.
#[derive(Debug, Default)]
struct Block {
    records: Vec<Arc<Record>>,
    ends: Vec<(u64, Bytes)>,
}

/// Reads one block after another, those that other threads leave, and says
/// which ones these were.
fn blocks(
    path: &Path,
    shared: &Mutex<(Input<'_>, usize)>,
    size: u64,
) -> Vec<(usize, Result<Block, Error>)> {
    let mut blocks = Vec::new();
    let mut bytes = Vec::new();
    loop {
        let (start, number, sum) = {
            let (input, next) = &mut *shared.lock();
            if input.offset >= size {
                return blocks;
            }
            let (start, number) = (input.offset, *next);
            *next += 1;
            let sum = input.block(size, &mut bytes);
            if sum.is_err() {
                // Nobody can tell where the next one begins.
                input.offset = size;
            }
            (start, number, sum)
        };
        let block = sum.and_then(|sum| {
            if sum != crc32c::crc32c(&bytes) {
                return Err(corrupt(path, start, "a block does not match its checksum"));
            }
            let block = Block::decode(&bytes);
            block.ok_or_else(|| corrupt(path, start, "an entry makes no sense"))
        });
        blocks.push((number, block));
    }
}

impl Block {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut block = Self::default();
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            let record = decode(&mut reader)?;
            if record.expires != 0 {
                block.ends.push((record.expires, record.entry.key.clone()));
            }
            block.records.push(Arc::new(record));
        }
        Some(block)
    }
}

fn decode(reader: &mut Reader<'_>) -> Option<Record> {
    Some(Record {
        entry: Entry {
            key: Bytes::copy_from_slice(reader.bytes()?),
            value: Bytes::copy_from_slice(reader.bytes()?),
            created: Revision(reader.u64()?),
            modified: Revision(reader.u64()?),
        },
        expires: reader.u64()?,
    })
}

struct Input<'a> {
    path: &'a Path,
    file: File,
    offset: u64,
}

impl Input<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        match self.file.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt(self.offset, "the file ends too early"))
            }
            Err(error) => Err(Error::io(self.path)(error)),
        }
    }

    /// Reads the next block of a file of that size, and the checksum that it
    /// should have.
    fn block(&mut self, size: u64, block: &mut Vec<u8>) -> Result<u32, Error> {
        let start = self.offset;
        let mut frame = [0; 8];
        self.fill(&mut frame)?;
        let mut fields = Reader(&frame);
        let (length, sum) = (fields.u32(), fields.u32());
        let length = length.unwrap_or_default();
        if length == 0 || u64::from(length) > size.saturating_sub(self.offset) {
            return Err(self.corrupt(start, "the file ends too early"));
        }
        block.resize(length as usize, 0);
        self.fill(block)?;
        Ok(sum.unwrap_or_default())
    }

    fn corrupt(&self, offset: u64, detail: &'static str) -> Error {
        corrupt(self.path, offset, detail)
    }
}

fn corrupt(path: &Path, offset: u64, detail: &'static str) -> Error {
    Error::Corrupt {
        file: path.to_owned(),
        offset,
        detail,
    }
}

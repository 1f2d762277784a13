//! A file with all data at one revision, so that older logs can go.
//!
//! ```text
//! magic (8) | revision (8) | entries (8) | checksum (4)
//! block*: length (4) | checksum (4) | entry* (length)
//! ```

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::{
    directory,
    record::{self, Reader},
};
use crate::{
    Entry, Error, Revision,
    state::{Head, Record},
};

const MAGIC: [u8; 8] = *b"k8sstsnp";
const HEADER: usize = 28;
/// A block is written once it has so many bytes.
const BLOCK: usize = 256 << 10;

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

/// Reads a snapshot, of a certain revision if one is given, and its size in
/// bytes.
pub(crate) fn read(path: &Path, revision: Option<Revision>) -> Result<(Head, u64), Error> {
    let mut input = Input {
        path,
        file: BufReader::with_capacity(BLOCK, File::open(path).map_err(Error::io(path))?),
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
        _ => return Err(input.corrupt(0, "not the header of this snapshot")),
    };
    let mut head = Head {
        revision,
        ..Head::default()
    };
    let mut block = Vec::new();
    while (head.tree.len() as u64) < count {
        let start = input.offset;
        let mut frame = [0; 8];
        input.fill(&mut frame)?;
        let mut fields = Reader(&frame);
        let (length, sum) = (fields.u32(), fields.u32());
        block.clear();
        let length = u64::from(length.unwrap_or_default());
        let read = (&mut input.file).take(length).read_to_end(&mut block);
        input.offset += read.map_err(Error::io(path))? as u64;
        if block.len() as u64 != length || sum != Some(crc32c::crc32c(&block)) {
            return Err(input.corrupt(start, "a block does not match its checksum"));
        }
        let mut reader = Reader(&block);
        while !reader.0.is_empty() {
            let Some(record) = decode(&mut reader) else {
                return Err(input.corrupt(start, "an entry makes no sense"));
            };
            head.tree.insert(Arc::new(record));
        }
        if length == 0 {
            return Err(input.corrupt(start, "entries are missing"));
        }
    }
    Ok((head, input.offset))
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
    file: BufReader<File>,
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

    fn corrupt(&self, offset: u64, detail: &'static str) -> Error {
        Error::Corrupt {
            file: self.path.to_owned(),
            offset,
            detail,
        }
    }
}

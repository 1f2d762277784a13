//! How a commit looks in the log.
//!
//! ```text
//! magic (4) | length (4) | durable (8) | checksum (4) | body (length)
//! ```
//!
//! `durable` is the offset up to which the file was known to be on disk when
//! the record was written. It tells a torn tail from corruption: see
//! `docs/design.md`. All numbers are little-endian.

use bytes::Bytes;

use crate::{
    Change, Entry, Op, Revision, WatchBatch, Write,
    state::{
        Head, expires,
        head::{delete, put},
    },
};

const MAGIC: [u8; 4] = *b"\xf7rec";
pub(crate) const HEADER: usize = 20;

const COMMIT: u8 = 1;
const COMPACT: u8 = 2;
const SEAL: u8 = 3;

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// Appends one record to the buffer; `body` writes its inside.
fn frame(buffer: &mut Vec<u8>, durable: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&durable.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    body(buffer);
    let length = length(buffer.len() - start - HEADER);
    buffer[start + 4..start + 8].copy_from_slice(&length);
    let sum = checksum(&buffer[start..]);
    buffer[start + 16..start + 20].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum of a record, which covers all of it but itself and the magic.
fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[4..16]), &record[HEADER..])
}

/// A length as it is stored. [`Limits`](crate::Limits) keeps batches far below 4 GiB.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("batches are limited to less than 4 GiB")
        .to_le_bytes()
}

/// Appends a commit that [`Head::judge`] has let through.
pub(crate) fn commit(
    buffer: &mut Vec<u8>,
    durable: u64,
    revision: Revision,
    writes: &[Write],
    previous: &[Option<Entry>],
    now: u64,
) {
    frame(buffer, durable, |buffer| {
        buffer.push(COMMIT);
        buffer.extend_from_slice(&revision.0.to_le_bytes());
        for (write, previous) in writes.iter().zip(previous) {
            match &write.op {
                Op::Put { value, ttl } => {
                    buffer.push(PUT);
                    bytes(buffer, &write.key);
                    bytes(buffer, value);
                    buffer.extend_from_slice(&expires(now, *ttl).to_le_bytes());
                }
                Op::Delete if previous.is_some() => {
                    buffer.push(DELETE);
                    bytes(buffer, &write.key);
                }
                Op::Delete | Op::Check => {}
            }
        }
    });
}

/// Appends the news that history before a revision is forgotten.
pub(crate) fn compact(buffer: &mut Vec<u8>, durable: u64, oldest: Revision) {
    frame(buffer, durable, |buffer| {
        buffer.push(COMPACT);
        buffer.extend_from_slice(&oldest.0.to_le_bytes());
    });
}

/// Appends the last record of a store that is closed in good order.
pub(crate) fn seal(buffer: &mut Vec<u8>, durable: u64, revision: Revision) {
    frame(buffer, durable, |buffer| {
        buffer.push(SEAL);
        buffer.extend_from_slice(&revision.0.to_le_bytes());
    });
}

/// Appends bytes behind their length.
pub(crate) fn bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&length(bytes.len()));
    buffer.extend_from_slice(bytes);
}

/// One intact record.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) durable: u64,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the start of the bytes, if there is an intact one.
    pub(crate) fn first(from: &'a [u8]) -> Option<Self> {
        if from.len() < HEADER || from[..4] != MAGIC {
            return None;
        }
        let mut header = Reader(&from[4..HEADER]);
        let length = header.u32()? as usize;
        let durable = header.u64()?;
        let sum = header.u32()?;
        let record = from.get(..HEADER.checked_add(length)?)?;
        (checksum(record) == sum).then(|| Self {
            durable,
            body: &record[HEADER..],
        })
    }

    /// Whether, somewhere in the bytes, an intact record says that the file up
    /// to and beyond `offset` was on disk when it was written.
    pub(crate) fn any_beyond(from: &[u8], offset: u64) -> bool {
        let starts = from.windows(MAGIC.len()).enumerate();
        starts
            .filter(|(_, window)| *window == MAGIC)
            .filter_map(|(at, _)| Record::first(&from[at..]))
            .any(|record| record.durable > offset)
    }

    /// How many bytes it takes in the file.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Reads the inside; `None` if it makes no sense, which the checksum rules
    /// out for records that this code wrote.
    pub(crate) fn read(&self) -> Option<Body> {
        let mut reader = Reader(self.body);
        let kind = reader.u8()?;
        let revision = Revision(reader.u64()?);
        match kind {
            COMMIT => Some(Body::Commit(revision, writes(reader)?)),
            COMPACT => Some(Body::Compact(revision)),
            SEAL => Some(Body::Seal),
            _ => None,
        }
    }
}

/// What a record says.
#[derive(Debug)]
pub(crate) enum Body {
    Commit(Revision, Vec<Recorded>),
    Compact(Revision),
    Seal,
}

/// A write that was recorded.
#[derive(Debug)]
pub(crate) struct Recorded {
    key: Bytes,
    /// The value and its expiry; `None` deletes the key.
    put: Option<(Bytes, u64)>,
}

fn writes(mut reader: Reader<'_>) -> Option<Vec<Recorded>> {
    let mut writes = Vec::with_capacity(1);
    while !reader.0.is_empty() {
        let op = reader.u8()?;
        let key = Bytes::copy_from_slice(reader.bytes()?);
        let put = match op {
            PUT => Some((Bytes::copy_from_slice(reader.bytes()?), reader.u64()?)),
            DELETE => None,
            _ => return None,
        };
        writes.push(Recorded { key, put });
    }
    Some(writes)
}

/// Applies a commit and tells `ends` which keys expire when. Returns `None` if
/// it makes no sense.
pub(crate) fn apply(
    writes: Vec<Recorded>,
    head: &mut Head,
    revision: Revision,
    mut ends: impl FnMut(u64, Bytes),
) -> Option<WatchBatch> {
    let mut changes: Vec<Change> = Vec::with_capacity(writes.len());
    for Recorded { key, put: value } in writes {
        let previous = head.tree.get(&key).map(|record| record.entry.clone());
        let (edit, change) = match value {
            Some((value, expires)) => {
                if expires != 0 {
                    ends(expires, key.clone());
                }
                put(key, value, expires, previous, revision)
            }
            None => delete(previous?),
        };
        head.edit(edit);
        changes.push(change);
    }
    changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    head.revision = revision;
    Some(WatchBatch {
        revision,
        changes: changes.into(),
    })
}

/// Takes little-endian numbers and lengths with bytes off the front.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }
}

//! How large a write may be.

use crate::{Error, Op, Write};

/// How large a write may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, in bytes. Default: 4 KiB.
    pub key_bytes: usize,
    /// The longest value, in bytes. Default: 8 MiB.
    pub value_bytes: usize,
    /// The largest sum of a batch's keys and values, in bytes. Default: 64 MiB;
    /// more than 1 GiB counts as 1 GiB.
    pub batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: 4 << 10,
            value_bytes: 8 << 20,
            batch_bytes: 64 << 20,
        }
    }
}

/// A record's length is 32 bits wide on disk.
const MOST_BATCH_BYTES: usize = 1 << 30;

impl Limits {
    /// Rejects what no state of the store could accept.
    pub(crate) fn check(&self, writes: &[Write]) -> Result<(), Error> {
        let mut sum = 0usize;
        for write in writes {
            let bytes = write.key.len();
            if bytes == 0 || bytes > self.key_bytes {
                let limit = self.key_bytes;
                return Err(Error::KeyTooLarge { bytes, limit });
            }
            sum = sum.saturating_add(bytes);
            if let Op::Put { value, .. } = &write.op {
                if value.len() > self.value_bytes {
                    return Err(Error::ValueTooLarge {
                        key: write.key[..].into(),
                        bytes: value.len(),
                        limit: self.value_bytes,
                    });
                }
                sum = sum.saturating_add(value.len());
            }
        }
        let limit = self.batch_bytes.min(MOST_BATCH_BYTES);
        if sum > limit {
            return Err(Error::BatchTooLarge { bytes: sum, limit });
        }
        match duplicate(writes) {
            Some(write) => Err(Error::DuplicateKey {
                key: write.key[..].into(),
            }),
            None => Ok(()),
        }
    }
}

/// Finds a write whose key an earlier one has too.
fn duplicate(writes: &[Write]) -> Option<&Write> {
    // Most batches are tiny, and comparing a few keys is cheaper than a table.
    if writes.len() <= 8 {
        let mut pairs = writes.iter().enumerate();
        return pairs
            .find(|(at, write)| writes[..*at].iter().any(|w| w.key == write.key))
            .map(|(_, write)| write);
    }
    let mut seen = std::collections::HashSet::with_capacity(writes.len());
    writes.iter().find(|write| !seen.insert(&write.key))
}

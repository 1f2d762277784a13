//! Compression of long answers.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// Answers shorter than this are not worth it; upstream's threshold.
pub(crate) const THRESHOLD: u64 = 128 * 1024;

/// Compresses the slices, quickly rather than well, as upstream does.
pub(crate) fn compress(slices: impl IntoIterator<Item = Bytes>) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for slice in slices {
        encoder.write_all(&slice).ok()?;
    }
    encoder.finish().ok().map(Bytes::from)
}

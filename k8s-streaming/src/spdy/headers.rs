//! Compressed header blocks. Each direction is one zlib stream with a preset dictionary.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// More than any header block of these streams.
const LIMIT: usize = 64 << 10;

/// A block of a stored (uncompressed) deflate stream.
fn stored(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or_default();
    let mut out = vec![0];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(data);
    out
}

/// Reads what the client compressed.
///
/// The inflater at hand takes no preset dictionary. But a dictionary is nothing else than text
/// that came before: it is fed in as a stored block, and what comes out of that is thrown away.
pub(super) struct Inflater {
    inflate: Decompress,
    begun: bool,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

impl Inflater {
    pub(super) fn new() -> Self {
        let mut this = Self {
            inflate: Decompress::new(false),
            begun: false,
        };
        let _ = this.inflate(&stored(&dictionary()));
        this
    }

    /// The headers of the next block; `None` if it is broken, and everything after it then.
    pub(super) fn read(&mut self, block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut data = block;
        if !self.begun {
            // zlib's own header, and the dictionary's checksum.
            let with_dictionary = data.get(1)? & 0x20 != 0;
            data = data.get(if with_dictionary { 6 } else { 2 }..)?;
            self.begun = true;
        }
        let text = self.inflate(data)?;
        parse(&text)
    }

    fn inflate(&mut self, mut data: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(4096);
        loop {
            let before = self.inflate.total_in();
            let had = out.len();
            let status = self
                .inflate
                .decompress_vec(data, &mut out, FlushDecompress::Sync)
                .ok()?;
            let used = usize::try_from(self.inflate.total_in() - before).ok()?;
            data = data.get(used..)?;
            if out.len() > LIMIT {
                return None;
            }
            let full = out.len() == out.capacity();
            if full {
                out.reserve(4096);
            } else if data.is_empty()
                || status == Status::StreamEnd
                || (used == 0 && out.len() == had)
            {
                return Some(out);
            }
        }
    }
}

fn parse(mut text: &[u8]) -> Option<Vec<(String, String)>> {
    fn number(text: &mut &[u8]) -> Option<usize> {
        let (bytes, rest) = text.split_first_chunk::<4>()?;
        *text = rest;
        usize::try_from(u32::from_be_bytes(*bytes)).ok()
    }
    fn string(text: &mut &[u8]) -> Option<String> {
        let length = number(text)?;
        let (bytes, rest) = text.split_at_checked(length)?;
        *text = rest;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
    let count = number(&mut text)?;
    let mut out = Vec::new();
    for _ in 0..count {
        out.push((string(&mut text)?, string(&mut text)?));
    }
    Some(out)
}

/// Writes header blocks. They are short, so nothing is compressed.
#[derive(Debug, Default)]
pub(super) struct Deflater {
    begun: bool,
}

impl Deflater {
    /// A block of headers, whose names are in lower case.
    pub(super) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.begun {
            out.extend_from_slice(&[0x78, 0x01]);
            self.begun = true;
        }
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let mut text = number(headers.len()).to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&number(part.len()));
            text.extend_from_slice(part.as_bytes());
        }
        for part in text.chunks(usize::from(u16::MAX)) {
            out.extend_from_slice(&stored(part));
        }
        // Go's inflater hands out what it has only at an empty block: a flush.
        out.extend_from_slice(&stored(&[]));
        out
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut out = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(n, v)| [n, v]) {
            out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::new());
        let long = "x".repeat(50 << 10);
        for headers in [
            &[("streamtype", "error"), ("long", &long)][..],
            &[],
            &[("a", "")],
        ] {
            let read = inflater.read(&deflater.block(headers)).unwrap();
            let read: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(read, headers);
        }
    }

    #[test]
    fn blocks_with_a_dictionary_are_read_one_after_the_other() {
        // The compressor takes no dictionary either: it is made to have seen it.
        let mut deflate = Compress::new(Compression::best(), false);
        let mut run = |data: &[u8]| {
            let mut out = Vec::with_capacity(8192);
            deflate
                .compress_vec(data, &mut out, FlushCompress::Sync)
                .unwrap();
            out
        };
        run(&dictionary());
        let mut first = vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
        first.extend(run(&block(&[
            ("streamtype", "error"),
            ("port", "80"),
            ("content-type", "text/html"),
        ])));
        let second = run(&block(&[("streamtype", "data"), ("port", "80")]));
        let mut inflater = Inflater::new();
        let headers = inflater.read(&first).unwrap();
        assert_eq!(headers[0], ("streamtype".to_owned(), "error".to_owned()));
        assert_eq!(
            headers[2],
            ("content-type".to_owned(), "text/html".to_owned())
        );
        assert_eq!(inflater.read(&second).unwrap().len(), 2);
        assert_eq!(inflater.read(b"\xff\xff garbage"), None);
    }
}

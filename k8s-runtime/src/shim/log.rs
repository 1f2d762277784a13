//! Container logs in CRI's format: `<time> <stdout|stderr> <P|F> <text>`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

use jiff::Timestamp;

/// The longest text of one record. Longer lines are split into records tagged `P`.
const MAX_LINE: usize = 16 << 10;

/// One of a container's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Splits a container's output into records.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    /// Unfinished lines of standard output and standard error.
    pending: [Vec<u8>; 2],
    out: Vec<u8>,
}

impl Log {
    /// Opens a log; an empty path makes one that forgets everything.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let mut log = Self {
            path,
            file: None,
            pending: [Vec::new(), Vec::new()],
            out: Vec::new(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file again, after somebody moved it away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if !self.path.as_os_str().is_empty() {
            self.file = Some(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&self.path)?,
            );
        }
        Ok(())
    }

    /// Takes what a stream brought and writes the lines that it completes.
    pub(super) fn write(&mut self, stream: Stream, mut data: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let now = Timestamp::now();
        let pending = &mut self.pending[stream as usize];
        while !data.is_empty() {
            let room = MAX_LINE - pending.len();
            let end = memchr(data);
            match end {
                Some(end) if end <= room => {
                    pending.extend_from_slice(&data[..end]);
                    record(&mut self.out, now, stream, b'F', pending);
                    pending.clear();
                    data = &data[end + 1..];
                }
                _ if data.len() < room => {
                    pending.extend_from_slice(data);
                    data = &[];
                }
                _ => {
                    pending.extend_from_slice(&data[..room]);
                    record(&mut self.out, now, stream, b'P', pending);
                    pending.clear();
                    data = &data[room..];
                }
            }
        }
        self.flush();
    }

    /// Writes a last line that has no end.
    pub(super) fn finish(&mut self, stream: Stream) {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if !pending.is_empty() {
            record(&mut self.out, Timestamp::now(), stream, b'P', &pending);
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            // A full disk must not end the container; what could not be written is lost.
            let _ = file.write_all(&self.out);
        }
        self.out.clear();
        self.out.shrink_to(64 << 10);
    }
}

fn memchr(data: &[u8]) -> Option<usize> {
    data.iter().position(|b| *b == b'\n')
}

fn record(out: &mut Vec<u8>, at: Timestamp, stream: Stream, tag: u8, text: &[u8]) {
    let name = if stream == Stream::Stdout {
        "stdout"
    } else {
        "stderr"
    };
    // Writing to memory does not fail.
    let _ = write!(out, "{at:.9} {name} {} ", char::from(tag));
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[(Stream, &[u8])]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(path.clone()).unwrap();
        for (stream, chunk) in chunks {
            log.write(*stream, chunk);
        }
        log.finish(Stream::Stdout);
        log.finish(Stream::Stderr);
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|l| l.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn lines_are_put_together_per_stream() {
        use Stream::{Stderr, Stdout};
        let lines = written(&[
            (Stdout, b"he"),
            (Stderr, b"oops\n"),
            (Stdout, b"llo\n\nlast"),
        ]);
        assert_eq!(
            lines,
            [
                "stderr F oops",
                "stdout F hello",
                "stdout F ",
                "stdout P last"
            ]
        );
    }

    #[test]
    fn a_long_line_is_split_and_nothing_is_lost() {
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        for chunk in [1000, MAX_LINE, MAX_LINE + 1, long.len()] {
            let mut chunks: Vec<(Stream, &[u8])> =
                long.chunks(chunk).map(|c| (Stream::Stdout, c)).collect();
            chunks.push((Stream::Stdout, b"\n"));
            let lines = written(&chunks);
            assert_eq!(lines.len(), 3);
            assert!(lines[0].starts_with("stdout P x") && lines[2].starts_with("stdout F x"));
            assert_eq!(lines.iter().map(|l| l.len() - 9).sum::<usize>(), long.len());
        }
    }

    #[test]
    fn times_have_nine_digits() {
        let mut out = Vec::new();
        record(&mut out, Timestamp::UNIX_EPOCH, Stream::Stdout, b'F', b"x");
        assert_eq!(out, b"1970-01-01T00:00:00.000000000Z stdout F x\n");
    }
}

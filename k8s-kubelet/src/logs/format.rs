//! The CRI log format: `<time> <stream> <P|F> <text>`, one line per write; `P` marks a part of a
//! line that goes on.

use jiff::Timestamp;

/// One line of a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

impl Entry<'_> {
    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Takes a line apart; `None` if it is none.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    Some(Entry {
        time,
        stream,
        partial,
        text: parts.next().unwrap_or_default(),
    })
}

/// The text of a line as the container wrote it.
pub(crate) fn message_of(line: &[u8]) -> Vec<u8> {
    let Some(entry) = parse(line) else {
        return Vec::new();
    };
    let mut out = entry.text.to_vec();
    if !entry.partial {
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let entry = parse(b"2016-10-06T00:17:09.669794202Z stdout F log content 1\n").unwrap();
        assert_eq!(
            (entry.stream, entry.partial, entry.text),
            ("stdout", false, b"log content 1".as_slice())
        );
        assert_eq!(
            message_of(b"2016-10-06T00:17:09.669794202Z stderr P part"),
            b"part"
        );
        assert_eq!(
            message_of(b"2016-10-06T00:17:09.669794202Z stdout F \n"),
            b"\n"
        );
        assert_eq!(parse(b"garbage\n"), None);
    }
}

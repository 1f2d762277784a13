//! [`Answer`]: an answer over HTTP/1.1, counted as it comes and not kept.

use anyhow::Context;

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    head: Vec<u8>,
    at: At,
    /// Its code.
    pub(crate) code: u16,
    /// How many bytes of its body have come.
    pub(crate) length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// So many bytes of the body are left.
    Body(usize),
    /// The line with a chunk's size, and what it says so far.
    Size(usize),
    /// So many bytes of a chunk are left.
    Chunk(usize),
    /// So many bytes of the end of its line.
    ChunkEnd(usize),
    /// So many bytes of the last empty line.
    LastLine(usize),
    End,
}

impl Answer {
    /// Whether there is more to come.
    pub(crate) fn goes_on(&self) -> bool {
        self.at != At::End
    }

    /// Whether its body has begun.
    pub(crate) fn has_head(&self) -> bool {
        self.at != At::Head
    }

    /// Takes in what has come.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.at != At::Head {
            return self.take_body(bytes);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else {
            return Ok(());
        };
        let rest = self.head.split_off(end + 4);
        let head = std::str::from_utf8(&self.head)?;
        let code = head.get(9..12).and_then(|code| code.parse().ok());
        self.code = code.with_context(|| format!("not HTTP: {head}"))?;
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        self.at = match header("content-length") {
            Some("0") => At::End,
            Some(length) => At::Body(length.parse()?),
            None => {
                header("transfer-encoding").with_context(|| format!("no length: {head}"))?;
                At::Size(0)
            }
        };
        self.take_body(&rest)
    }

    fn take_body(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        // So many of what is left, and what is left then.
        let some = |bytes: &mut &[u8], left: usize| {
            let some = left.min(bytes.len());
            *bytes = &bytes[some..];
            (some, left - some)
        };
        while !bytes.is_empty() {
            self.at = match self.at {
                At::Body(left) => {
                    let (some, left) = some(&mut bytes, left);
                    self.length += some;
                    if left == 0 { At::End } else { At::Body(left) }
                }
                At::Size(size) => {
                    let digit = (bytes[0] as char).to_digit(16);
                    let at = match (bytes[0], digit) {
                        (b'\n', _) if size == 0 => At::LastLine(2),
                        (b'\n', _) => At::Chunk(size),
                        (_, Some(digit)) => At::Size(size * 16 + digit as usize),
                        _ => At::Size(size),
                    };
                    bytes = &bytes[1..];
                    at
                }
                At::Chunk(left) => {
                    let (some, left) = some(&mut bytes, left);
                    self.length += some;
                    if left == 0 {
                        At::ChunkEnd(2)
                    } else {
                        At::Chunk(left)
                    }
                }
                At::ChunkEnd(left) => match some(&mut bytes, left).1 {
                    0 => At::Size(0),
                    left => At::ChunkEnd(left),
                },
                At::LastLine(left) => match some(&mut bytes, left).1 {
                    0 => At::End,
                    left => At::LastLine(left),
                },
                At::Head | At::End => anyhow::bail!("more than an answer"),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, size: usize) -> (u16, usize, bool) {
        let mut answer = Answer::default();
        for piece in text.as_bytes().chunks(size) {
            answer.take(piece).unwrap();
        }
        (answer.code, answer.length, answer.goes_on())
    }

    #[test]
    fn an_answer_ends_where_it_says_however_it_is_cut() {
        let plain = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n12345";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nB\r\n12345678901\r\n1\r\n2\r\n0\r\n\r\n";
        for size in 1..=chunked.len() {
            assert_eq!(answer(plain, size), (201, 5, false), "{size}");
            assert_eq!(answer(chunked, size), (200, 12, false), "{size}");
        }
        let part = &chunked[..chunked.len() - 2];
        assert!(answer(part, 7).2);
    }
}

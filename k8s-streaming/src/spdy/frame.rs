//! SPDY/3.1 frames, as far as the streams of pods need them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
const REFUSED: u32 = 3;
/// Nobody needs larger frames; the length field would allow 16 MiB.
const MAX_FRAME: usize = 4 << 20;

/// A frame that was received. Headers are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        stream: u32,
        headers: Bytes,
        last: bool,
    },
    SynReply {
        stream: u32,
        headers: Bytes,
    },
    Data {
        stream: u32,
        data: Bytes,
        last: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// One without meaning here, with its headers where it has any.
    Other {
        headers: Option<Bytes>,
    },
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(super) struct Parser(BytesMut);

impl Parser {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, &'static str> {
        if self.0.len() < 8 {
            return Ok(None);
        }
        let word = |at: usize| {
            u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
        };
        let (first, second) = (word(0), word(4));
        let length = (second & 0x00ff_ffff) as usize;
        let flags = (second >> 24) as u8;
        if length > MAX_FRAME {
            return Err("frame too large");
        }
        if self.0.len() < 8 + length {
            return Ok(None);
        }
        self.0.advance(8);
        let mut body = self.0.split_to(length).freeze();
        let last = flags & FIN != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data {
                stream: first,
                data: body,
                last,
            }));
        }
        if (first >> 16) & 0x7fff != 3 {
            return Err("unsupported version");
        }
        let number = |body: &mut Bytes| body.try_get_u32().map_err(|_| "frame too short");
        Ok(Some(match (first & 0xffff) as u16 {
            SYN_STREAM => {
                let stream = number(&mut body)? & 0x7fff_ffff;
                // The associated stream, priority and slot.
                number(&mut body)?;
                if body.len() < 2 {
                    return Err("frame too short");
                }
                body.advance(2);
                Frame::SynStream {
                    stream,
                    headers: body,
                    last,
                }
            }
            RST_STREAM => Frame::Reset {
                stream: number(&mut body)? & 0x7fff_ffff,
            },
            PING => Frame::Ping {
                id: number(&mut body)?,
            },
            GOAWAY => Frame::GoAway,
            SYN_REPLY => Frame::SynReply {
                stream: number(&mut body)? & 0x7fff_ffff,
                headers: body,
            },
            HEADERS => {
                number(&mut body)?;
                Frame::Other {
                    headers: Some(body),
                }
            }
            _ => Frame::Other { headers: None },
        }))
    }
}

fn control(kind: u16, flags: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = BytesMut::with_capacity(8 + length);
    out.put_u16(0x8003);
    out.put_u16(kind);
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
    for part in parts {
        out.put_slice(part);
    }
    out.freeze()
}

/// A stream is wanted.
pub(super) fn open(stream: u32, headers: &[u8]) -> Bytes {
    // It belongs to no other, and has no priority.
    control(SYN_STREAM, 0, &[&stream.to_be_bytes(), &[0; 6], headers])
}

/// A stream is accepted.
pub(super) fn reply(stream: u32, headers: &[u8]) -> Bytes {
    control(SYN_REPLY, 0, &[&stream.to_be_bytes(), headers])
}

/// A stream is refused.
pub(super) fn reset(stream: u32) -> Bytes {
    control(
        RST_STREAM,
        0,
        &[&stream.to_be_bytes(), &REFUSED.to_be_bytes()],
    )
}

/// No more streams after that one.
pub(super) fn go_away(last: u32) -> Bytes {
    control(GOAWAY, 0, &[&last.to_be_bytes(), &[0; 4]])
}

/// A ping's answer is the ping.
pub(super) fn ping(id: u32) -> Bytes {
    control(PING, 0, &[&id.to_be_bytes()])
}

/// Data of a stream; the last frame closes it on this side.
pub(super) fn data(stream: u32, data: &[u8], last: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + data.len());
    out.put_u32(stream);
    out.put_u8(if last { FIN } else { 0 });
    out.put_uint(data.len() as u64, 3);
    out.put_slice(data);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = data(3, b"hello", false).to_vec();
        bytes.extend_from_slice(&ping(7));
        bytes.extend_from_slice(&data(3, b"", true));
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for byte in bytes {
            parser.push(&[byte]);
            while let Some(frame) = parser.next().unwrap() {
                found.push(frame);
            }
        }
        let hello = Bytes::from_static(b"hello");
        assert_eq!(
            found,
            [
                Frame::Data {
                    stream: 3,
                    data: hello,
                    last: false
                },
                Frame::Ping { id: 7 },
                Frame::Data {
                    stream: 3,
                    data: Bytes::new(),
                    last: true
                },
            ]
        );
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let mut parser = Parser::default();
        parser.push(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
        assert!(parser.next().is_err());
    }
}

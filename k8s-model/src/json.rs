//! Texts in JSON: [`write_text`] as `serde_json` writes them, [`go_text`] as Go does.
//!
//! Each write of an object spells its JSON twice, and it is names and short texts that it has most of. So
//! [`write_text`] looks at eight bytes at a time.

use std::fmt::Write;

use serde_json::Value;

/// Appends a text with its quotes.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_escaped(text, out);
    out.push(b'"');
}

/// A value as Go's encoder writes it, which leaves nothing in that means something in HTML.
pub(crate) fn go_text(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn write_escaped(text: &str, out: &mut Vec<u8>) {
    let text = text.as_bytes();
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    let mut written = 0;
    for (at, byte) in text
        .iter()
        .enumerate()
        .filter(|(_, byte)| is_special(**byte))
    {
        out.extend_from_slice(&text[written..at]);
        write_escape(*byte, out);
        written = at + 1;
    }
    out.extend_from_slice(&text[written..]);
}

/// Whether a byte is escaped in JSON.
fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Appends what stands for such a byte.
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..b' ' => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        itself => itself,
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Whether a text is the same in JSON, but for its quotes.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    words
        .iter()
        .all(|word| !has_special(u64::from_le_bytes(*word)))
        && !rest.iter().any(|byte| is_special(*byte))
}

/// Whether one of eight bytes is a control character, a quote or a backslash. See "Determine if a word has a zero byte"
/// of Anderson's *Bit Twiddling Hacks*.
fn has_special(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & TOPS;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | is(b'"') | is(b'\\')) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_what_serde_json_writes(text in any::<String>(), long in "[ -~\\u{0}-\\u{1f}äé]{0,40}") {
            for text in [&text, &long] {
                let mut out = Vec::new();
                write_text(text, &mut out);
                prop_assert_eq!(out, serde_json::to_vec(text).unwrap());
            }
        }

        #[test]
        fn a_word_is_special_if_a_byte_of_it_is(bytes: [u8; 8]) {
            let special = bytes.iter().any(|byte| is_special(*byte));
            prop_assert_eq!(has_special(u64::from_le_bytes(bytes)), special);
        }
    }
}

//! Bytes in base64, as Go's decoder reads them: lines may be broken anywhere.

use std::borrow::Cow;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use memchr::memchr2;

/// Demands padding, but not that the bits beside the last byte are zero.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The bytes that a text in base64 stands for.
///
/// # Errors
/// Fails with the text of Go's decoder.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    read(text).ok_or_else(|| fault(text))
}

/// The text as Go's encoder writes the bytes that it stands for; as it is if it stands for none.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    if !is_broken(text) && !has_loose_bits(text) {
        return Cow::Borrowed(text);
    }
    match read(text) {
        Some(bytes) => Cow::Owned(STANDARD.encode(bytes)),
        None => Cow::Borrowed(text),
    }
}

/// What Go says of a text that is not base64.
pub(super) fn fault(text: &str) -> String {
    format!(
        "illegal base64 data at input byte {}",
        place(text.as_bytes())
    )
}

fn read(text: &str) -> Option<Vec<u8>> {
    let bytes = if is_broken(text) {
        let is_kept = |byte: &u8| !is_break(*byte);
        Cow::Owned(text.bytes().filter(is_kept).collect())
    } else {
        Cow::Borrowed(text.as_bytes())
    };
    LENIENT.decode(&bytes).ok()
}

fn is_broken(text: &str) -> bool {
    memchr2(b'\r', b'\n', text.as_bytes()).is_some()
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Whether the last character before the padding says more than the last byte needs.
fn has_loose_bits(text: &str) -> bool {
    match text.as_bytes() {
        [.., last, b'=', b'='] => !matches!(last, b'A' | b'Q' | b'g' | b'w'),
        [.., last, b'='] => !b"AEIMQUYcgkosw048".contains(last),
        _ => false,
    }
}

/// Where Go's decoder gives up: at the offending byte, or at the start of a group of four that is not complete.
fn place(text: &[u8]) -> usize {
    let past_breaks = |at: usize| {
        let rest = text.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|byte| is_break(**byte)).count()
    };
    let mut at = 0;
    loop {
        let mut in_group = 0;
        while in_group < 4 {
            let Some(&byte) = text.get(at) else {
                return at.saturating_sub(in_group);
            };
            at += 1;
            match byte {
                byte if is_break(byte) => {}
                b'+' | b'/' => in_group += 1,
                _ if byte.is_ascii_alphanumeric() => in_group += 1,
                b'=' if in_group == 3 => return past_breaks(at),
                b'=' if in_group == 2 => {
                    at = past_breaks(at);
                    return match text.get(at) {
                        None => text.len(),
                        Some(b'=') => past_breaks(at + 1),
                        Some(_) => at - 1,
                    };
                }
                _ => return at - 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_be_broken_anywhere() {
        for (text, expected) in [
            ("", ""),
            ("\n", ""),
            ("YWJj", "abc"),
            ("YWJj\n", "abc"),
            ("Y\r\nWJ\rj", "abc"),
            ("YQ==", "a"),
            ("YQ=\n=\n", "a"),
            ("YWI=", "ab"),
            ("\nYWI=\r\n", "ab"),
            // Bits that no byte needs.
            ("YR==", "a"),
            ("YWJ=", "ab"),
        ] {
            assert_eq!(bytes(text).unwrap(), expected.as_bytes(), "{text:?}");
            assert_eq!(canonical(text), STANDARD.encode(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_canonical_is_not_copied() {
        for count in 0..64_u8 {
            let sent: Vec<u8> = (0..count).map(|n| n.wrapping_mul(37)).collect();
            let text = STANDARD.encode(&sent);
            assert!(matches!(canonical(&text), Cow::Borrowed(_)), "{text}");
            assert_eq!(bytes(&text).unwrap(), sent);
        }
    }

    #[test]
    fn what_is_none_is_told_where_it_breaks() {
        for (text, at) in [
            ("1", 0),
            ("YWJj!", 4),
            ("YWJjZ", 4),
            ("YQ=", 3),
            ("YQ=a", 2),
            ("YQ==a", 4),
            ("YQ==\na", 5),
            ("YQ=\na", 3),
            ("YWI=a", 4),
            ("YWI=\r\na", 6),
            ("Y=", 1),
            ("YW\nJ", 1),
        ] {
            let told = format!("illegal base64 data at input byte {at}");
            assert_eq!(bytes(text).unwrap_err(), told, "{text:?}");
            assert_eq!(canonical(text), text);
        }
    }
}

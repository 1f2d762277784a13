//! Halves of characters beyond the sixteenth bit, which JSON can name one by one (`\\ud800`).

use std::borrow::Cow;

use memchr::memmem;

/// JSON in which no escape names half a character: each that does becomes U+FFFD, as Go reads it. `serde_json` takes
/// such a text for no JSON at all.
#[must_use]
pub fn paired(json: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(json, b"\\ud").is_none() && memmem::find(json, b"\\uD").is_none() {
        return Cow::Borrowed(json);
    }
    let mut out = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        at += match (unit(json, at), unit(json, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.to_mut()[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
    }
    out
}

/// What the escape at a place stands for, if there is one with a number.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn halves_are_replaced_as_go_replaces_them() {
        for (json, text) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""a\ud800b""#, "a\u{fffd}b"),
            (r#""\uDC00x""#, "\u{fffd}x"),
            (r#""\ud800\u0041""#, "\u{fffd}A"),
            (r#""\ud800\ud800""#, "\u{fffd}\u{fffd}"),
            (r#""\ud800\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\\ud800""#, "\\ud800"),
            (r#""\\\ud800""#, "\\\u{fffd}"),
        ] {
            let read: Value = serde_json::from_slice(&paired(json.as_bytes())).unwrap();
            assert_eq!(read, text, "{json}");
        }
    }

    #[test]
    fn what_has_no_half_is_left_alone() {
        for json in [
            &br#"{"a": "\u0041 \\ b"}"#[..],
            br#""\ud83d\ude00""#,
            b"\\ud",
            br"\ud8",
            b"\\ud80z",
            b"\\",
            b"",
        ] {
            assert!(matches!(paired(json), Cow::Borrowed(same) if same == json));
        }
    }
}

//! The characters of YAML: UTF-8, or UTF-16 if a mark says so; and those that may not be.

use std::borrow::Cow;

/// The text, or what is wrong with it, as the reader of yaml.v2 tells it.
pub(super) fn text(bytes: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?.into(),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?.into(),
        _ => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|error| {
            let lead = bytes.get(error.valid_up_to());
            match (error.error_len(), lead) {
                (None, _) => "incomplete UTF-8 octet sequence",
                (_, Some(0xc2..=0xf4)) => "invalid trailing UTF-8 octet",
                _ => "invalid leading UTF-8 octet",
            }
        })?),
    };
    match text.trim_start_matches('\u{feff}').chars().all(may_be) {
        true => Ok(text),
        false => Err("control characters are not allowed"),
    }
}

fn utf16(bytes: &[u8], read: fn([u8; 2]) -> u16) -> Result<String, &'static str> {
    let (pairs, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err("incomplete UTF-16 character");
    }
    let units = pairs.iter().map(|pair| read(*pair));
    let chars: Result<String, _> = char::decode_utf16(units).collect();
    chars.map_err(|error| match error.unpaired_surrogate() {
        0xdc00.. => "unexpected low surrogate area",
        _ => "expected low surrogate area",
    })
}

fn may_be(c: char) -> bool {
    matches!(c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
        | '\u{10000}'..)
        && c != '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused() {
        for (bytes, why) in [
            (&b"a: \xff"[..], "invalid leading UTF-8 octet"),
            (b"a: \xc3(", "invalid trailing UTF-8 octet"),
            (b"a: \xc3", "incomplete UTF-8 octet sequence"),
            (b"\0", "control characters are not allowed"),
            (b"a: \x01", "control characters are not allowed"),
            (b"\xff\xfea", "incomplete UTF-16 character"),
            (b"\xff\xfe\x00\xd8", "expected low surrogate area"),
        ] {
            assert_eq!(text(bytes), Err(why), "{bytes:?}");
        }
        assert_eq!(text(b"\xfe\xff\0a\0:").unwrap(), "a:");
        assert_eq!(
            text("\u{feff}é\t\u{1f600}".as_bytes()).unwrap(),
            "\u{feff}é\t\u{1f600}"
        );
    }
}

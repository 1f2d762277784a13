//! What Go's `time.Parse` says of a text that is no time.

/// The layout of times, and of those with microseconds.
const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
/// How many digits those have.
const DIGITS: usize = 6;
/// What upstream has for a time that nobody said.
pub(super) const UNSET: &str = "0001-01-01T00:00:00Z";
const MICROSECONDS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Why a text is no time as RFC 3339 has them.
pub(super) fn fault(text: &str, micro: bool) -> String {
    let layout = if micro { MICROSECONDS } else { SECONDS };
    match walk(text, micro) {
        Err(Fault::Unlike { rest, element }) => format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(text),
            quote(layout),
            quote(rest),
            quote(element)
        ),
        Err(Fault::Range(what)) => format!("parsing time {}: {what} out of range", quote(text)),
        Ok("") => format!("parsing time {}: day out of range", quote(text)),
        Ok(rest) => format!("parsing time {}: extra text: {}", quote(text), quote(rest)),
    }
}

/// Whether a text has a fraction of six digits, as times with microseconds must.
pub(super) fn is_micro(text: &str) -> bool {
    walk(text, true) == Ok("")
}

/// Whether a text is a time.
pub(crate) fn is_time(text: &str) -> bool {
    walk(text, false) == Ok("")
}

#[derive(PartialEq)]
enum Fault<'t> {
    Unlike {
        rest: &'t str,
        element: &'static str,
    },
    Range(&'static str),
}

/// What is left after a time.
fn walk(text: &str, micro: bool) -> Result<&str, Fault<'_>> {
    // Each element, what stands before it, how many digits it has, and what is too much for it.
    const ELEMENTS: [(&str, &str, usize, u32, &str); 6] = [
        ("", "2006", 4, u32::MAX, ""),
        ("-", "01", 2, 12, "month"),
        ("-", "02", 2, 31, "day"),
        ("T", "15", 2, 23, "hour"),
        (":", "04", 2, 59, "minute"),
        (":", "05", 2, 59, "second"),
    ];
    let mut rest = text;
    for (before, element, digits, most, name) in ELEMENTS {
        let unlike = |rest, element| Fault::Unlike { rest, element };
        rest = rest.strip_prefix(before).ok_or(unlike(rest, before))?;
        let number = rest
            .get(..digits)
            .filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|part| part.parse::<u32>().ok())
            .ok_or(unlike(rest, element))?;
        if number > most || (number == 0 && matches!(name, "month" | "day")) {
            return Err(Fault::Range(name));
        }
        rest = &rest[digits..];
    }
    let fraction = rest.strip_prefix(['.', ',']).map_or(0, |after| {
        after.bytes().take_while(u8::is_ascii_digit).count()
    });
    if micro {
        let element = ".000000";
        if rest.len() <= DIGITS {
            return Err(Fault::Unlike { rest, element });
        }
        if fraction < DIGITS {
            // It is past the digits by then.
            let rest = rest.get(DIGITS + 1..).unwrap_or_default();
            return Err(Fault::Unlike { rest, element });
        }
        rest = &rest[DIGITS + 1..];
    } else if fraction > 0 {
        rest = &rest[fraction + 1..];
    }
    if let Some(rest) = rest.strip_prefix('Z') {
        return Ok(rest);
    }
    let zone = rest.as_bytes();
    let digit = |at: usize| zone.get(at).is_some_and(u8::is_ascii_digit);
    let sound = matches!(zone.first(), Some(b'+' | b'-'))
        && zone.get(3) == Some(&b':')
        && [1, 2, 4, 5].into_iter().all(digit);
    if sound {
        Ok(&rest[6..])
    } else {
        let element = "Z07:00";
        Err(Fault::Unlike { rest, element })
    }
}

/// Quotes as that package does: by bytes what is not printable ASCII.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=0x7f => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_six_digits() {
        for good in ["01.123456Z", "01,123456Z", "01.123456+01:00"] {
            assert!(is_micro(&format!("2026-01-01T10:00:{good}")), "{good}");
        }
        for (bad, why) in [
            ("01Z", r#"cannot parse "Z" as ".000000""#),
            ("01.1Z", r#"cannot parse ".1Z" as ".000000""#),
            ("01.12345Z", r#"cannot parse "" as ".000000""#),
            ("01+01:00", r#"cannot parse "+01:00" as ".000000""#),
            ("01.1234567Z", r#"cannot parse "7Z" as "Z07:00""#),
        ] {
            let text = format!("2026-01-01T10:00:{bad}");
            assert!(!is_micro(&text), "{bad}");
            let told = fault(&text, true);
            assert!(told.ends_with(why), "{told} instead of {why}");
        }
    }

    #[test]
    fn the_first_element_that_does_not_fit_is_told() {
        for (text, why) in [
            ("soon", r#"cannot parse "soon" as "2006""#),
            ("é", r#"cannot parse "\xc3\xa9" as "2006""#),
            ("2026", r#"cannot parse "" as "-""#),
            ("2026-1-1", r#"cannot parse "1-1" as "01""#),
            (
                "2026-01-01 10:00:00Z",
                r#"cannot parse " 10:00:00Z" as "T""#,
            ),
            ("2026-01-01T10:00:00", r#"cannot parse "" as "Z07:00""#),
        ] {
            let expected = format!(
                "parsing time {} as \"2006-01-02T15:04:05Z07:00\": {why}",
                quote(text)
            );
            assert_eq!(fault(text, false), expected);
        }
        for (text, why) in [
            ("2026-13-01T10:00:00Z", "month out of range"),
            ("2026-02-31T10:00:00Z", "day out of range"),
            ("2026-01-01T24:00:00Z", "hour out of range"),
            ("2026-01-01T10:00:00Zx", "extra text: \"x\""),
        ] {
            assert_eq!(fault(text, false), format!("parsing time {text:?}: {why}"));
        }
        assert_eq!(
            fault("2026-01-01T10:00:00Z", true),
            "parsing time \"2026-01-01T10:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""
        );
    }
}

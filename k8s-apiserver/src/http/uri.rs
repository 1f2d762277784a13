//! Percent-decoding of paths and query strings.

use std::borrow::Cow;

/// Undoes percent-encoding; in a query, `+` is a space.
pub(crate) fn decode(text: &str, query: bool) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| *b == b'%' || (query && *b == b'+')) {
        return Cow::Borrowed(text);
    }
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' if i + 2 < bytes.len() => match (hex(bytes[i + 1]), hex(bytes[i + 2])) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    i += 2;
                }
                _ => out.push(b'%'),
            },
            b'+' if query => out.push(b' '),
            other => out.push(other),
        }
        i += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Whether Go makes nothing of a pair of a query: an escape in it is broken, or it has the separator of old.
fn is_unreadable(pair: &str) -> bool {
    let mut escapes = pair.split('%').skip(1).map(str::as_bytes);
    let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    pair.contains(';') || escapes.any(|rest| !is_hex(rest.first()) || !is_hex(rest.get(1)))
}

/// The pairs of a query string, in order; without those that cannot be read, as upstream.
pub(crate) fn query_pairs(
    query: Option<&str>,
) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty() && !is_unreadable(part))
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key, true), decode(value, true))
        })
}

/// The first value of a parameter.
pub(crate) fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    query_pairs(query)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_and_plus_are_decoded_and_broken_escapes_kept() {
        assert_eq!(decode("a%2Fb+c", true), "a/b c");
        assert_eq!(decode("a%2Fb+c", false), "a/b+c");
        assert_eq!(decode("100%", true), "100%");
        assert_eq!(decode("%zz", true), "%zz");
        assert_eq!(decode("a%2", true), "a%2");
    }

    #[test]
    fn query_pairs_keep_order_and_empty_values() {
        let pairs: Vec<_> = query_pairs(Some("a=1&b&a=2")).collect();
        assert_eq!(pairs.len(), 3);
        assert_eq!(query_value(Some("a=1&b&a=2"), "a").as_deref(), Some("1"));
        assert_eq!(query_value(Some("a=1&b"), "b").as_deref(), Some(""));
    }

    #[test]
    fn pairs_that_cannot_be_read_are_none() {
        let read = |query| query_value(Some(query), "a").map(|value| value.into_owned());
        for broken in ["a=%", "a=%1", "a=%zz", "a=b%1x", "a=1;b=2", "%61%=1"] {
            assert_eq!(read(broken), None, "{broken}");
        }
        assert_eq!(read("a=%zz&a=%3B%25").as_deref(), Some(";%"));
    }
}

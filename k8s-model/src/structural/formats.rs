//! The formats of texts that are checked: upstream's list (`apiextensions-apiserver/pkg/apiserver/
//! validation/formats.go`). Others are taken as they are.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use base64::Engine;
use regex::Regex;

/// Whether a text has a format. Every text has one that is not known.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    static MATCHES: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
        PATTERNS
            .iter()
            .filter_map(|(format, pattern)| Some((*format, Regex::new(pattern).ok()?)))
            .collect()
    });
    match format.replace('-', "").as_str() {
        "datetime" => text.parse::<jiff::Timestamp>().is_ok() && text.contains(['T', 't']),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => crate::kinds::checks::is_cidr(text),
        "uri" => is_uri(text),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok(),
        "hostname" => is_host_name(text),
        "email" => is_email(text),
        "k8sshortname" => crate::names::dns_label(text, false).is_empty(),
        "k8slongname" => crate::names::dns_subdomain(text, false).is_empty(),
        name => match MATCHES.iter().find(|(format, _)| *format == name) {
            Some((_, pattern)) => pattern.is_match(text),
            None => true,
        },
    }
}

/// Whether there is a format of that name.
pub(crate) fn is_known(format: &str) -> bool {
    let name = format.replace('-', "");
    OTHERS.contains(&name.as_str()) || PATTERNS.iter().any(|(known, _)| *known == name)
}

/// The formats that are not read by a pattern.
const OTHERS: [&str; 13] = [
    "datetime",
    "date",
    "duration",
    "ipv4",
    "ipv6",
    "cidr",
    "uri",
    "byte",
    "hostname",
    "email",
    "k8sshortname",
    "k8slongname",
    "password",
];

const PATTERNS: [(&str, &str); 13] = [
    (
        "uuid",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid3",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid4",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "uuid5",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    ("mac", "(?i)^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$"),
    ("bsonobjectid", "(?i)^[0-9a-f]{24}$"),
    ("isbn", r"^(?:97[89][- ]?)?(?:[0-9][- ]?){9}[0-9X]$"),
    ("isbn10", r"^(?:[0-9][- ]?){9}[0-9X]$"),
    ("isbn13", r"^97[89][- ]?(?:[0-9][- ]?){9}[0-9]$"),
    ("creditcard", r"^(?:[0-9][- ]?){12,18}[0-9]$"),
    ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    ("hexcolor", "(?i)^#?([0-9a-f]{3}|[0-9a-f]{6})$"),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
];

/// A duration of Go's (`1h30m`), or one with the names of units (`2 days`).
fn is_duration(text: &str) -> bool {
    static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)^\s*\d+(\.\d+)?\s*(ns|nanos?(econds?)?|us|µs|micros?(econds?)?|ms|millis?(econds?)?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?)\s*$").ok()
    });
    crate::duration::parse(text).is_some()
        || WORDS.as_ref().is_some_and(|words| words.is_match(text))
}

/// As Go's `url.ParseRequestURI`: an absolute address, or a path from the root.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    })
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

/// Whether a text is a mail address.
pub(crate) fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !local.contains([' ', '<', '>', ',']) && is_host_name(domain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_good_from_bad() {
        for (format, good, bad) in [
            ("date-time", "2024-01-02T03:04:05Z", "2024-01-02"),
            ("date", "2024-02-29", "2023-02-29"),
            ("duration", "1h30m", "soon"),
            ("ipv6", "::1", "1.2.3.4"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("uri", "https://example.com/a", "example"),
            ("byte", "aGk=", "*"),
            ("hostname", "a.example.com", "-a"),
            ("email", "a@example.com", "a"),
            ("uuid", "9e8fae1c-9b5a-4e2f-8f4e-0c2c1b0f2a3d", "x"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("hexcolor", "#fff", "#ffff"),
        ] {
            assert!(fits(format, good), "{format}: {good}");
            assert!(!fits(format, bad), "{format}: {bad}");
        }
        assert!(fits("nobody-knows", "x"));
    }
}

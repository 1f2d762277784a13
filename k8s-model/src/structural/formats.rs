//! The formats of texts that are checked: upstream's list (`apiextensions-apiserver/pkg/apiserver/
//! validation/formats.go`). Others are taken as they are.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

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
        "datetime" => is_date_time(text),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => crate::kinds::checks::is_cidr(text),
        "uri" => is_uri(text),
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

/// Whether values of a type are held to a format. A type that is not said is empty.
pub(crate) fn is_known(of: &str, format: &str) -> bool {
    match of {
        "" | "string" => is_of_text(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn is_of_text(format: &str) -> bool {
    let name = format.replace('-', "");
    OTHERS.contains(&name.as_str()) || PATTERNS.iter().any(|(known, _)| *known == name)
}

/// The formats that are not read by a pattern.
const OTHERS: [&str; 12] = [
    "datetime",
    "date",
    "duration",
    "ipv4",
    "ipv6",
    "cidr",
    "uri",
    "hostname",
    "email",
    "k8sshortname",
    "k8slongname",
    "password",
];

const PATTERNS: [(&str, &str); 14] = [
    (
        "byte",
        "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
    ),
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

/// As RFC 3339 has it, with what upstream is lenient in: nobody looks at what stands behind another `t`, nor whether an
/// offset is one.
fn is_date_time(text: &str) -> bool {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new("^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?([zZ]|[+-][0-9]{2}:[0-9]{2})$").ok()
    });
    let mut parts = text.split(['t', 'T']);
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    let parts = TIME.as_ref().and_then(|pattern| pattern.captures(time));
    is_date(date)
        && parts.is_some_and(|parts| &parts[1] <= "23" && &parts[2] <= "59" && &parts[3] <= "59")
}

fn is_date(text: &str) -> bool {
    let has_form = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    has_form && text.parse::<jiff::civil::Date>().is_ok()
}

/// A duration of Go's (`1h30m`), or numbers with the names of units (`2 days 3 hours`). It is enough that one of the names
/// is one.
fn is_duration(text: &str) -> bool {
    type Patterns = (Option<Regex>, Option<Regex>);
    static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
        let pattern = |pattern| Regex::new(pattern).ok();
        (
            pattern(r"^[\t\n\f\r ]*(?:[0-9]+[\t\n\f\r ]*[A-Za-zµ]+[\t\n\f\r ]*)+$"),
            pattern(r"([0-9]+)[\t\n\f\r ]*([A-Za-zµ]+)"),
        )
    });
    if crate::duration::parse(text).is_some() {
        return true;
    }
    let (Some(whole), Some(part)) = &*PATTERNS else {
        return false;
    };
    if !whole.is_match(text) {
        return false;
    }
    let mut names_unit = false;
    for part in part.captures_iter(text) {
        if part[1].parse::<i64>().is_err() {
            return false;
        }
        names_unit |= is_unit(&part[2].to_lowercase());
    }
    names_unit
}

fn is_unit(name: &str) -> bool {
    const SHORT: [&str; 11] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
    const LONG: [&str; 8] = [
        "nano", "micro", "milli", "sec", "min", "hour", "day", "week",
    ];
    SHORT.contains(&name) || LONG.iter().any(|unit| name.starts_with(unit))
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

/// Upstream's pattern (`strfmt.HostnamePattern`). No address matches it, and of a single label only the second character may
/// be a hyphen. The lengths that it counts are those of labels.
fn is_host_name(text: &str) -> bool {
    static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        const ONE: &str = r"[a-zA-Z0-9\p{S}\p{L}]";
        const INNER: &str = r"[a-zA-Z0-9\-\p{S}\p{L}]";
        Regex::new(&format!(
            r"^(?:{ONE}-?{ONE}*|(?:{ONE}(?:{INNER}*{ONE})?\.)+[a-zA-Z\p{{L}}]{{2,}})$"
        ))
        .ok()
    });
    text.len() <= 255
        && text.split('.').all(|label| label.len() <= 63)
        && (PATTERN.as_ref()).is_some_and(|pattern| pattern.is_match(text))
}

/// Whether a text is a mail address.
fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !local.contains([' ', '<', '>', ',']) && is_mail_domain(domain)
    })
}

fn is_mail_domain(text: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_good_from_bad() {
        let table: [(&str, &[&str], &[&str]); 14] = [
            (
                "date-time",
                &[
                    "2024-01-02T03:04:05Z",
                    "2024-01-02t03:04:05z",
                    "2024-01-02T23:59:59.123456789Z",
                    "2024-01-02T03:04:05+02:00",
                    "2024-01-02T03:04:05-99:99",
                    "2024-01-02T03:04:05Zt",
                    "0000-02-29T00:00:00Z",
                ],
                &[
                    "2024-01-02",
                    "2024-01-02T03:04Z",
                    "20240102T030405Z",
                    "2024-01-02 03:04:05Z",
                    "2024-01-02T03:04:05",
                    "2024-01-02T03:04:05+02",
                    "2024-01-02T03:04:60Z",
                    "2024-01-02T03:60:05Z",
                    "2024-01-02T24:00:00Z",
                    "2024-01-02T03:04:05Z[UTC]",
                    "2023-02-29T03:04:05Z",
                    "+002024-01-02T03:04:05Z",
                ],
            ),
            (
                "date",
                &["2024-02-29"],
                &["2023-02-29", "20240229", "2024-2-9", ""],
            ),
            (
                "duration",
                &[
                    "1h30m",
                    "-1.5h",
                    "2 days",
                    "1d12h",
                    "1h 30m",
                    " 3 Weeks ",
                    "5 nanoseconds",
                    "1d 2moons",
                ],
                &[
                    "soon",
                    "",
                    "1.5 days",
                    "5",
                    "2 moons",
                    "99999999999999999999 s",
                    "in 5 days",
                ],
            ),
            ("ipv6", &["::1"], &["1.2.3.4"]),
            ("cidr", &["10.0.0.0/8"], &["10.0.0.0"]),
            ("uri", &["https://example.com/a"], &["example"]),
            ("byte", &["aGk=", "YR==", "YWJj"], &["*", "", "aGk", "a-_="]),
            (
                "hostname",
                &[
                    "a.example.com",
                    "a",
                    "localhost",
                    "a-host",
                    "a-b-c.example.com",
                    "bücher.example",
                ],
                &[
                    "-a",
                    "a_b.com",
                    "example.com.",
                    "my-host",
                    "my-nice-host",
                    "1.2.3.4",
                    "",
                    "a..b",
                    "a.b",
                ],
            ),
            ("email", &["a@example.com"], &["a"]),
            ("uuid", &["9e8fae1c-9b5a-4e2f-8f4e-0c2c1b0f2a3d"], &["x"]),
            ("mac", &["01:23:45:67:89:ab"], &["01:23"]),
            ("hexcolor", &["#fff"], &["#ffff"]),
            ("password", &["", "x"], &[]),
            ("nobody-knows", &["x"], &[]),
        ];
        for (format, good, bad) in table {
            for text in good {
                assert!(fits(format, text), "{format}: {text}");
            }
            for text in bad {
                assert!(!fits(format, text), "{format}: {text}");
            }
        }
    }

    #[test]
    fn each_type_has_formats_of_its_own() {
        for (of, known, unknown) in [
            ("string", "date-time", "int32"),
            ("", "k8s-short-name", "int32"),
            ("integer", "int64", "uint32"),
            ("number", "double", "int64"),
            ("boolean", "", "byte"),
        ] {
            assert!(known.is_empty() || is_known(of, known), "{of} {known}");
            assert!(!is_known(of, unknown), "{of} {unknown}");
        }
    }
}

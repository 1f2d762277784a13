//! Names: what may be called what, with upstream's texts.
//!
//! Each function gives the complaints about a value, in upstream's order; none means valid. Those
//! with a `prefix` argument check the beginning of a generated name when it is `true`: a dash at
//! the end is then allowed. The rules are those of
//! [Object Names and IDs](https://kubernetes.io/docs/concepts/overview/working-with-objects/names/)
//! and [Labels and Selectors](https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).

use std::{borrow::Cow, net::IpAddr};

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_NAME_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A DNS subdomain (RFC 1123): the rule for most names.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut out = Vec::new();
    if name.len() > 253 {
        out.push(max_length(253));
    }
    out.extend(dns_subdomain_shape(&name));
    out
}

/// What is wrong with a DNS subdomain but its length.
fn dns_subdomain_shape(name: &str) -> Option<String> {
    (!is_dns_subdomain(name)).then(|| regex_text(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        DNS_SUBDOMAIN,
        &["example.com"],
    ))
}

/// A DNS subdomain (RFC 1123) in upper or lower case.
pub fn dns_subdomain_of_any_case(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.len() > 253 {
        out.push(max_length(253));
    }
    if !is_dns_subdomain(&name.to_ascii_lowercase()) {
        out.push(regex_text(
            "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            DNS_SUBDOMAIN,
            &["Example.com"],
        ));
    }
    out
}

/// A DNS subdomain whose labels may have underscores inside, and one at the beginning: where names of services are searched
/// (RFC 2782).
pub fn dns_subdomain_with_underscores(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.len() > 253 {
        out.push(max_length(253));
    }
    let is_label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        label.starts_with(is_edge)
            && label.ends_with(is_edge)
            && label.bytes().all(|b| is_label_byte(b) || b == b'_')
    };
    if !name.split('.').all(is_label) {
        out.push(regex_text(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    out
}

/// A DNS label (RFC 1123): the rule for namespaces.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut out = Vec::new();
    if name.len() > 63 {
        out.push(max_length(63));
    }
    // What is a subdomain and no label has dots.
    if !is_dns_label(&name) && is_dns_subdomain(&name) {
        out.push("must not contain dots".to_owned());
    } else if !is_dns_label(&name) {
        out.push(regex_text(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            DNS_LABEL,
            &["my-name", "123-abc"],
        ));
    }
    out
}

/// A DNS label that starts with a letter (RFC 1035): the rule for Services.
pub fn dns1035(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut out = Vec::new();
    if name.len() > 63 {
        out.push(max_length(63));
    }
    if !(is_dns_label(&name) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        out.push(regex_text(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// A DNS subdomain below `*.`: the rule for wildcard hosts of an Ingress.
pub fn wildcard_dns_subdomain(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_length(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_dns_subdomain) {
        out.push(regex_text(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{DNS_SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    out
}

/// Anything that can stand in a URL path: the rule for RBAC names.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|part| name.contains(**part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// A name with an optional DNS prefix, as in `example.com/role`: the rule for label keys.
pub fn qualified_name(value: &str) -> Vec<String> {
    let name_text = |what: &str| {
        what.to_owned()
            + &regex_text(
                QUALIFIED_NAME_TEXT,
                QUALIFIED_NAME,
                &["MyName", "my.name", "123-abc"],
            )
    };
    let mut out = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > 253 {
                    out.push(format!("prefix part {}", max_bytes(253)));
                }
                out.extend(dns_subdomain_shape(prefix).map(|text| format!("prefix part {text}")));
            }
            name
        }
        _ => {
            out.push(
                name_text("a valid label key ")
                    + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            );
            return out;
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !is_qualified(name) {
        out.push(name_text("name part "));
    }
    out
}

/// A label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_bytes(63));
    }
    if !value.is_empty() && !is_qualified(value) {
        out.push(regex_text(
            &format!(
                "a valid label must be an empty string or {}",
                QUALIFIED_NAME_TEXT.replacen("must consist", "consist", 1)
            ),
            &format!("({QUALIFIED_NAME})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// A key in a ConfigMap's or a Secret's data.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_length(253));
    }
    if value.is_empty() || !value.bytes().all(is_word_or_dot_or_dash) {
        out.push(regex_text(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    out.extend(parent_directory(value));
    out
}

/// An environment variable's name, by the strict rule (of `envFrom` before 1.34).
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    let starts_well = value.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !(starts_well && value.bytes().all(is_word_or_dot_or_dash)) {
        out.push(regex_text(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    out.extend(parent_directory(value));
    out
}

/// An environment variable's name, by the rule of KEP-4369: printable ASCII without `=`.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// Why a condition is as it is.
pub fn condition_reason(value: &str) -> Vec<String> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"_,:".contains(&b);
    let bytes = value.as_bytes();
    let begins = bytes.first().is_some_and(u8::is_ascii_alphabetic);
    let ends = !value.ends_with([',', ':']);
    if begins && ends && bytes.iter().all(|b| inside(*b)) {
        return Vec::new();
    }
    vec![regex_text(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &[
            "my_name",
            "MY_NAME",
            "MyName",
            "ReasonA,ReasonB",
            "ReasonA:ReasonB",
        ],
    )]
}

/// An identifier of the C language.
pub fn c_identifier(value: &str) -> Vec<String> {
    let starts_well = value
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts_well
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
    {
        return Vec::new();
    }
    vec![regex_text(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of a container's or a Service's port (RFC 6335, lower case only).
pub fn port_name(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 15 {
        out.push(max_length(15));
    }
    if value.is_empty() || !value.bytes().all(is_label_byte) {
        out.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// A port's number.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A number between two others, both included.
pub fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {min} and {max}, inclusive")]
}

/// A percentage, as in `25%`.
pub fn percent(value: &str) -> Vec<String> {
    if value
        .strip_suffix('%')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    {
        return Vec::new();
    }
    vec![regex_text(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Vec::new();
    }
    vec![regex_text(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// An IP address of either family.
pub fn ip_address(value: &str) -> Vec<String> {
    if value.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// The text for a name that is longer than `max` bytes. Upstream says characters.
pub fn max_length(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// The same of what is in labels, where upstream says what it counts.
fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn parent_directory(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

fn mask_trailing_dash(name: &str, prefix: bool) -> Cow<'_, str> {
    match name.strip_suffix('-') {
        // The dash and the character before it become one that is allowed at the end.
        Some(rest) if prefix && !rest.is_empty() => {
            let mut kept = rest.to_owned();
            kept.pop();
            kept.push('a');
            Cow::Owned(kept)
        }
        _ => Cow::Borrowed(name),
    }
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
}

fn is_word_or_dot_or_dash(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

fn is_dns_label(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(is_label_byte)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_qualified(value: &str) -> bool {
    let bytes = value.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric())
        && bytes.iter().copied().all(is_word_or_dot_or_dash)
}

fn regex_text(text: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{text} (e.g. {}regex used for validation is '{regex}')",
        examples.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subdomain_may_have_dots_and_dashes_inside_only() {
        for name in ["a", "a.b", "1-2", "my-svc.example.com"] {
            assert!(dns_subdomain(name, false).is_empty(), "{name}");
        }
        for name in ["", "-a", "a-", "a..b", ".a", "A", "a_b", "ä", "a.-b"] {
            assert_eq!(dns_subdomain(name, false).len(), 1, "{name}");
        }
        assert!(dns_subdomain("web-", true).is_empty());
        assert_eq!(
            dns_subdomain("Web", false),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
    }

    #[test]
    fn a_label_has_no_dots() {
        assert!(dns_label("a-b", false).is_empty());
        assert_eq!(dns_label("a.b", false), ["must not contain dots"]);
        assert!(dns_label("a..b", false)[0].starts_with("a lowercase RFC 1123 label must"));
    }

    #[test]
    fn over_long_names_say_the_limit() {
        assert_eq!(
            dns_subdomain(&"a".repeat(254), false),
            ["must be no more than 253 characters"]
        );
        assert_eq!(
            dns_label(&"a".repeat(64), false),
            ["must be no more than 63 characters"]
        );
        assert_eq!(
            label_value(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
    }

    #[test]
    fn several_examples_are_joined_as_upstream_does() {
        assert_eq!(
            dns1035("1a", false),
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }

    #[test]
    fn qualified_names_take_one_prefix() {
        assert!(qualified_name("app").is_empty());
        assert!(qualified_name("example.com/App_1").is_empty());
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/b/c").len(), 1);
        assert_eq!(qualified_name("").len(), 2);
        assert!(label_value("").is_empty());
        assert_eq!(
            label_value("a b"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
    }

    #[test]
    fn variables_have_names_of_printable_characters() {
        assert!(relaxed_env_var_name(" a-1~").is_empty());
        assert_eq!(relaxed_env_var_name("").len(), 1);
        for name in ["a=", "é", "a\t"] {
            assert_eq!(
                relaxed_env_var_name(name),
                [
                    "a valid environment variable name must consist only of printable ASCII characters other than '='"
                ]
            );
        }
    }

    #[test]
    fn path_segments_keep_urls_whole() {
        assert!(path_segment("system:node", false).is_empty());
        assert_eq!(path_segment("..", false), ["may not be '..'"]);
        assert_eq!(
            path_segment("a/b%", false),
            ["may not contain '/'", "may not contain '%'"]
        );
        assert!(path_segment(".", true).is_empty());
    }
}

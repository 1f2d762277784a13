//! IP addresses and ranges of them (CIDRs) in fields (KEP-4858).
//!
//! The older fields are read as Go once read addresses: zeros before a number are skipped, an IPv4 address may be written
//! as an IPv6 one, and a range may name an address in its middle. Other programs may take such a text for something else,
//! so that new values may not be like that; those that were there before stay good. The newer fields want the one form that
//! RFC 5952 gives an address.

use std::net::IpAddr;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::dns_subdomain,
    schema::MINOR,
};

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Whether more than zeros before a number is refused in older fields (`StrictIPCIDRValidation`, on since 1.36).
const STRICT: bool = MINOR >= 36;

/// No values that were there before.
pub(crate) const NONE: &[&str] = &[];

/// A range: an address in it, and how many of its bits all others share.
pub(crate) type Range = (IpAddr, u8);

/// An address as older fields may have it.
pub(crate) fn parse(value: &str) -> Option<IpAddr> {
    value.parse().or_else(|_| without_zeros(value).parse()).ok()
}

/// A range as older fields may have it.
pub(crate) fn parse_range(value: &str) -> Option<Range> {
    let (address, length) = value.split_once('/')?;
    let address = parse(address)?;
    if length.is_empty() || !length.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let significant = length.trim_start_matches('0');
    let length = match significant {
        "" => 0,
        _ => significant.parse().ok()?,
    };
    (length <= bits(address)).then_some((address, length))
}

/// Whether an address is of IPv4, however it is written.
pub(crate) fn is_four(address: IpAddr) -> bool {
    address.to_canonical().is_ipv4()
}

/// The text with no zeros before its numbers, be they decimal or hexadecimal.
fn without_zeros(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while !rest.is_empty() {
        let end = rest.find(['.', ':']).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let significant = number.trim_start_matches('0');
        out.push_str(if significant.is_empty() && !number.is_empty() {
            "0"
        } else {
            significant
        });
        let mark = after.len().min(1);
        out.push_str(&after[..mark]);
        rest = &after[mark..];
    }
    out
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_mapped(address: IpAddr) -> bool {
    address != address.to_canonical()
}

/// The first address of a range.
fn first((address, length): Range) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((four.to_bits() & mask).into())
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((six.to_bits() & mask).into())
        }
    }
}

/// Whether a range has all addresses of another, and more.
pub(crate) fn strictly_contains(outer: Range, inner: Range) -> bool {
    outer.0.is_ipv4() == inner.0.is_ipv4()
        && outer.1 < inner.1
        && first(outer) == first((inner.0, outer.1))
}

/// What is wrong with an address that is new.
fn address_fault(value: &str, strict: bool) -> Option<&'static str> {
    let Some(address) = parse(value) else {
        return Some(NO_ADDRESS);
    };
    if value.parse::<IpAddr>().is_err() {
        return Some("must not have leading 0s");
    }
    (strict && is_mapped(address)).then_some("must not be an IPv4-mapped IPv6 address")
}

/// What is wrong with a range that is new.
fn range_fault(value: &str, strict: bool) -> Option<&'static str> {
    let Some(range) = parse_range(value) else {
        return Some(NO_RANGE);
    };
    if !is_plain(value) {
        Some("must not have leading 0s in IP or prefix length")
    } else if strict && is_mapped(range.0) {
        Some("must not have an IPv4-mapped IPv6 address")
    } else if strict && first(range) != range.0 {
        Some("must not have bits set beyond the prefix length")
    } else {
        None
    }
}

/// Whether a range has no zeros before its numbers.
fn is_plain(value: &str) -> bool {
    value.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && (length == "0" || !length.starts_with('0'))
    })
}

fn is_among<T: AsRef<str>>(before: &[T], value: &str) -> bool {
    before.iter().any(|old| old.as_ref() == value)
}

/// An address in an older field, which had those `before`.
pub(crate) fn legacy_ip<T: AsRef<str>>(value: &str, before: &[T], path: Path) -> ErrorList {
    match address_fault(value, STRICT) {
        Some(fault) if !is_among(before, value) => vec![field::invalid(path, value, fault)],
        _ => ErrorList::new(),
    }
}

/// A range in an older field, which had those `before`.
pub(crate) fn legacy_range<T: AsRef<str>>(value: &str, before: &[T], path: Path) -> ErrorList {
    match range_fault(value, STRICT) {
        Some(fault) if !is_among(before, value) => vec![field::invalid(path, value, fault)],
        _ => ErrorList::new(),
    }
}

/// A DNS name, if it is anything, and no address.
pub(crate) fn no_ip(host: &str, path: &Path) -> ErrorList {
    if host.is_empty() {
        return ErrorList::new();
    }
    let mut errors = dns_subdomain(host, path.clone());
    if parse(host).is_some() {
        let text = "must be a DNS name, not an IP address";
        errors.push(field::invalid(path.clone(), host, text));
    }
    errors
}

/// What is wrong with an address in a newer field.
pub(crate) fn canonical_ip(value: &str) -> Option<String> {
    if let Some(fault) = address_fault(value, true) {
        return Some(fault.to_owned());
    }
    let canonical = parse(value)?.to_string();
    (canonical != value).then(|| format!("must be in canonical form ({canonical:?})"))
}

/// A range in a newer field.
pub(crate) fn canonical_range(value: &str, path: Path) -> ErrorList {
    if let Some(fault) = range_fault(value, true) {
        return vec![field::invalid(path, value, fault)];
    }
    match parse_range(value).map(written) {
        Some(canonical) if canonical != value => {
            let text = format!("must be in canonical form ({canonical:?})");
            vec![field::invalid(path, value, text)]
        }
        _ => ErrorList::new(),
    }
}

fn written((address, length): Range) -> String {
    format!("{address}/{length}")
}

/// A range as Go writes it: by its first address, and with an IPv4 one for what.
fn range_in_go(range: Range) -> String {
    let start = first(range).to_canonical();
    let surplus = bits(range.0) - bits(start);
    written((start, range.1.saturating_sub(surplus)))
}

/// Advice on an address in an older field.
pub(crate) fn ip_advice(value: &str, path: &Path) -> Option<String> {
    let address = parse(value)?;
    if value.parse::<IpAddr>().is_err() || is_mapped(address) {
        let better = address.to_canonical();
        return Some(format!(
            "{path}: non-standard IP address {value:?} will be considered invalid in a future Kubernetes release: use \"{better}\""
        ));
    }
    (address.is_ipv6() && address.to_string() != value).then(|| {
        format!(
            "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format (\"{address}\")"
        )
    })
}

/// Advice on a range in an older field.
pub(crate) fn range_advice(value: &str, path: &Path) -> Vec<String> {
    let Some(range) = parse_range(value) else {
        return Vec::new();
    };
    let (address, better) = (range.0, range_in_go(range));
    let mut out = Vec::new();
    if first(range) != address {
        let alone = address.to_canonical();
        out.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {better:?} or \"{alone}/{}\"?)",
            bits(address)
        ));
    }
    if !is_plain(value) || is_mapped(address) {
        out.push(format!(
            "{path}: non-standard CIDR value {value:?} will be considered invalid in a future Kubernetes release: use {better:?}"
        ));
    }
    if out.is_empty() && address.is_ipv6() && written(range) != value {
        out.push(format!(
            "{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({:?})",
            written(range)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(|error| error.detail.clone()).collect()
    }

    #[test]
    fn new_addresses_in_older_fields_are_read_by_all_alike() {
        let path = Path::new("a");
        for good in ["10.1.2.3", "::", "2001:DB8:0::1", "fe80:0:0:0:0:0:0:0abc"] {
            assert_eq!(legacy_ip(good, NONE, path.clone()), [], "{good}");
        }
        for (bad, text) in [
            ("", NO_ADDRESS),
            ("300.1.2.3", NO_ADDRESS),
            ("1.2.3", NO_ADDRESS),
            ("1.2.3.4.5", NO_ADDRESS),
            ("fe80::1%eth0", NO_ADDRESS),
            ("1.2.3.4/32", NO_ADDRESS),
            ("a.b.c.d", NO_ADDRESS),
            ("010.1.2.3", "must not have leading 0s"),
            ("10.1.2.000", "must not have leading 0s"),
            ("00001::", "must not have leading 0s"),
            ("::ffff:01.2.3.4", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
        ] {
            assert_eq!(texts(legacy_ip(bad, NONE, path.clone())), [text], "{bad}");
            assert_eq!(legacy_ip(bad, &[bad], path.clone()), [], "{bad}");
        }
    }

    #[test]
    fn new_ranges_in_older_fields_are_read_by_all_alike() {
        let path = Path::new("a");
        for good in ["10.0.0.0/8", "0.0.0.0/0", "1.2.3.4/32", "2001:DB8::/64"] {
            assert_eq!(legacy_range(good, NONE, path.clone()), [], "{good}");
        }
        const ZEROS: &str = "must not have leading 0s in IP or prefix length";
        for (bad, text) in [
            ("", NO_RANGE),
            ("10.0.0.0", NO_RANGE),
            ("10.0.0.0/33", NO_RANGE),
            ("::/129", NO_RANGE),
            ("10.0.0.0/+8", NO_RANGE),
            ("10.0.0.0/8/8", NO_RANGE),
            ("010.0.0.0/8", ZEROS),
            ("10.0.0.0/08", ZEROS),
            ("10.0.0.0/00", ZEROS),
            (
                "::ffff:10.0.0.0/104",
                "must not have an IPv4-mapped IPv6 address",
            ),
            (
                "10.0.0.5/8",
                "must not have bits set beyond the prefix length",
            ),
            ("::1/0", "must not have bits set beyond the prefix length"),
        ] {
            let found = legacy_range(bad, NONE, path.clone());
            assert_eq!(texts(found), [text], "{bad}");
            assert_eq!(legacy_range(bad, &[bad], path.clone()), [], "{bad}");
        }
    }

    #[test]
    fn newer_fields_want_one_form() {
        for good in ["10.0.0.1", "2001:db8::1", "::", "::102:304"] {
            assert_eq!(canonical_ip(good), None, "{good}");
        }
        for (bad, text) in [
            ("x", NO_ADDRESS),
            (
                "2001:DB8::1",
                r#"must be in canonical form ("2001:db8::1")"#,
            ),
            ("0:0::", r#"must be in canonical form ("::")"#),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
            ("10.0.0.01", "must not have leading 0s"),
        ] {
            assert_eq!(canonical_ip(bad).as_deref(), Some(text), "{bad}");
        }
        let range = |value| texts(canonical_range(value, Path::new("a")));
        for good in ["10.0.0.0/16", "2001:db8::/64"] {
            assert_eq!(range(good), [""; 0], "{good}");
        }
        for (bad, text) in [
            ("x", NO_RANGE),
            (
                "10.0.0.5/16",
                "must not have bits set beyond the prefix length",
            ),
            (
                "2001:DB8::/64",
                r#"must be in canonical form ("2001:db8::/64")"#,
            ),
            (
                "::ffff:1.2.3.4/128",
                "must not have an IPv4-mapped IPv6 address",
            ),
        ] {
            assert_eq!(range(bad), [text], "{bad}");
        }
    }

    #[test]
    fn a_range_in_another_is_smaller() {
        let range = |text| parse_range(text).unwrap();
        for (outer, inner, contains) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.3.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "128.0.0.0/1", true),
            ("0.0.0.0/0", "::/1", false),
            ("::/0", "ffff::/16", true),
        ] {
            let found = strictly_contains(range(outer), range(inner));
            assert_eq!(found, contains, "{outer} {inner}");
        }
    }

    #[test]
    fn advice_says_what_to_write() {
        let path = Path::new("a");
        for (value, text) in [
            ("10.0.0.1", None),
            ("x", None),
            (
                "010.0.0.1",
                Some(
                    r#"a: non-standard IP address "010.0.0.1" will be considered invalid in a future Kubernetes release: use "10.0.0.1""#,
                ),
            ),
            (
                "::ffff:1.2.3.4",
                Some(
                    r#"a: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes release: use "1.2.3.4""#,
                ),
            ),
            (
                "FE80::1",
                Some(
                    r#"a: IPv6 address "FE80::1" should be in RFC 5952 canonical format ("fe80::1")"#,
                ),
            ),
        ] {
            assert_eq!(ip_advice(value, &path).as_deref(), text, "{value}");
        }
        for (value, texts) in [
            ("10.0.0.0/8", vec![]),
            ("x", vec![]),
            (
                "10.0.0.5/8",
                vec![
                    r#"a: CIDR value "10.0.0.5/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.5/32"?)"#,
                ],
            ),
            (
                "::ffff:1.2.3.0/120",
                vec![
                    r#"a: non-standard CIDR value "::ffff:1.2.3.0/120" will be considered invalid in a future Kubernetes release: use "1.2.3.0/24""#,
                ],
            ),
            (
                "2001:db8:0::/64",
                vec![
                    r#"a: IPv6 CIDR value "2001:db8:0::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#,
                ],
            ),
        ] {
            assert_eq!(range_advice(value, &path), texts, "{value}");
        }
    }
}

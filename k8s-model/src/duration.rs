//! Durations as Go writes them, and so Kubernetes in manifests, configuration files and events:
//! `300ms`, `1h0m1.5s`. See Go's [`time.ParseDuration`](https://pkg.go.dev/time#ParseDuration).
//!
//! A duration is a signed number of nanoseconds, some 292 years at most.
//!
//! ```
//! use k8s_model::duration;
//!
//! assert_eq!(duration::parse("1h30m"), Some(5_400_000_000_000));
//! assert_eq!(duration::print(5_400_000_000_000), "1h30m0s");
//! assert_eq!(duration::parse("1 hour"), None);
//! ```

/// The nanoseconds of a duration: a sign, then decimal numbers, each with a unit (`ns`, `us` or `µs`,
/// `ms`, `s`, `m`, `h`), or `0`.
///
/// `None` for what is none or too long.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, tail) = rest.split_at(number);
        let unit = tail
            .bytes()
            .take_while(|b| !b.is_ascii_digit() && *b != b'.')
            .count();
        let (unit, tail) = tail.split_at(unit);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let digits = |text: &str| match text {
            "" => Some(0),
            text => text.parse::<i128>().ok(),
        };
        total = total.checked_add(digits(whole)?.checked_mul(scale)?)?;
        let fraction = &fraction[..fraction.len().min(18)];
        let parts = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        total = total.checked_add(digits(fraction)?.checked_mul(scale)? / parts)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// How Go prints so many nanoseconds: hours, minutes and seconds from the largest that is not zero
/// down, or one decimal number of the largest unit for less than a second.
#[must_use]
pub fn print(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let (unit, scale) = match total {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
    let rest = decimal(rest, scale);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{rest}{unit}"),
        (0, minutes) => format!("{sign}{minutes}m{rest}{unit}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{rest}{unit}"),
    }
}

/// The same of a span of the standard library, those beyond 292 years cut off there.
#[must_use]
pub fn print_std(span: std::time::Duration) -> String {
    print(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

fn decimal(value: u64, scale: u64) -> String {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    let text = format!("{whole}.{rest:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        for (text, nanos) in [
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("5m0s", 300_000_000_000),
            ("1h0m1.5s", 3_601_500_000_000),
            ("-2m0s", -120_000_000_000),
            ("1.5ms", 1_500_000),
            ("1.5µs", 1_500),
            ("42ns", 42),
            ("2562047h47m16.854775807s", i64::MAX),
            ("-2562047h47m16.854775808s", i64::MIN),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
            assert_eq!(print(nanos), text);
        }
    }

    #[test]
    fn other_spellings_are_read_and_what_is_no_duration_is_not() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("+1us", Some(1_000)),
            ("1h30m", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("0.1234567890123456789999s", Some(123_456_789)),
            ("", None),
            ("-", None),
            ("1", None),
            ("s", None),
            (".s", None),
            ("1x", None),
            ("é", None),
            ("1 s", None),
            ("1.2.3s", None),
            ("9999999999999h", None),
            ("99999999999999999999999999999999999999999999h", None),
        ] {
            assert_eq!(parse(text), nanos, "{text}");
        }
    }
}

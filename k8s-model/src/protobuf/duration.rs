//! Durations as Go writes them, `1h0m1.5s`, and as they are encoded: nanoseconds.

/// How Go prints so many nanoseconds, for what is not less than a second. Shorter ones are printed as
/// fractions of a second, which Go reads too.
pub(super) fn print(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    if (1..1_000_000_000).contains(&total) {
        let (unit, scale) = match total {
            1_000_000.. => ("ms", 1_000_000),
            1_000.. => ("µs", 1_000),
            _ => ("ns", 1),
        };
        return format!("{sign}{}{unit}", decimal(total, scale));
    }
    let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
    let seconds = decimal(rest, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
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

/// The nanoseconds of what Go would print, or read.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
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
        if whole.is_empty() && fraction.is_empty() || whole.len() > 19 {
            return None;
        }
        let parse = |digits: &str| match digits {
            "" => Some(0),
            digits => digits.parse::<i128>().ok(),
        };
        nanos += parse(whole)? * scale;
        let fraction = fraction.get(..18).unwrap_or(fraction);
        nanos += parse(fraction)? * scale / 10i128.pow(u32::try_from(fraction.len()).ok()?);
        rest = after;
    }
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, nanos) in [
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("1h0m1.5s", 3_601_500_000_000),
            ("-2m0s", -120_000_000_000),
            ("1.5ms", 1_500_000),
            ("42ns", 42),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
            assert_eq!(print(nanos), text);
        }
        assert_eq!(parse("1h30m"), Some(5_400_000_000_000));
        for bad in ["", "1", "s", "1x", ".s", "99999999999h", "é", "1.2.3s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

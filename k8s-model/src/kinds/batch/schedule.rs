//! The syntax of a CronJob's schedule.

use std::num::{IntErrorKind, ParseIntError};

use super::time_zone;
use crate::duration;

/// A field of a schedule: its bounds and the names of its values.
struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds {
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        min: 0,
        max: 23,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 31,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Bounds {
        min: 0,
        max: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Checks a schedule's syntax; the texts are those of the parser that upstream uses.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let mut prefixes = ["TZ=", "CRON_TZ="].into_iter();
    let zoned = prefixes.find_map(|prefix| schedule.strip_prefix(prefix));
    let rest = match zoned.map(|rest| rest.split_once(' ')) {
        // The parser breaks down over it, of which upstream makes this.
        Some(None) => {
            let text = "invalid schedule format: runtime error: slice bounds out of range [:-1]";
            return Err(text.to_owned());
        }
        Some(Some((zone, rest))) => {
            let loaded = time_zone::load(zone);
            loaded.map_err(|why| format!("provided bad location {zone}: {why}"))?;
            rest.trim()
        }
        None => schedule,
    };
    if rest.starts_with('@') {
        return check_descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, bounds) in fields.iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            check_range(range, bounds)?;
        }
    }
    Ok(())
}

fn check_descriptor(text: &str) -> Result<(), String> {
    if let Some(every) = text.strip_prefix("@every ") {
        return match duration::parse(every) {
            Some(_) => Ok(()),
            None => Err(format!(
                "failed to parse duration {text}: time: {}",
                no_duration(every)
            )),
        };
    }
    match text {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => {
            Ok(())
        }
        _ => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// What Go says of a text that is no duration: of the first number without a unit, or with one that there is not.
fn no_duration(text: &str) -> String {
    let shown = quote(text);
    let invalid = format!("invalid duration {shown}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let (whole, tail) = rest.split_at(digits(rest));
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => tail.split_at(digits(tail)),
            None => ("", tail),
        };
        let is_long = !whole.is_empty() && whole.parse::<i64>().is_err();
        if is_long || whole.len() + fraction.len() == 0 {
            return invalid;
        }
        let is_of_numbers = |c: char| c == '.' || c.is_ascii_digit();
        let (unit, tail) = tail.split_at(tail.find(is_of_numbers).unwrap_or(tail.len()));
        match unit {
            "" => return format!("missing unit in duration {shown}"),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => {}
            _ => return format!("unknown unit {} in duration {shown}", quote(unit)),
        }
        rest = tail;
    }
    invalid
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Quotes as Go's package of times does: by bytes what is not printable ASCII.
fn quote(text: &str) -> String {
    let shown = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=0x7f => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    format!("\"{}\"", shown.collect::<String>())
}

/// Checks a range and its step: first that they are numbers, then that those are within bounds.
fn check_range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let mut parts = text.split('/');
    let mut ends = parts.next().unwrap_or_default().split('-');
    let (low, high) = (ends.next().unwrap_or_default(), ends.next());
    let is_any = matches!(low, "*" | "?");
    // What comes after an asterisk is not looked at.
    let (start, mut end) = match (is_any, high, ends.next()) {
        (true, ..) => (bounds.min, bounds.max),
        (false, None, _) => {
            let value = number(low, bounds)?;
            (value, value)
        }
        (false, Some(high), more) => {
            let start = number(low, bounds)?;
            if more.is_some() {
                return Err(format!("too many hyphens: {text}"));
            }
            (start, number(high, bounds)?)
        }
    };
    let step = match (parts.next(), parts.next()) {
        (None, _) => 1,
        (Some(step), None) => {
            let step = integer(step)?;
            if high.is_none() {
                end = bounds.max;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let beginning = format!("beginning of range ({start})");
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return Err(format!("{beginning} below minimum ({min}): {text}"));
    }
    if end > max {
        return Err(format!(
            "end of range ({end}) above maximum ({max}): {text}"
        ));
    }
    if start > end {
        return Err(format!("{beginning} beyond end of range ({end}): {text}"));
    }
    match step {
        0 => Err(format!("step of range should be a positive number: {text}")),
        _ => Ok(()),
    }
}

fn number(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let lower = text.to_lowercase();
    let index = bounds.names.iter().position(|name| *name == lower);
    match index.and_then(|index| u64::try_from(index).ok()) {
        Some(index) => Ok(bounds.min + index),
        None => integer(text),
    }
}

fn integer(text: &str) -> Result<u64, String> {
    let number: i64 = text.parse().map_err(|error: ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    })?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_schedules_pass() {
        for schedule in [
            "* * * * *",
            "*/5 0-4,6 1 JAN mon-fri",
            "@hourly",
            "TZ=UTC 0 0 * * *",
            "TZ= 0 0 * * *",
            "CRON_TZ=Europe/Vienna @every 1h30m",
            "*-5 *-x ?-1-2/3 * *",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn bad_schedules_say_what_is_wrong() {
        for (schedule, text) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("@never", "unrecognized descriptor: @never"),
            (
                "TZ=UTC",
                "invalid schedule format: runtime error: slice bounds out of range [:-1]",
            ),
            (
                "CRON_TZ=UTC\t0",
                "invalid schedule format: runtime error: slice bounds out of range [:-1]",
            ),
            (
                "TZ=../Vienna * * * * *",
                "provided bad location ../Vienna: time: invalid location name",
            ),
            (
                "5000000000 * * * *",
                "end of range (5000000000) above maximum (59): 5000000000",
            ),
            (
                "1-9223372036854775808 * * * *",
                r#"failed to parse int from 9223372036854775808: strconv.Atoi: parsing "9223372036854775808": value out of range"#,
            ),
            (
                "1-x/2/3 * * * *",
                r#"failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                "x-1-2 * * * *",
                r#"failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            ("1-2-3/4/5 * * * *", "too many hyphens: 1-2-3/4/5"),
            ("60/1/2 * * * *", "too many slashes: 60/1/2"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            (
                "5-1/0 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1/0",
            ),
            (
                "* * 0/0 * *",
                "beginning of range (0) below minimum (1): 0/0",
            ),
        ] {
            assert_eq!(check(schedule), Err(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_duration_is_told_as_go_tells_it() {
        for (text, why) in [
            ("", r#"invalid duration """#),
            ("x", r#"invalid duration "x""#),
            ("-", r#"invalid duration "-""#),
            (".s", r#"invalid duration ".s""#),
            ("1h x", r#"unknown unit "h x" in duration "1h x""#),
            ("5", r#"missing unit in duration "5""#),
            ("1.5.2s", r#"missing unit in duration "1.5.2s""#),
            ("1d", r#"unknown unit "d" in duration "1d""#),
            ("5m\n", r#"unknown unit "m\x0a" in duration "5m\x0a""#),
            ("9999999h", r#"invalid duration "9999999h""#),
            (
                "99999999999999999999d",
                r#"invalid duration "99999999999999999999d""#,
            ),
        ] {
            let text = format!("@every {text}");
            let told = format!("failed to parse duration {text}: time: {why}");
            assert_eq!(check(&text), Err(told));
        }
    }
}

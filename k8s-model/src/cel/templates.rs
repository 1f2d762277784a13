//! `text.format([…])` and `strings.quote(text)`.

use std::fmt::Write;

use super::{CelError, Val, operators};

type Found<'v> = Result<Val<'v>, CelError>;

/// The longest text that a template makes, and the most digits after a point.
const LIMIT: usize = 16 << 20;
const DIGITS: usize = 1000;

fn failed<T>(text: impl Into<String>) -> Result<T, CelError> {
    Err(CelError::Failed(text.into()))
}

/// A text with its clauses (`%s`, `%d`, `%.2f`, …) filled in, as the version of cel-go's library fills them in that
/// Kubernetes has: numbers with points as in English.
pub(super) fn format<'v>(template: &str, args: &[Val<'v>]) -> Found<'v> {
    let mut given = args.iter().enumerate();
    let mut next = 0;
    let mut out = String::with_capacity(template.len());
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let Some((at, value)) = given.next() else {
            return failed(format!("index {next} out of range"));
        };
        next = at + 1;
        if chars.peek().is_none() {
            return failed("unexpected end of string");
        }
        let unread = |text: String| failed(format!("could not parse formatting clause: {text}"));
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            if chars.peek().is_none() {
                return unread(
                    "error while parsing precision: could not find end of precision specifier"
                        .to_owned(),
                );
            }
            let Ok(n) = digits.parse::<usize>() else {
                return unread(format!(
                    "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {digits:?}: {}",
                    if digits.is_empty() {
                        "invalid syntax"
                    } else {
                        "value out of range"
                    }
                ));
            };
            precision = Some(n.min(DIGITS));
        }
        let verb = chars.next().unwrap_or('%');
        if !"sdfebxXo".contains(verb) {
            return unread(format!("unrecognized formatting clause \"{verb}\""));
        }
        clause(&mut out, verb, precision, value)?;
        if out.len() > LIMIT {
            return Err(CelError::Cost);
        }
    }
    Ok(out.into())
}

fn clause(
    out: &mut String,
    verb: char,
    precision: Option<usize>,
    value: &Val<'_>,
) -> Result<(), CelError> {
    let wrong = |what: &str| {
        failed(format!(
            "error during formatting: {what}, was given {}",
            value.type_name()
        ))
    };
    let precision = precision.unwrap_or(6);
    match (verb, value) {
        ('s', value) => text(out, value)?,
        ('d', Val::Int(n)) => push(out, format_args!("{n}")),
        ('d', Val::Uint(n)) => push(out, format_args!("{n}")),
        ('d', _) => return wrong("decimal clause can only be used on integers"),
        ('f', Val::Double(n)) => fixed(out, *n, precision),
        ('e', Val::Double(n)) => scientific(out, *n, precision),
        ('f' | 'e', Val::String(name)) if matches!(&**name, "NaN" | "Infinity" | "-Infinity") => {
            let n = match &**name {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                _ => f64::NEG_INFINITY,
            };
            fixed(out, n, precision);
        }
        ('f', _) => return wrong("fixed-point clause can only be used on doubles"),
        ('e', _) => return wrong("scientific clause can only be used on doubles"),
        ('b', Val::Bool(b)) => push(out, format_args!("{}", u8::from(*b))),
        ('b' | 'o' | 'x' | 'X', Val::Int(n)) => {
            if *n < 0 {
                out.push('-');
            }
            radix(out, verb, n.unsigned_abs());
        }
        ('b' | 'o' | 'x' | 'X', Val::Uint(n)) => radix(out, verb, *n),
        ('x' | 'X', Val::String(text)) => bytes(out, verb, text.as_bytes()),
        ('x' | 'X', Val::Bytes(all)) => bytes(out, verb, all),
        ('b', _) => return wrong("only integers and bools can be formatted as binary"),
        ('o', _) => return wrong("octal clause can only be used on integers"),
        _ => {
            return wrong("only integers, byte buffers, and strings can be formatted as hex");
        }
    }
    Ok(())
}

/// The digits of a number, and where the point is among them: as few as tell it from others.
fn digits(n: f64) -> (Vec<u8>, i32) {
    let shown = format!("{:e}", n.abs());
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let digits = digits.map(|digit| digit - b'0').collect();
    (digits, exponent.parse::<i32>().unwrap_or(0) + 1)
}

/// So many of the digits, and what the others come to: a half goes to the even digit. One more in front, if that is
/// what it takes.
fn rounded(mut digits: Vec<u8>, keep: usize) -> Vec<u8> {
    digits.insert(0, 0);
    let keep = keep + 1;
    let up = match digits.get(keep..) {
        Some([first, rest @ ..]) => match (first, rest.iter().any(|digit| *digit > 0)) {
            (6.., _) | (5, true) => true,
            (5, false) => digits[keep - 1] % 2 == 1,
            _ => false,
        },
        _ => false,
    };
    digits.resize(keep, 0);
    if up {
        for digit in digits.iter_mut().rev() {
            *digit = (*digit + 1) % 10;
            if *digit > 0 {
                break;
            }
        }
    }
    digits
}

fn shown(digits: &[u8]) -> impl Iterator<Item = char> + '_ {
    digits.iter().map(|digit| char::from(b'0' + digit))
}

/// `1,234.50`.
fn fixed(out: &mut String, n: f64, precision: usize) {
    if n.is_nan() {
        return out.push_str("NaN");
    }
    if n.is_sign_negative() {
        out.push('-');
    }
    if n.is_infinite() {
        return out.push('\u{221e}');
    }
    let (mut all, mut point) = digits(n);
    while point < 1 {
        all.insert(0, 0);
        point += 1;
    }
    let whole = usize::try_from(point).unwrap_or(1);
    let all = rounded(all, whole + precision);
    let (whole, fraction) = all.split_at(whole + 1);
    let whole = match whole {
        [0, rest @ ..] => rest,
        whole => whole,
    };
    for (at, digit) in shown(whole).enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if precision > 0 {
        out.push('.');
        out.extend(shown(fraction));
    }
}

/// `1.234500×10⁰³`.
fn scientific(out: &mut String, n: f64, precision: usize) {
    if !n.is_finite() {
        return fixed(out, n, precision);
    }
    if n.is_sign_negative() {
        out.push('-');
    }
    let (all, point) = digits(n);
    let mut exponent = if n == 0.0 { 0 } else { point - 1 };
    let all = rounded(all, precision + 1);
    let all = match all.as_slice() {
        [0, rest @ ..] => rest,
        all => {
            exponent += 1;
            &all[..all.len() - 1]
        }
    };
    out.extend(shown(&all[..1]));
    if precision > 0 {
        out.push('.');
        out.extend(shown(&all[1..]));
    }
    out.push_str("\u{d7}10");
    if exponent < 0 {
        out.push('\u{207b}');
    }
    for digit in format!("{:02}", exponent.abs()).chars() {
        out.push(match digit {
            '1' => '\u{b9}',
            '2' => '\u{b2}',
            '3' => '\u{b3}',
            digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or('0'),
        });
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn radix(out: &mut String, verb: char, n: u64) {
    match verb {
        'b' => push(out, format_args!("{n:b}")),
        'o' => push(out, format_args!("{n:o}")),
        'x' => push(out, format_args!("{n:x}")),
        _ => push(out, format_args!("{n:X}")),
    }
}

fn bytes(out: &mut String, verb: char, all: &[u8]) {
    for byte in all {
        match verb {
            'x' => push(out, format_args!("{byte:02x}")),
            _ => push(out, format_args!("{byte:02X}")),
        }
    }
}

/// A value as `%s` shows it.
fn text(out: &mut String, value: &Val<'_>) -> Result<(), CelError> {
    match value {
        Val::Null => out.push_str("null"),
        Val::Type(name) => out.push_str(name),
        Val::List(_) | Val::Merged(_) | Val::Map(_) | Val::Json(..) => nested(out, value)?,
        Val::Int(_)
        | Val::Uint(_)
        | Val::Double(_)
        | Val::Bool(_)
        | Val::String(_)
        | Val::Bytes(_)
        | Val::Timestamp(..)
        | Val::Duration(_) => {
            if let Val::String(shown) = operators::convert("string", value)? {
                out.push_str(&shown);
            }
        }
        _ => {
            return failed(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                value.type_name()
            ));
        }
    }
    Ok(())
}

/// A value as it is shown in a list or a map: as an expression has it.
fn nested(out: &mut String, value: &Val<'_>) -> Result<(), CelError> {
    if out.len() > LIMIT {
        return Err(CelError::Cost);
    }
    match value {
        Val::String(text) => out.push_str(&quoted(text)),
        Val::Bytes(_) => {
            if let Val::String(shown) = operators::convert("string", value)? {
                push(out, format_args!("b{}", quoted(&shown)));
            }
        }
        Val::Timestamp(..) | Val::Duration(_) => {
            if let Val::String(shown) = operators::convert("string", value)? {
                let name = match value {
                    Val::Timestamp(..) => "timestamp",
                    _ => "duration",
                };
                push(out, format_args!("{name}({})", quoted(&shown)));
            }
        }
        Val::Double(n) if n.is_nan() => out.push_str("\"NaN\""),
        Val::Double(n) if n.is_infinite() => {
            let sign = if *n > 0.0 { '+' } else { '-' };
            push(out, format_args!("\"{sign}Inf\""));
        }
        Val::Double(n) => push(out, format_args!("{n:.6}")),
        Val::Null | Val::Type(_) | Val::Int(_) | Val::Uint(_) | Val::Bool(_) => text(out, value)?,
        value => {
            if let Some(elements) = value.elements() {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    nested(out, element)?;
                }
                out.push(']');
            } else if let Some(entries) = value.entries() {
                let mut shown = Vec::with_capacity(entries.len());
                for (key, value) in &entries {
                    let mut entry = String::new();
                    if !matches!(
                        key,
                        Val::String(_) | Val::Bool(_) | Val::Int(_) | Val::Uint(_)
                    ) {
                        return failed(format!(
                            "error during formatting: no formatting function for map key of type {}",
                            key.type_name()
                        ));
                    }
                    nested(&mut entry, key)?;
                    let length = entry.len();
                    entry.push(':');
                    nested(&mut entry, value)?;
                    shown.push((length, entry));
                }
                shown.sort_by(|(n, a), (m, b)| a[..*n].cmp(&b[..*m]));
                let shown: Vec<String> = shown.into_iter().map(|(_, entry)| entry).collect();
                push(out, format_args!("{{{}}}", shown.join(", ")));
            } else {
                return failed(format!(
                    "error during formatting: no formatting function for {}",
                    value.type_name()
                ));
            }
        }
    }
    Ok(())
}

/// A text in quotes, as Go writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text in quotes, with what cannot be printed escaped.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

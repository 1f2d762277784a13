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

/// A text with its clauses (`%s`, `%d`, `%.2f`, …) filled in.
pub(super) fn format<'v>(template: &str, args: &[Val<'v>]) -> Found<'v> {
    let mut args = args.iter();
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
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let Ok(n) = digits.parse::<usize>() else {
                return failed("could not parse formatting clause: error while parsing precision");
            };
            precision = Some(n.min(DIGITS));
        }
        let Some(verb) = chars.next() else {
            return failed("could not parse formatting clause: unexpected end of string");
        };
        let Some(value) = args.next() else {
            return failed("index out of range");
        };
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
            "error during formatting: {what} clause can not be used on {}",
            value.type_name()
        ))
    };
    match (verb, value) {
        ('s', value) => text(out, value)?,
        ('d', Val::Int(n)) => push(out, format_args!("{n}")),
        ('d', Val::Uint(n)) => push(out, format_args!("{n}")),
        ('d', Val::Double(n)) if !n.is_finite() => out.push_str(&infinite(*n)),
        ('d', _) => return wrong("decimal"),
        ('f' | 'e', Val::Int(_) | Val::Uint(_) | Val::Double(_)) => {
            let Val::Double(n) = operators::convert("double", value)? else {
                return wrong("fixed-point");
            };
            let precision = precision.unwrap_or(6);
            match verb {
                _ if !n.is_finite() => out.push_str(&infinite(n)),
                'f' => push(out, format_args!("{n:.precision$}")),
                _ => {
                    // Two digits at least in the exponent, with a sign.
                    let plain = format!("{n:.precision$e}");
                    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
                    let exponent: i32 = exponent.parse().unwrap_or(0);
                    push(out, format_args!("{mantissa}e{exponent:+03}"));
                }
            }
        }
        ('f', _) => return wrong("fixed-point"),
        ('e', _) => return wrong("scientific"),
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
        ('b', _) => return wrong("binary"),
        ('o', _) => return wrong("octal"),
        ('x' | 'X', _) => return wrong("hex"),
        _ => {
            return failed(format!(
                "could not parse formatting clause: unrecognized formatting clause {verb:?}"
            ));
        }
    }
    Ok(())
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn infinite(n: f64) -> String {
    match n {
        n if n.is_nan() => "NaN".to_owned(),
        n if n > 0.0 => "Infinity".to_owned(),
        _ => "-Infinity".to_owned(),
    }
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
        Val::Double(n) if !n.is_finite() => out.push_str(&infinite(*n)),
        value => {
            if let Some(elements) = value.elements() {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    text(out, element)?;
                }
                out.push(']');
            } else if let Some(entries) = value.entries() {
                let mut shown = Vec::with_capacity(entries.len());
                for (key, value) in &entries {
                    let mut entry = String::new();
                    text(&mut entry, key)?;
                    entry.push_str(": ");
                    text(&mut entry, value)?;
                    shown.push(entry);
                }
                shown.sort();
                push(out, format_args!("{{{}}}", shown.join(", ")));
            } else {
                match operators::convert("string", value) {
                    Ok(Val::String(shown)) => out.push_str(&shown),
                    _ => {
                        return failed(format!(
                            "error during formatting: string clause can not be used on {}",
                            value.type_name()
                        ));
                    }
                }
            }
        }
    }
    Ok(())
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

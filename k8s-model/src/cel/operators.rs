//! Operators, and conversions between types.

use std::rc::Rc;

use cel::common::ast::operators;
use jiff::{SignedDuration, Timestamp, tz::Offset};
use serde_json::Value as Json;

use super::{CelError, Val, list_types::Merged, times};

type Found<'v> = Result<Val<'v>, CelError>;

/// What an operator makes of its operands; `None` if it is none.
pub(super) fn operator<'v>(name: &str, args: &[Val<'v>]) -> Option<Found<'v>> {
    Some(match (name, args) {
        (operators::EQUALS, [a, b]) => equal(a, b).map(Val::Bool),
        (operators::NOT_EQUALS, [a, b]) => equal(a, b).map(|same| Val::Bool(!same)),
        (operators::LESS, [a, b]) => compare(a, b, |o| o.is_lt()),
        (operators::LESS_EQUALS, [a, b]) => compare(a, b, |o| o.is_le()),
        (operators::GREATER, [a, b]) => compare(a, b, |o| o.is_gt()),
        (operators::GREATER_EQUALS, [a, b]) => compare(a, b, |o| o.is_ge()),
        (operators::ADD, [a, b]) => add(a, b),
        (operators::SUBSTRACT, [a, b]) => subtract(a, b),
        (operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [a, b]) => {
            arithmetic(name, a, b)
        }
        ("!_", [Val::Bool(b)]) => Ok((!b).into()),
        (operators::NEGATE, [Val::Int(n)]) => n.checked_neg().map(Val::Int).ok_or_else(overflow),
        (operators::NEGATE, [Val::Double(n)]) => Ok(Val::Double(-n)),
        (operators::IN, [value, within]) => contains(within, value),
        _ if name.contains('_') && name.chars().any(|c| "+-*/%=<>![&|?".contains(c)) => {
            Err(CelError::NoOverload)
        }
        _ => return None,
    })
}

fn overflow() -> CelError {
    CelError::Failed("integer overflow".to_owned())
}

fn equal<'v>(a: &Val<'v>, b: &Val<'v>) -> Result<bool, CelError> {
    if let (Some(set), Some(other)) = (Merged::of(a), b.elements())
        && set.elements.len() == other.len()
    {
        set.check(&other)?;
        return Ok(set.equals(&other));
    }
    Ok(a.equals(b))
}

fn compare<'v>(a: &Val<'v>, b: &Val<'v>, holds: impl Fn(std::cmp::Ordering) -> bool) -> Found<'v> {
    a.compare(b)
        .map(|order| holds(order).into())
        .ok_or(CelError::NoOverload)
}

fn add<'v>(a: &Val<'v>, b: &Val<'v>) -> Found<'v> {
    let first = a;
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Val::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Val::Uint(a), Val::Uint(b)) => Val::Uint(a.checked_add(*b).ok_or_else(overflow)?),
        (Val::Double(a), Val::Double(b)) => Val::Double(a + b),
        (Val::String(a), Val::String(b)) => [&**a, &**b].concat().into(),
        (Val::Bytes(a), Val::Bytes(b)) => Val::Bytes([&**a, &**b].concat().into()),
        (Val::Duration(a), Val::Duration(b)) => {
            Val::Duration(a.checked_add(*b).ok_or_else(overflow)?)
        }
        (Val::Timestamp(t, at), Val::Duration(d)) | (Val::Duration(d), Val::Timestamp(t, at)) => {
            shift(*t, *d, *at)?
        }
        _ => match (a.elements(), b.elements()) {
            (Some(mut a), Some(b)) => {
                if let Some(list) = Merged::of(first) {
                    list.check(&b)?;
                    return Ok(Val::Merged(Rc::new(list.plus(b))));
                }
                a.extend(b);
                Val::List(Rc::new(a))
            }
            _ => return Err(CelError::NoOverload),
        },
    })
}

fn shift<'v>(time: Timestamp, nanos: i64, offset: Offset) -> Found<'v> {
    time.checked_add(SignedDuration::from_nanos(nanos))
        .map(|time| Val::Timestamp(time, offset))
        .map_err(|_| CelError::Failed("timestamp overflow".to_owned()))
}

fn subtract<'v>(a: &Val<'v>, b: &Val<'v>) -> Found<'v> {
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Val::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        (Val::Uint(a), Val::Uint(b)) => Val::Uint(a.checked_sub(*b).ok_or_else(overflow)?),
        (Val::Double(a), Val::Double(b)) => Val::Double(a - b),
        (Val::Duration(a), Val::Duration(b)) => {
            Val::Duration(a.checked_sub(*b).ok_or_else(overflow)?)
        }
        (Val::Timestamp(a, at), Val::Duration(b)) => {
            shift(*a, b.checked_neg().ok_or_else(overflow)?, *at)?
        }
        (Val::Timestamp(a, _), Val::Timestamp(b, _)) => {
            let nanos = a.duration_since(*b).as_nanos();
            Val::Duration(i64::try_from(nanos).map_err(|_| overflow())?)
        }
        _ => return Err(CelError::NoOverload),
    })
}

fn arithmetic<'v>(name: &str, a: &Val<'v>, b: &Val<'v>) -> Found<'v> {
    let by_zero = || {
        CelError::Failed(if name == operators::MODULO {
            "modulus by zero".to_owned()
        } else {
            "division by zero".to_owned()
        })
    };
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => {
            if *b == 0 && name != operators::MULTIPLY {
                return Err(by_zero());
            }
            let found = match name {
                operators::MULTIPLY => a.checked_mul(*b),
                operators::DIVIDE => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            found.map(Val::Int).ok_or_else(overflow)
        }
        (Val::Uint(a), Val::Uint(b)) => {
            if *b == 0 && name != operators::MULTIPLY {
                return Err(by_zero());
            }
            let found = match name {
                operators::MULTIPLY => a.checked_mul(*b),
                operators::DIVIDE => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            found.map(Val::Uint).ok_or_else(overflow)
        }
        (Val::Double(a), Val::Double(b)) if name == operators::MULTIPLY => Ok(Val::Double(a * b)),
        (Val::Double(a), Val::Double(b)) if name == operators::DIVIDE => Ok(Val::Double(a / b)),
        _ => Err(CelError::NoOverload),
    }
}

fn contains<'v>(within: &Val<'v>, value: &Val<'v>) -> Found<'v> {
    if let Some(list) = within.elements() {
        return Ok(list.iter().any(|element| element.equals(value)).into());
    }
    match within {
        Val::Json(..) | Val::Map(_) => Ok(find(within, value)?.is_some().into()),
        _ => Err(CelError::NoOverload),
    }
}

/// What is there under a key.
pub(super) fn find<'v>(value: &Val<'v>, key: &Val<'v>) -> Result<Option<Val<'v>>, CelError> {
    let position = || match key {
        Val::Int(at) => Ok(usize::try_from(*at).ok()),
        Val::Uint(at) => Ok(usize::try_from(*at).ok()),
        _ => Err(CelError::NoOverload),
    };
    Ok(match value {
        Val::List(list) => position()?.and_then(|at| list.get(at).cloned()),
        Val::Merged(list) => position()?.and_then(|at| list.elements.get(at).cloned()),
        Val::Json(Json::Array(list), schema) => {
            let items = schema.and_then(|s| s.items.as_deref());
            let found = position()?.and_then(|at| list.get(at));
            found.map(|json| Val::of(json, items))
        }
        Val::Json(Json::Object(_), _) => match key {
            Val::String(name) => value.entry(name),
            _ => None,
        },
        Val::Map(map) => {
            let found = map.iter().find(|(known, _)| known.equals(key));
            found.map(|(_, value)| value.clone())
        }
        Val::Host(host) => match key {
            Val::String(key) => return host.entry(key),
            _ => return Err(CelError::NoOverload),
        },
        _ => return Err(CelError::NoOverload),
    })
}

/// `value[key]`.
pub(super) fn index<'v>(value: &Val<'v>, key: &Val<'v>) -> Found<'v> {
    find(value, key)?.ok_or_else(|| {
        let shown = match key {
            Val::Int(n) => n.to_string(),
            Val::Uint(n) => n.to_string(),
            Val::String(text) => text.to_string(),
            _ => String::new(),
        };
        CelError::Failed(match value {
            Val::List(_) | Val::Merged(_) | Val::Json(Json::Array(_), _) => {
                format!("index out of bounds: {shown}")
            }
            _ => format!("no such key: {shown}"),
        })
    })
}

/// A number as Go writes it (`strconv.FormatFloat(n, 'g', -1, 64)`).
pub(crate) fn double_text(n: f64) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let shown = format!("{n:e}");
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match !(-4..6).contains(&exponent) {
        true => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        false => n.to_string(),
    }
}

/// `int(…)`, `string(…)` and so on.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "conversions of CEL; what does not fit is refused before"
)]
pub(super) fn convert<'v>(name: &str, value: &Val<'v>) -> Found<'v> {
    let failed = |what: &str| CelError::Failed(what.to_owned());
    Ok(match (name, value) {
        ("int", Val::Int(_)) | ("uint", Val::Uint(_)) | ("double", Val::Double(_)) => value.clone(),
        ("bool", Val::Bool(_)) | ("string", Val::String(_)) | ("bytes", Val::Bytes(_)) => {
            value.clone()
        }
        ("int", Val::Uint(n)) => Val::Int(i64::try_from(*n).map_err(|_| overflow())?),
        ("int", Val::Double(n)) if n.abs() < 9.2e18 => Val::Int(*n as i64),
        ("int", Val::Double(_)) => return Err(overflow()),
        ("int", Val::String(text)) => Val::Int(
            text.parse()
                .map_err(|_| failed("type conversion error from 'string' to 'int'"))?,
        ),
        ("int", Val::Timestamp(t, _)) => Val::Int(t.as_second()),
        ("int", Val::Duration(n)) => Val::Int(*n),
        ("uint", Val::Int(n)) => Val::Uint(u64::try_from(*n).map_err(|_| overflow())?),
        ("uint", Val::Double(n)) if *n >= 0.0 && *n < 1.8e19 => Val::Uint(*n as u64),
        ("uint", Val::Double(_)) => return Err(overflow()),
        ("uint", Val::String(text)) => Val::Uint(
            text.parse()
                .map_err(|_| failed("type conversion error from 'string' to 'uint'"))?,
        ),
        ("double", Val::Int(n)) => Val::Double(*n as f64),
        ("double", Val::Uint(n)) => Val::Double(*n as f64),
        ("double", Val::String(text)) => Val::Double(
            text.parse()
                .map_err(|_| failed("type conversion error from 'string' to 'double'"))?,
        ),
        ("string", Val::Int(n)) => n.to_string().into(),
        ("string", Val::Uint(n)) => n.to_string().into(),
        ("string", Val::Double(n)) => double_text(*n).into(),
        ("string", Val::Bool(b)) => b.to_string().into(),
        ("string", Val::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => return Err(failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        ("string", Val::Timestamp(t, at)) => times::time_text(*t, *at).into(),
        ("string", Val::Duration(n)) => times::duration_text(*n).into(),
        ("string", Val::Ip(ip)) => ip.to_string().into(),
        ("string", Val::Cidr(ip, bits)) => format!("{ip}/{bits}").into(),
        ("bytes", Val::String(text)) => Val::Bytes(text.as_bytes().into()),
        ("bool", Val::String(text)) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true.into(),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false.into(),
            _ => return Err(failed("type conversion error from 'string' to 'bool'")),
        },
        _ => return Err(CelError::NoOverload),
    })
}

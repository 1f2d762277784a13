//! Operators, and conversions between types.

use std::rc::Rc;

use cel::common::ast::operators;
use jiff::{SignedDuration, Timestamp};

use super::{CelError, Val, times};

type Found<'v> = Result<Val<'v>, CelError>;

/// What an operator makes of its operands; `None` if it is none.
pub(super) fn operator<'v>(name: &str, args: &[Val<'v>]) -> Option<Found<'v>> {
    Some(match (name, args) {
        (operators::EQUALS, [a, b]) => Ok(a.equals(b).into()),
        (operators::NOT_EQUALS, [a, b]) => Ok((!a.equals(b)).into()),
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
        (operators::INDEX, [value, key]) => index(value, key),
        (operators::OPT_INDEX, [value, key]) => optional_index(value, key),
        (operators::OPT_SELECT, [value, Val::String(name)]) => optional_select(value, name),
        _ if name.contains('_') && name.chars().any(|c| "+-*/%=<>![&|?".contains(c)) => {
            Err(CelError::NoOverload)
        }
        _ => return None,
    })
}

fn overflow() -> CelError {
    CelError::Failed("integer overflow".to_owned())
}

fn compare<'v>(a: &Val<'v>, b: &Val<'v>, holds: impl Fn(std::cmp::Ordering) -> bool) -> Found<'v> {
    a.compare(b)
        .map(|order| holds(order).into())
        .ok_or(CelError::NoOverload)
}

fn add<'v>(a: &Val<'v>, b: &Val<'v>) -> Found<'v> {
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Val::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Val::Uint(a), Val::Uint(b)) => Val::Uint(a.checked_add(*b).ok_or_else(overflow)?),
        (Val::Double(a), Val::Double(b)) => Val::Double(a + b),
        (Val::String(a), Val::String(b)) => [&**a, &**b].concat().into(),
        (Val::Bytes(a), Val::Bytes(b)) => Val::Bytes([&**a, &**b].concat().into()),
        (Val::Duration(a), Val::Duration(b)) => {
            Val::Duration(a.checked_add(*b).ok_or_else(overflow)?)
        }
        (Val::Timestamp(t), Val::Duration(d)) | (Val::Duration(d), Val::Timestamp(t)) => {
            shift(*t, *d)?
        }
        _ => match (a.elements(), b.elements()) {
            (Some(mut a), Some(b)) => {
                a.extend(b);
                Val::List(Rc::new(a))
            }
            _ => return Err(CelError::NoOverload),
        },
    })
}

fn shift<'v>(time: Timestamp, nanos: i64) -> Found<'v> {
    time.checked_add(SignedDuration::from_nanos(nanos))
        .map(Val::Timestamp)
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
        (Val::Timestamp(a), Val::Duration(b)) => shift(*a, b.checked_neg().ok_or_else(overflow)?)?,
        (Val::Timestamp(a), Val::Timestamp(b)) => {
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
    match within.entries() {
        Some(entries) => Ok(entries.iter().any(|(key, _)| key.equals(value)).into()),
        None => Err(CelError::NoOverload),
    }
}

fn find<'v>(value: &Val<'v>, key: &Val<'v>) -> Result<Option<Val<'v>>, CelError> {
    if let Some(list) = value.elements() {
        let at = match key {
            Val::Int(at) => usize::try_from(*at).ok(),
            Val::Uint(at) => usize::try_from(*at).ok(),
            _ => return Err(CelError::NoOverload),
        };
        return Ok(at.and_then(|at| list.get(at).cloned()));
    }
    if let Some(entries) = value.entries() {
        let found = entries.into_iter().find(|(known, _)| known.equals(key));
        return Ok(found.map(|(_, value)| value));
    }
    match (value, key) {
        (Val::Host(host), Val::String(key)) => host.entry(key),
        _ => Err(CelError::NoOverload),
    }
}

fn index<'v>(value: &Val<'v>, key: &Val<'v>) -> Found<'v> {
    if let Val::Optional(_) = value {
        return optional_index(value, key);
    }
    let shown = match key {
        Val::Int(n) => n.to_string(),
        Val::Uint(n) => n.to_string(),
        Val::String(text) => text.to_string(),
        _ => String::new(),
    };
    find(value, key)?.ok_or_else(|| {
        CelError::Failed(if value.elements().is_some() {
            format!("index out of bounds: {shown}")
        } else {
            format!("no such key: {shown}")
        })
    })
}

fn optional_index<'v>(value: &Val<'v>, key: &Val<'v>) -> Found<'v> {
    let found = match value {
        Val::Optional(None) => None,
        Val::Optional(Some(value)) => find(value, key)?,
        value => find(value, key)?,
    };
    Ok(Val::Optional(found.map(Rc::new)))
}

fn optional_select<'v>(value: &Val<'v>, name: &str) -> Found<'v> {
    let found = match value {
        Val::Optional(None) => None,
        Val::Optional(Some(value)) => value.field(name),
        value => value.field(name),
    };
    Ok(Val::Optional(found.map(Rc::new)))
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
        ("int", Val::Timestamp(t)) => Val::Int(t.as_second()),
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
        ("string", Val::Double(n)) => n.to_string().into(),
        ("string", Val::Bool(b)) => b.to_string().into(),
        ("string", Val::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => return Err(failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        ("string", Val::Timestamp(t)) => t.to_string().into(),
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

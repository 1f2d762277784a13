//! Functions and operators by name.

use std::rc::Rc;

use cel::common::ast::{CallExpr, operators};

use super::{
    CelError, Val, addresses,
    eval::{Eval, is_lazy},
    operators as ops, strings, times,
};
use crate::quantity::Amount;

type Found<'v> = Result<Val<'v>, CelError>;

/// A call: its arguments, and then the function.
pub(super) fn call<'e, 'v>(eval: &mut Eval<'e, 'v>, call: &'e CallExpr) -> Found<'v> {
    let name = call.func_name.as_str();
    if is_lazy(name) {
        eval.spend(u64::from(name == operators::CONDITIONAL))?;
        return match name {
            operators::LOGICAL_AND => eval.logical(&call.args, false),
            operators::LOGICAL_OR => eval.logical(&call.args, true),
            operators::CONDITIONAL => eval.conditional(&call.args),
            _ => eval.not_strictly_false(&call.args),
        };
    }
    if let Some(library) = library(call) {
        let args = arguments(eval, call)?;
        eval.spend(1)?;
        return library_call(library, name, &args);
    }
    let target = match &call.target {
        Some(target) => Some(eval.expr(target)?),
        None => None,
    };
    // The other value of an optional is looked at only if it is needed.
    if let Some(Val::Optional(found)) = &target
        && matches!(name, "orValue" | "or")
        && let [other] = call.args.as_slice()
    {
        eval.spend(1)?;
        return match found {
            Some(value) if name == "orValue" => Ok((**value).clone()),
            Some(_) => Ok(Val::Optional(found.clone())),
            None => eval.expr(other),
        };
    }
    let mut args = arguments(eval, call)?;
    if let Some(Val::Host(host)) = &target {
        return eval.call_host(&**host, name, &args);
    }
    if let (operators::ADD, [Val::List(_), more]) = (name, args.as_slice()) {
        // Lists that are joined cost nothing more, as upstream has it.
        eval.spend(1)?;
        let more = more.elements().ok_or(CelError::NoOverload)?;
        let Val::List(list) = args.swap_remove(0) else {
            return Err(CelError::NoOverload);
        };
        let mut list = Rc::try_unwrap(list).unwrap_or_else(|shared| shared.to_vec());
        list.extend(more);
        return Ok(Val::List(Rc::new(list)));
    }
    if let Some(target) = target {
        args.insert(0, target);
        eval.spend(cost(name, &args))?;
        return method(name, &args);
    }
    eval.spend(cost(name, &args))?;
    function(name, &args)
}

fn arguments<'e, 'v>(
    eval: &mut Eval<'e, 'v>,
    call: &'e CallExpr,
) -> Result<Vec<Val<'v>>, CelError> {
    call.args.iter().map(|arg| eval.expr(arg)).collect()
}

/// `optional`, `ip`, `sets`: a name before a function that is no value.
fn library(call: &CallExpr) -> Option<&str> {
    let cel::common::ast::Expr::Ident(name) = &call.target.as_ref()?.expr else {
        return None;
    };
    let known = match name.as_str() {
        "optional" => matches!(call.func_name.as_str(), "of" | "none" | "ofNonZeroValue"),
        "ip" => call.func_name == "isCanonical",
        "jsonpatch" => call.func_name == "escapeKey",
        "sets" => matches!(
            call.func_name.as_str(),
            "contains" | "equivalent" | "intersects"
        ),
        _ => false,
    };
    known.then_some(name)
}

fn library_call<'v>(library: &str, name: &str, args: &[Val<'v>]) -> Found<'v> {
    match (library, name, args) {
        ("optional", "none", []) => Ok(Val::Optional(None)),
        ("optional", "of", [value]) => Ok(Val::Optional(Some(Rc::new(value.clone())))),
        ("optional", "ofNonZeroValue", [value]) => {
            let is_zero = match value {
                Val::Null => true,
                Val::Bool(b) => !b,
                Val::Int(n) => *n == 0,
                Val::Uint(n) => *n == 0,
                Val::Double(n) => *n == 0.0,
                other => other.size() == Some(0),
            };
            Ok(Val::Optional((!is_zero).then(|| Rc::new(value.clone()))))
        }
        ("jsonpatch", _, [Val::String(key)]) => {
            Ok(key.replace('~', "~0").replace('/', "~1").into())
        }
        ("ip", _, [Val::String(text)]) => addresses::is_canonical(text),
        ("sets", name, [a, b]) => {
            let (Some(a), Some(b)) = (a.elements(), b.elements()) else {
                return Err(CelError::NoOverload);
            };
            let has = |list: &[Val<'v>], value: &Val<'v>| list.iter().any(|v| v.equals(value));
            let contains = |a: &[Val<'v>], b: &[Val<'v>]| b.iter().all(|value| has(a, value));
            Ok(match name {
                "contains" => contains(&a, &b),
                "equivalent" => contains(&a, &b) && contains(&b, &a),
                _ => b.iter().any(|value| has(&a, value)),
            }
            .into())
        }
        _ => Err(CelError::NoOverload),
    }
}

/// What a call costs: one, and more where it looks at whole texts and lists.
fn cost(name: &str, args: &[Val<'_>]) -> u64 {
    let size = |at: usize| {
        let size = args.get(at).and_then(Val::size).unwrap_or(0);
        u64::try_from(size).unwrap_or(u64::MAX)
    };
    estimate(name, size(0), size(1))
}

/// The same, from the sizes of the first two arguments.
pub(super) fn estimate(name: &str, first: u64, second: u64) -> u64 {
    // A tenth for each character, as upstream counts them.
    let texts = |n: u64| n.div_ceil(10);
    let cost = match name {
        operators::LOGICAL_AND | operators::LOGICAL_OR => return 0,
        operators::EQUALS | operators::NOT_EQUALS => texts(first.min(second)),
        operators::ADD => texts(first.saturating_add(second)),
        operators::IN => second,
        "matches" | "find" | "findAll" => {
            texts(first.saturating_add(1)).saturating_mul(second.div_ceil(4).max(1))
        }
        "contains" | "indexOf" | "lastIndexOf" | "replace" | "split" => {
            texts(first).saturating_mul(texts(second).max(1))
        }
        "startsWith" | "endsWith" => texts(second),
        "isSorted" | "sum" | "max" | "min" => first,
        "lowerAscii" | "upperAscii" | "substring" | "trim" | "join" | "url" | "isURL"
        | "quantity" | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "string" | "bytes" => {
            texts(first)
        }
        _ => 1,
    };
    cost.max(1)
}

fn function<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    if let Some(found) = ops::operator(name, args) {
        return found;
    }
    match (name, args) {
        ("size", [value]) => size(value),
        ("matches", [_, _]) => method(name, args),
        ("type", [value]) => Ok(Val::Type(value.type_name().into())),
        ("dyn", [value]) => Ok(value.clone()),
        ("int" | "uint" | "double" | "string" | "bytes" | "bool", [value]) => {
            ops::convert(name, value)
        }
        ("timestamp" | "duration", [value]) => times::convert(name, value),
        ("quantity", [Val::String(text)]) => {
            let amount = Amount::parse(text).map_err(|e| CelError::Failed(e.to_string()))?;
            Ok(Val::Quantity(amount))
        }
        ("isQuantity", [Val::String(text)]) => Ok(Amount::parse(text).is_ok().into()),
        ("url" | "isURL" | "ip" | "isIP" | "cidr" | "isCIDR", [Val::String(text)]) => {
            addresses::parse(name, text)
        }
        _ => Err(CelError::NoOverload),
    }
}

fn size<'v>(value: &Val<'v>) -> Found<'v> {
    let size = value.size().ok_or(CelError::NoOverload)?;
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn method<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    match args {
        [value] if name == "size" => size(value),
        [Val::String(text), rest @ ..] => strings::method(name, text, rest),
        [Val::Timestamp(_) | Val::Duration(_), ..] => times::method(name, args),
        [Val::Url(_) | Val::Ip(_) | Val::Cidr(..), ..] => addresses::method(name, args),
        [Val::Quantity(amount), rest @ ..] => quantity(name, amount, rest),
        [Val::Optional(found)] => match (name, found) {
            ("hasValue", found) => Ok(found.is_some().into()),
            ("value", Some(value)) => Ok((**value).clone()),
            ("value", None) => Err(CelError::Failed("optional.none() dereference".to_owned())),
            _ => Err(CelError::NoOverload),
        },
        [list, rest @ ..] => match list.elements() {
            Some(elements) => self::list(name, &elements, rest),
            None => Err(CelError::NoOverload),
        },
        [] => Err(CelError::NoOverload),
    }
}

fn list<'v>(name: &str, list: &[Val<'v>], rest: &[Val<'v>]) -> Found<'v> {
    let position =
        |at: Option<usize>| Val::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1));
    match (name, rest) {
        ("isSorted", []) => Ok(list
            .windows(2)
            .all(|pair| pair[0].compare(&pair[1]).is_some_and(|o| o.is_le()))
            .into()),
        ("sum", []) => {
            let mut values = list.iter();
            let Some(first) = values.next() else {
                return Ok(Val::Int(0));
            };
            values.try_fold(first.clone(), |sum, value| {
                ops::operator(operators::ADD, &[sum, value.clone()])
                    .unwrap_or(Err(CelError::NoOverload))
            })
        }
        ("min" | "max", []) => {
            let mut values = list.iter();
            let Some(first) = values.next() else {
                return Err(CelError::Failed(format!("{name} called on empty list")));
            };
            let mut best = first;
            for value in values {
                let order = value.compare(best).ok_or(CelError::NoOverload)?;
                if (name == "min" && order.is_lt()) || (name == "max" && order.is_gt()) {
                    best = value;
                }
            }
            Ok(best.clone())
        }
        ("indexOf", [value]) => Ok(position(list.iter().position(|v| v.equals(value)))),
        ("lastIndexOf", [value]) => Ok(position(list.iter().rposition(|v| v.equals(value)))),
        ("join", rest) => strings::join(list, rest),
        _ => Err(CelError::NoOverload),
    }
}

fn quantity<'v>(name: &str, amount: &Amount, rest: &[Val<'v>]) -> Found<'v> {
    let whole = || {
        let n = amount.value();
        let same = amount.milli_value() == n.saturating_mul(1000);
        same.then_some(n)
    };
    match (name, rest) {
        ("sign", []) => Ok(Val::Int(amount.signum().into())),
        ("isInteger", []) => Ok(whole().is_some().into()),
        ("asInteger", []) => match whole() {
            Some(n) => Ok(Val::Int(n)),
            None => Err(CelError::Failed(
                "cannot convert value to integer".to_owned(),
            )),
        },
        ("asApproximateFloat", []) => Ok(Val::Double(amount.to_f64())),
        ("isGreaterThan", [Val::Quantity(other)]) => Ok((*amount > *other).into()),
        ("isLessThan", [Val::Quantity(other)]) => Ok((*amount < *other).into()),
        ("compareTo", [Val::Quantity(other)]) => Ok(Val::Int(match amount.cmp(other) {
            std::cmp::Ordering::Less => -1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => 1,
        })),
        ("add" | "sub", [Val::Quantity(_) | Val::Int(_)]) => {
            let other = match &rest[0] {
                Val::Quantity(other) => *other,
                Val::Int(n) => Amount::new(*n, amount.format()),
                _ => return Err(CelError::NoOverload),
            };
            Ok(Val::Quantity(if name == "add" {
                *amount + other
            } else {
                *amount - other
            }))
        }
        _ => Err(CelError::NoOverload),
    }
}

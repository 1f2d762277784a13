//! Functions and operators by name.

use std::rc::Rc;

use cel::common::ast::{CallExpr, operators};

use super::{
    CelError, Val, addresses, eval::Eval, formats, lists, macros, operators as ops, prices, semver,
    strings, templates, times,
};
use crate::quantity::Amount;

type Found<'v> = Result<Val<'v>, CelError>;

/// A call: its arguments, and then the function.
pub(super) fn call<'e, 'v>(eval: &mut Eval<'e, 'v>, id: u64, call: &'e CallExpr) -> Found<'v> {
    let name = call.func_name.as_str();
    match name {
        operators::LOGICAL_AND => return eval.logical(&call.args, false),
        operators::LOGICAL_OR => return eval.logical(&call.args, true),
        operators::CONDITIONAL => return eval.conditional(&call.args),
        operators::NOT_STRICTLY_FALSE => {
            let found = eval.not_strictly_false(&call.args)?;
            eval.spend(1)?;
            return Ok(found);
        }
        operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => {
            return eval.index(name, &call.args);
        }
        operators::IN => {
            if let Some(found) = eval.is_member(id, call) {
                return found;
            }
        }
        _ => {}
    }
    if let Some(library) = library(call) {
        let args = arguments(eval, None, call)?;
        let full = format!("{library}.{name}");
        pay(eval, id, &full, false, &args)?;
        let args = good(args)?;
        return library_call(library, name, &args);
    }
    let target = match &call.target {
        Some(target) => Some(eval.expr(target)?),
        None => None,
    };
    // The other value of an optional is looked at only if it is needed.
    if let (Some(Val::Optional(found)), "orValue" | "or", [other]) =
        (&target, name, call.args.as_slice())
    {
        return match found {
            Some(value) if name == "orValue" => Ok((**value).clone()),
            Some(_) => Ok(Val::Optional(found.clone())),
            None => eval.expr(other),
        };
    }
    let is_member = target.is_some();
    let args = arguments(eval, target, call)?;
    pay(eval, id, name, is_member, &args)?;
    let mut args = good(args)?;
    match (name, args.as_slice()) {
        (_, [Val::Host(host), rest @ ..]) if is_member => {
            return eval.call_host(&**host, name, rest);
        }
        (macros::MAP_INSERT, _) => return map_insert(args),
        (operators::ADD, [Val::List(_), more]) => {
            let more = more.elements().ok_or(CelError::NoOverload)?;
            eval.strain(more.len() as u64)?;
            let Val::List(list) = args.swap_remove(0) else {
                return Err(CelError::NoOverload);
            };
            let mut list = match Rc::try_unwrap(list) {
                Ok(own) => own,
                Err(shared) => {
                    eval.strain(shared.len() as u64)?;
                    shared.to_vec()
                }
            };
            list.extend(more);
            return Ok(Val::List(Rc::new(list)));
        }
        ("matches" | "find" | "findAll", [Val::String(text), Val::String(pattern), rest @ ..]) => {
            let written = call.args.last().map(|pattern| pattern.id);
            let compiled = eval.pattern(written.filter(|_| name == "matches"), pattern)?;
            let regex = compiled.map_err(|fault| {
                CelError::Failed(match name {
                    "matches" => fault,
                    _ => format!("Illegal regex: {fault}"),
                })
            })?;
            return strings::matched(name, text, &regex, rest);
        }
        _ => {}
    }
    match is_member {
        true => method(name, &args),
        false => function(name, &args),
    }
}

/// Pays for a call.
fn pay<'v>(
    eval: &mut Eval<'_, 'v>,
    id: u64,
    name: &str,
    is_member: bool,
    args: &[Val<'v>],
) -> Result<(), CelError> {
    let resolved = eval.is_resolved(id);
    eval.spend(prices::of_call(name, is_member, args, resolved))?;
    // What is dearer than its price, and what goes through whole values for one.
    let mut effort = match resolved {
        true => 1,
        false => prices::of_call(name, is_member, args, true),
    };
    let strength = eval.strength();
    let weight = |value: &Val<'v>| prices::weight(value, strength);
    match (name, args) {
        (operators::EQUALS | operators::NOT_EQUALS, [a, b]) if a.size() == b.size() => {
            effort = effort.saturating_add(weight(a).min(weight(b)));
        }
        (operators::IN | "indexOf" | "lastIndexOf" | "includes" | "distinct", [..])
        | ("sets.contains" | "sets.intersects" | "sets.equivalent", [_, ..])
        | (
            "sort" | "min" | "max" | "sum" | "isSorted" | "reverse" | "flatten" | "slice",
            [_, ..],
        )
        | ("join" | "unwrapOpt" | "optional.unwrap" | "format" | macros::SORT_BY, [_, ..])
        | (operators::ADD, [Val::Json(..) | Val::List(_) | Val::Merged(_), _]) => {
            effort = args
                .iter()
                .fold(effort, |sum, value| sum.saturating_add(weight(value)));
        }
        (macros::MAP_INSERT, [Val::Map(map), ..]) => {
            effort = effort.saturating_add(map.len() as u64);
        }
        _ => {}
    }
    eval.strain(effort)
}

/// The arguments, if none is an error.
fn good(args: Vec<Val<'_>>) -> Result<Vec<Val<'_>>, CelError> {
    let fault = args.iter().find_map(|arg| match arg {
        Val::Error(error) => Some(error.clone()),
        _ => None,
    });
    fault.map_or(Ok(args), Err)
}

/// A map with one more entry, or with those of another map. It grows in place, if nobody else has it.
fn map_insert<'v>(args: Vec<Val<'v>>) -> Found<'v> {
    let mut args = args.into_iter();
    let (Some(Val::Map(map)), Some(first), second) = (args.next(), args.next(), args.next()) else {
        return Err(CelError::NoOverload);
    };
    let mut map = Rc::try_unwrap(map).unwrap_or_else(|shared| shared.to_vec());
    let added = match second {
        Some(value) => vec![(first, value)],
        None => first.entries().ok_or(CelError::NoOverload)?,
    };
    for (key, value) in added {
        if map.iter().any(|(known, _)| known.equals(&key)) {
            let shown = match &key {
                Val::String(text) => text.to_string(),
                Val::Int(n) => n.to_string(),
                other => other.type_name().to_owned(),
            };
            return Err(CelError::Failed(format!(
                "insert failed: key {shown} already exists"
            )));
        }
        map.push((key, value));
    }
    Ok(Val::Map(Rc::new(map)))
}

/// The arguments of a call. As cel-go evaluates both of two whatever the first comes to, an error is one of them.
fn arguments<'e, 'v>(
    eval: &mut Eval<'e, 'v>,
    target: Option<Val<'v>>,
    call: &'e CallExpr,
) -> Result<Vec<Val<'v>>, CelError> {
    let mut out = Vec::with_capacity(call.args.len() + 1);
    out.extend(target);
    let both = out.len() + call.args.len() <= 2;
    for arg in &call.args {
        out.push(match eval.expr(arg) {
            Err(error @ (CelError::Cost | CelError::Pending)) => return Err(error),
            Err(error) if both => Val::Error(error),
            found => found?,
        });
    }
    Ok(out)
}

/// `optional`, `ip`, `sets` and so on: a name before a function that is no value.
pub(super) fn library(call: &CallExpr) -> Option<&str> {
    let cel::common::ast::Expr::Ident(name) = &call.target.as_ref()?.expr else {
        return None;
    };
    let function = call.func_name.as_str();
    let known = match name.as_str() {
        "optional" => matches!(function, "of" | "none" | "ofNonZeroValue" | "unwrap"),
        "ip" => function == "isCanonical",
        "jsonpatch" => function == "escapeKey",
        "sets" => matches!(function, "contains" | "equivalent" | "intersects"),
        "lists" => function == "range",
        "strings" => function == "quote",
        "format" => formats::is_function(function),
        _ => false,
    };
    known.then_some(name)
}

fn library_call<'v>(library: &str, name: &str, args: &[Val<'v>]) -> Found<'v> {
    match (library, name, args) {
        ("optional", "none", []) => Ok(Val::Optional(None)),
        ("optional", "of", [value]) => Ok(Val::Optional(Some(Rc::new(value.clone())))),
        ("optional", "ofNonZeroValue", [value]) => Ok(Val::Optional(
            (!is_zero(value)).then(|| Rc::new(value.clone())),
        )),
        ("optional", "unwrap", [list]) => method(name, std::slice::from_ref(list)),
        ("jsonpatch", _, [Val::String(key)]) => {
            Ok(key.replace('~', "~0").replace('/', "~1").into())
        }
        ("ip", _, [Val::String(text)]) => addresses::is_canonical(text),
        ("sets", name, args) => lists::sets(name, args),
        ("lists", _, args) => lists::range(args),
        ("strings", _, [Val::String(text)]) => Ok(templates::quote(text).into()),
        ("format", name, args) => formats::library(name, args),
        _ => Err(CelError::NoOverload),
    }
}

/// Whether a value is its type's zero.
fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null => true,
        Val::Bool(b) => !b,
        Val::Int(n) => *n == 0,
        Val::Uint(n) => *n == 0,
        Val::Double(n) => *n == 0.0,
        Val::Duration(n) => *n == 0,
        Val::Optional(found) => found.is_none(),
        other => other.size() == Some(0),
    }
}

fn function<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    if let Some(found) = ops::operator(name, args) {
        return found;
    }
    match (name, args) {
        ("size", [value]) => size(value),
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
        ("semver" | "isSemver", args) => semver::parse(name, args),
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
        [whole, part] if name == "includes" => Ok(match whole.elements() {
            Some(elements) => elements.iter().any(|element| element.equals(part)),
            None => whole.equals(part),
        }
        .into()),
        [Val::String(template), args] if name == "format" => match args.elements() {
            Some(args) => templates::format(template, &args),
            None => Err(CelError::NoOverload),
        },
        [Val::String(text), rest @ ..] => strings::method(name, text, rest),
        [Val::Format(format), Val::String(text)] if name == "validate" => Ok(format.validate(text)),
        [Val::Semver(version), rest @ ..] => semver::method(name, version, rest),
        [Val::Timestamp(..) | Val::Duration(_), ..] => times::method(name, args),
        [Val::Url(_) | Val::Ip(_) | Val::Cidr(..), ..] => addresses::method(name, args),
        [Val::Quantity(amount), rest @ ..] => quantity(name, amount, rest),
        [Val::Optional(found)] => match (name, found) {
            ("hasValue", found) => Ok(found.is_some().into()),
            ("value", Some(value)) => Ok((**value).clone()),
            ("value", None) => Err(CelError::Failed("optional.none() dereference".to_owned())),
            _ => Err(CelError::NoOverload),
        },
        [list] if matches!(name, "first" | "last") => {
            let last = list.size().ok_or(CelError::NoOverload)?.checked_sub(1);
            let at = if name == "last" { last.unwrap_or(0) } else { 0 };
            let at = Val::Int(i64::try_from(at).unwrap_or(i64::MAX));
            match list {
                Val::List(_) | Val::Merged(_) | Val::Json(serde_json::Value::Array(_), _) => {
                    Ok(Val::Optional(ops::find(list, &at)?.map(Rc::new)))
                }
                _ => Err(CelError::NoOverload),
            }
        }
        [list, rest @ ..] => match list.elements() {
            Some(elements) => lists::method(name, &elements, rest),
            None => Err(CelError::NoOverload),
        },
        [] => Err(CelError::NoOverload),
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

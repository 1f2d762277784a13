//! Functions and operators by name.

use std::rc::Rc;

use cel::common::ast::{CallExpr, operators};

use super::{
    CelError, Val, addresses,
    eval::{Eval, is_lazy},
    formats, lists, macros, maths, operators as ops, semver, strings, templates, times,
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
        // Texts have a `contains` too, of another cost.
        let cost = match (library, args.as_slice()) {
            ("sets", [a, b]) => product(a, b),
            _ => cost(name, &args),
        };
        eval.spend(cost)?;
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
    if name == macros::MAP_INSERT {
        eval.spend(1)?;
        return map_insert(args);
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

fn arguments<'e, 'v>(
    eval: &mut Eval<'e, 'v>,
    call: &'e CallExpr,
) -> Result<Vec<Val<'v>>, CelError> {
    call.args.iter().map(|arg| eval.expr(arg)).collect()
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
        "math" => maths::is_function(function),
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
        ("math", name, args) => maths::library(name, args),
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

/// What a call costs: one, and more where it looks at whole texts and lists.
fn cost(name: &str, args: &[Val<'_>]) -> u64 {
    let size = |at: usize| {
        let size = args.get(at).and_then(Val::size).unwrap_or(0);
        u64::try_from(size).unwrap_or(u64::MAX)
    };
    of_sizes(name, size(0), size(1))
}

/// Each element of one list against each of another.
fn product(a: &Val<'_>, b: &Val<'_>) -> u64 {
    let size = |value: &Val<'_>| u64::try_from(value.size().unwrap_or(0)).unwrap_or(u64::MAX);
    size(a).saturating_mul(size(b)).max(1)
}

/// The same, from the sizes of the first two arguments.
fn of_sizes(name: &str, first: u64, second: u64) -> u64 {
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
        "startsWith" | "endsWith" | "validate" => texts(second),
        "isSorted" | "sum" | "max" | "min" | "flatten" | "reverse" | "slice" | "sort" => first,
        // Each element against each other one.
        "distinct" => first.saturating_mul(first),
        "equivalent" | "intersects" => first.saturating_mul(second),
        macros::SORT_BY => first.saturating_add(second),
        "lowerAscii" | "upperAscii" | "substring" | "trim" | "join" | "url" | "isURL"
        | "format" | "quote" | "semver" | "isSemver" | "quantity" | "isQuantity" | "ip"
        | "isIP" | "cidr" | "isCIDR" | "string" | "bytes" => texts(first),
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
        [Val::String(template), args] if name == "format" => match args.elements() {
            Some(args) => templates::format(template, &args),
            None => Err(CelError::NoOverload),
        },
        [Val::String(text), rest @ ..] => strings::method(name, text, rest),
        [Val::Format(format), Val::String(text)] if name == "validate" => Ok(format.validate(text)),
        [Val::Semver(version), rest @ ..] => semver::method(name, version, rest),
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

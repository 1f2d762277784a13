//! Functions of lists: Kubernetes' own, and those of CEL's `lists` and `sets`.

use std::rc::Rc;

use cel::common::ast::operators;

use super::{CelError, Val, operators as ops, strings};

type Found<'v> = Result<Val<'v>, CelError>;

/// The longest list that a function makes of a number.
const RANGE_LIMIT: i64 = 1_000_000;

fn failed<'v>(text: impl Into<String>) -> Found<'v> {
    Err(CelError::Failed(text.into()))
}

fn made<'v>(list: impl IntoIterator<Item = Val<'v>>) -> Found<'v> {
    Ok(Val::List(Rc::new(list.into_iter().collect())))
}

/// `lists.range(n)`.
pub(super) fn range<'v>(args: &[Val<'v>]) -> Found<'v> {
    match args {
        [Val::Int(n)] if *n > RANGE_LIMIT => Err(CelError::Cost),
        [Val::Int(n)] => made((0..*n).map(Val::Int)),
        _ => Err(CelError::NoOverload),
    }
}

/// `sets.contains(a, b)` and so on.
pub(super) fn sets<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    let [a, b] = args else {
        return Err(CelError::NoOverload);
    };
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

/// `list.name(…)`.
pub(super) fn method<'v>(name: &str, list: &[Val<'v>], rest: &[Val<'v>]) -> Found<'v> {
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
        ("min" | "max", []) => extreme(name, list),
        ("indexOf", [value]) => Ok(position(list.iter().position(|v| v.equals(value)))),
        ("lastIndexOf", [value]) => Ok(position(list.iter().rposition(|v| v.equals(value)))),
        ("join", rest) => strings::join(list, rest),
        ("reverse", []) => made(list.iter().rev().cloned()),
        ("distinct", []) => {
            let mut out: Vec<Val<'v>> = Vec::new();
            for value in list {
                if !out.iter().any(|known| known.equals(value)) {
                    out.push(value.clone());
                }
            }
            made(out)
        }
        ("slice", [Val::Int(start), Val::Int(end)]) => slice(list, *start, *end),
        ("sort", []) => {
            let keys = list.to_vec();
            sorted(list, &keys)
        }
        (super::macros::SORT_BY, [keys]) => {
            let keys = keys.elements().ok_or(CelError::NoOverload)?;
            sorted(list, &keys)
        }
        ("flatten", []) => made(flat(list, 1)),
        ("flatten", [Val::Int(depth)]) => match u32::try_from(*depth) {
            Ok(depth) => made(flat(list, depth)),
            Err(_) => failed("level must be non-negative"),
        },
        ("unwrap" | "unwrapOpt", []) => {
            let there = list.iter().filter_map(|value| match value {
                Val::Optional(found) => found.as_ref().map(|value| Ok((**value).clone())),
                _ => Some(Err(CelError::NoOverload)),
            });
            Ok(Val::List(Rc::new(there.collect::<Result<_, _>>()?)))
        }
        _ => Err(CelError::NoOverload),
    }
}

fn extreme<'v>(name: &str, list: &[Val<'v>]) -> Found<'v> {
    let mut values = list.iter();
    let Some(first) = values.next() else {
        return failed(format!("{name} called on empty list"));
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

fn slice<'v>(list: &[Val<'v>], start: i64, end: i64) -> Found<'v> {
    let size = i64::try_from(list.len()).unwrap_or(i64::MAX);
    if start < 0 || end < 0 {
        return failed(format!(
            "cannot slice({start}, {end}), negative indexes not supported"
        ));
    }
    if start > end {
        return failed(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        ));
    }
    if size < end {
        return failed(format!(
            "cannot slice({start}, {end}), list is length {size}"
        ));
    }
    let at = |n: i64| usize::try_from(n).unwrap_or(0);
    made(list[at(start)..at(end)].iter().cloned())
}

/// The elements in the order of their keys.
fn sorted<'v>(list: &[Val<'v>], keys: &[Val<'v>]) -> Found<'v> {
    if list.len() != keys.len() {
        return failed(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list",
        );
    }
    let Some(first) = keys.first() else {
        return made([]);
    };
    let kind = first.type_name();
    let comparable = first.compare(first).is_some();
    if !comparable || keys.iter().any(|key| key.type_name() != kind) {
        return failed(if comparable {
            "list elements must have the same type"
        } else {
            "list elements must be comparable"
        });
    }
    let mut order: Vec<usize> = (0..list.len()).collect();
    order.sort_by(|a, b| {
        keys[*a]
            .compare(&keys[*b])
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    made(order.into_iter().map(|at| list[at].clone()))
}

fn flat<'v>(list: &[Val<'v>], depth: u32) -> Vec<Val<'v>> {
    let mut out = Vec::with_capacity(list.len());
    for value in list {
        match value.elements().filter(|_| depth > 0) {
            Some(inner) => out.extend(flat(&inner, depth - 1)),
            None => out.push(value.clone()),
        }
    }
    out
}

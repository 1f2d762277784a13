//! What calls cost when they are evaluated: cel-go's table (`interpreter/runtimecost.go`, and the extensions'
//! trackers), and Kubernetes' for its own functions (apiserver's `pkg/cel/library/cost.go`).

use std::net::IpAddr;

use cel::common::ast::operators;
use serde_json::Value as Json;

use super::{Val, check::scaled, macros};

/// How much of a text is looked at for one unit.
const TEXT: f64 = 0.1;
/// What a character of a regular expression costs.
const REGEX: f64 = 0.25;
/// What one question to the authorizer costs: an expression may ask twice.
const CHECK: u64 = 350_000;
pub(super) const NEW_LIST: u64 = 10;
pub(super) const NEW_MAP: u64 = 30;
pub(super) const NEW_OBJECT: u64 = 40;

fn tenth(size: u64) -> u64 {
    scaled(size, TEXT)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// How large a value is taken to be.
fn size(value: &Val<'_>) -> u64 {
    match value {
        Val::Ip(IpAddr::V4(_)) => 4,
        Val::Ip(IpAddr::V6(_)) => 16,
        Val::Cidr(_, bits) => u64::from(bits.div_ceil(8)),
        Val::Optional(Some(inner)) => size(inner),
        value => value.size().map_or(1, wide),
    }
}

/// What it costs to look at all of a value.
fn traversal(value: &Val<'_>) -> u64 {
    // Here texts are counted in bytes, and what is left over is not.
    let bytes = |n: usize| wide(n) / 10;
    match value {
        Val::String(text) => bytes(text.len()),
        Val::Bytes(all) => bytes(all.len()),
        Val::List(list) => list.iter().fold(0, |sum, v| sum + traversal(v)),
        Val::Merged(list) => list.elements.iter().fold(0, |sum, v| sum + traversal(v)),
        Val::Map(map) => map
            .iter()
            .fold(0, |sum, (key, v)| sum + traversal(key) + traversal(v)),
        Val::Json(json, _) => of_json(json),
        _ => 1,
    }
}

fn of_json(json: &Json) -> u64 {
    match json {
        Json::String(text) => wide(text.len()) / 10,
        Json::Array(list) => list.iter().fold(0, |sum, v| sum + of_json(v)),
        Json::Object(fields) => fields
            .iter()
            .fold(0, |sum, (key, v)| sum + wide(key.len()) / 10 + of_json(v)),
        _ => 1,
    }
}

fn matching(text: u64, pattern: u64) -> u64 {
    tenth(text.saturating_add(1)).saturating_mul(scaled(pattern, REGEX))
}

fn new_list(size: u64) -> u64 {
    size.saturating_add(NEW_LIST + 1)
}

/// Each element of a list against each.
fn self_compared(list: &Val<'_>) -> u64 {
    let first = match list {
        Val::List(list) => list.first().cloned(),
        Val::Merged(list) => list.elements.first().cloned(),
        Val::Json(Json::Array(elements), schema) => {
            let items = schema.and_then(|s| s.items.as_deref());
            elements.first().map(|json| Val::of(json, items))
        }
        _ => None,
    };
    let factor = match first {
        Some(Val::String(_) | Val::Bytes(_)) => 2.0 + TEXT,
        _ => 2.0,
    };
    let pairs = size(list).saturating_mul(size(list));
    new_list(truncated(pairs, factor))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream counts so; casts of floats saturate"
)]
fn truncated(n: u64, factor: f64) -> u64 {
    (n as f64 * factor) as u64
}

fn whole(value: Option<&Val<'_>>) -> u64 {
    match value {
        Some(Val::Int(n)) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}

/// How long the text is that a list is joined to.
fn joined(list: &Val<'_>, rest: &[Val<'_>]) -> u64 {
    let (count, texts) = match list {
        Val::List(list) => (list.len(), list.iter().fold(0, |sum, v| sum + size(v))),
        Val::Merged(list) => {
            let texts = list.elements.iter().fold(0, |sum, v| sum + size(v));
            (list.elements.len(), texts)
        }
        Val::Json(Json::Array(list), _) => {
            let chars = |json: &Json| json.as_str().map_or(1, |text| text.chars().count());
            let texts = list.iter().fold(0, |sum, json| sum + wide(chars(json)));
            (list.len(), texts)
        }
        _ => (0, 0),
    };
    let between = rest.first().map_or(0, size);
    let gaps = wide(count.saturating_sub(1));
    texts.saturating_add(between.saturating_mul(gaps))
}

/// What a call costs whose arguments are evaluated. What is called of a value has it as its first argument, and is a
/// member. Which overload is called says something only if that is `resolved` before there are values.
pub(super) fn of_call(name: &str, is_member: bool, args: &[Val<'_>], resolved: bool) -> u64 {
    let of = |at: usize| args.get(at).map_or(0, size);
    let (first, second) = (of(0), of(1));
    match (name, args) {
        ("check", _) => CHECK,
        ("fieldSelector" | "labelSelector", [_, _]) => {
            let each = scaled(scaled(second, 0.5), (NEW_LIST + NEW_OBJECT) as f64);
            NEW_LIST + tenth(second) + each
        }
        (
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes",
            [value, ..],
        ) => traversal(value),
        ("url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey", _)
        | ("cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver", _) => {
            tenth(first)
        }
        ("ip", _) if !is_member => tenth(first),
        ("replace" | "split" | "ip.isCanonical", _) => scaled(first, 2.0 * TEXT),
        ("join", [list, rest @ ..]) => scaled(joined(list, rest), 2.0 * TEXT),
        ("find" | "findAll", [_, _, ..]) => matching(first, second),
        ("containsIP" | "containsCIDR", [_, other]) => {
            let mut cost = tenth(first * 2);
            if name == "containsCIDR" {
                cost += tenth(first) + 1;
            }
            if resolved && matches!(other, Val::String(_)) {
                cost += tenth(second);
            }
            cost
        }
        ("validate", [Val::Format(format), _]) => matching(second, format.longest_pattern()),
        (operators::EQUALS, [one, _]) if is_own(one) => 1,
        (operators::EQUALS | operators::NOT_EQUALS, [_, _]) => tenth(first.min(second)),
        _ if resolved => of_overload(name, args, first, second),
        _ => 1,
    }
}

/// What depends on the overload.
fn of_overload(name: &str, args: &[Val<'_>], first: u64, second: u64) -> u64 {
    match (name, args) {
        ("startsWith" | "endsWith", [_, _]) => tenth(second),
        ("strings.quote", [_])
        | ("format", [Val::String(_), _])
        | ("bytes", [Val::String(_)])
        | ("string", [Val::Bytes(_)]) => tenth(first),
        (
            operators::IN,
            [
                _,
                Val::List(_) | Val::Merged(_) | Val::Json(Json::Array(_), _),
            ],
        ) => second,
        (
            operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS,
            [
                Val::String(_) | Val::Bytes(_),
                Val::String(_) | Val::Bytes(_),
            ],
        ) => tenth(first.min(second)),
        (operators::ADD, [Val::String(_), Val::String(_)] | [Val::Bytes(_), Val::Bytes(_)]) => {
            tenth(first.saturating_add(second))
        }
        ("matches", [_, _]) => matching(first, second),
        ("contains", [_, _]) => tenth(first).saturating_mul(tenth(second)),
        // The trackers of cel-go's extensions for lists and sets.
        ("slice", [_, from, to]) => new_list(whole(Some(to)).saturating_sub(whole(Some(from)))),
        ("lists.range", [n]) => new_list(whole(Some(n))),
        ("reverse", [_]) => new_list(first),
        ("flatten", [_]) => new_list(first),
        ("flatten", [_, depth]) => new_list(first.saturating_mul(whole(Some(depth)))),
        ("distinct" | "sort", [list]) | (macros::SORT_BY, [_, list]) => self_compared(list),
        ("sets.contains" | "sets.intersects", [_, _]) => {
            first.saturating_mul(second).saturating_add(1)
        }
        ("sets.equivalent", [_, _]) => first
            .saturating_mul(second)
            .saturating_mul(2)
            .saturating_add(1),
        _ => 1,
    }
}

/// Whether two of its type are compared at once, whatever they are.
fn is_own(value: &Val<'_>) -> bool {
    matches!(
        value,
        Val::Quantity(_)
            | Val::Ip(_)
            | Val::Cidr(..)
            | Val::Format(_)
            | Val::Url(_)
            | Val::Semver(_)
            | Val::Host(_)
    )
}

/// How many values are in a value, up to a limit: what has one price whatever its size takes that many steps.
pub(super) fn weight(value: &Val<'_>, limit: u64) -> u64 {
    fn json(value: &Json, left: &mut u64) {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        match value {
            Json::String(text) => *left = left.saturating_sub(wide(text.len()) / 64),
            Json::Array(list) => list.iter().for_each(|v| json(v, left)),
            Json::Object(fields) => fields.values().for_each(|v| json(v, left)),
            _ => {}
        }
    }
    fn walk(value: &Val<'_>, left: &mut u64) {
        if *left == 0 {
            return;
        }
        match value {
            Val::Json(value, _) => return json(value, left),
            Val::String(text) => *left = left.saturating_sub(wide(text.len()) / 64),
            Val::Bytes(all) => *left = left.saturating_sub(wide(all.len()) / 64),
            Val::List(list) => list.iter().for_each(|v| walk(v, left)),
            Val::Merged(list) => list.elements.iter().for_each(|v| walk(v, left)),
            // Each entry is sought among the other's.
            Val::Map(map) => {
                *left = left.saturating_sub(wide(map.len()).saturating_mul(wide(map.len())));
                map.iter().for_each(|(_, v)| walk(v, left));
            }
            Val::Optional(Some(inner)) => walk(inner, left),
            _ => {}
        }
        *left = left.saturating_sub(1);
    }
    let mut left = limit;
    walk(value, &mut left);
    limit - left
}

#[cfg(test)]
mod tests;

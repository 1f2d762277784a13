//! Functions of texts.

use std::rc::Rc;

use regex::Regex;

use super::{CelError, Val};
use crate::patterns;

type Found<'v> = Result<Val<'v>, CelError>;

/// How large a compiled regular expression may be.
const REGEX_LIMIT: usize = 1 << 20;

/// `text.name(…)`.
pub(super) fn method<'v>(name: &str, text: &str, rest: &[Val<'v>]) -> Found<'v> {
    match (name, rest) {
        ("contains", [Val::String(part)]) => Ok(text.contains(&**part).into()),
        ("startsWith", [Val::String(part)]) => Ok(text.starts_with(&**part).into()),
        ("endsWith", [Val::String(part)]) => Ok(text.ends_with(&**part).into()),
        ("charAt", [Val::Int(at)]) => {
            let length = text.chars().count();
            let at = usize::try_from(*at).ok().filter(|at| *at <= length);
            let at = at.ok_or_else(|| out_of_range("index"))?;
            let found = text.chars().nth(at);
            Ok(found.map(String::from).unwrap_or_default().into())
        }
        ("indexOf" | "lastIndexOf", [Val::String(part), from @ ..]) => {
            let from = match from {
                [] => None,
                [Val::Int(n)] => Some(usize::try_from(*n).map_err(|_| out_of_range("index"))?),
                _ => return Err(CelError::NoOverload),
            };
            Ok(Val::Int(position(text, part, from, name == "lastIndexOf")))
        }
        ("lowerAscii", []) => Ok(text.to_ascii_lowercase().into()),
        ("upperAscii", []) => Ok(text.to_ascii_uppercase().into()),
        ("replace", [Val::String(from), Val::String(to), count @ ..]) => match count {
            [] => Ok(bounded(text, from, to, usize::MAX)?.into()),
            [Val::Int(n)] => {
                let n = usize::try_from(*n).unwrap_or(usize::MAX);
                Ok(bounded(text, from, to, n)?.into())
            }
            _ => Err(CelError::NoOverload),
        },
        ("split", [Val::String(by), count @ ..]) => {
            let count = match count {
                [] => -1,
                [Val::Int(n)] => *n,
                _ => return Err(CelError::NoOverload),
            };
            Ok(Val::List(Rc::new(split(text, by, count))))
        }
        ("substring", [Val::Int(from), to @ ..]) => {
            let chars: Vec<char> = text.chars().collect();
            let to = match to {
                [] => chars.len(),
                [Val::Int(n)] => usize::try_from(*n).map_err(|_| out_of_range("index"))?,
                _ => return Err(CelError::NoOverload),
            };
            let from = usize::try_from(*from).map_err(|_| out_of_range("index"))?;
            let part = chars.get(from..to).ok_or_else(|| out_of_range("index"))?;
            Ok(part.iter().collect::<String>().into())
        }
        ("trim", []) => Ok(text.trim().into()),
        _ => Err(CelError::NoOverload),
    }
}

/// `text.matches(pattern)`, `find` and `findAll`.
pub(super) fn matched<'v>(name: &str, text: &str, regex: &Regex, rest: &[Val<'v>]) -> Found<'v> {
    match (name, rest) {
        ("matches", []) => Ok(regex.is_match(text).into()),
        ("find", []) => Ok(regex.find(text).map_or("", |m| m.as_str()).into()),
        ("findAll", limit) => {
            let limit = match limit {
                [] => usize::MAX,
                [Val::Int(n)] => usize::try_from(*n).unwrap_or(usize::MAX),
                _ => return Err(CelError::NoOverload),
            };
            let found = regex.find_iter(text).take(limit).map(|m| m.as_str().into());
            Ok(Val::List(Rc::new(found.collect())))
        }
        _ => Err(CelError::NoOverload),
    }
}

fn out_of_range(what: &str) -> CelError {
    CelError::Failed(format!("{what} out of range"))
}

/// A compiled pattern, or what Go says of it.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    patterns::compile_within(pattern, REGEX_LIMIT)
}

/// A text with a part replaced, unless that makes it huge.
fn bounded(text: &str, from: &str, to: &str, count: usize) -> Result<String, CelError> {
    let times = text.matches(from).take(count).count();
    if times.saturating_mul(to.len()).saturating_add(text.len()) > 16 << 20 {
        return Err(CelError::Cost);
    }
    Ok(text.replacen(from, to, count))
}

/// Where a part is, in characters; -1 if nowhere.
fn position(text: &str, part: &str, from: Option<usize>, last: bool) -> i64 {
    let byte = |chars: usize| {
        text.char_indices()
            .nth(chars)
            .map_or(text.len(), |(at, _)| at)
    };
    let found = match (last, from) {
        (false, None) => text.find(part),
        (false, Some(from)) => {
            let start = byte(from);
            text[start..].find(part).map(|at| start + at)
        }
        (true, None) => text.rfind(part),
        (true, Some(from)) => {
            let end = (byte(from) + part.len()).min(text.len());
            text.get(..end).and_then(|head| head.rfind(part))
        }
    };
    found
        .and_then(|at| i64::try_from(text[..at].chars().count()).ok())
        .unwrap_or(-1)
}

fn split<'v>(text: &str, by: &str, count: i64) -> Vec<Val<'v>> {
    match count {
        0 => Vec::new(),
        _ if by.is_empty() => text.chars().map(|c| c.to_string().into()).collect(),
        n if n > 0 => {
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            text.splitn(n, by).map(Val::from).collect()
        }
        _ => text.split(by).map(Val::from).collect(),
    }
}

/// `list.join(…)`.
pub(super) fn join<'v>(list: &[Val<'v>], rest: &[Val<'v>]) -> Found<'v> {
    let between = match rest {
        [] => "",
        [Val::String(text)] => text,
        _ => return Err(CelError::NoOverload),
    };
    let mut out = String::new();
    for (at, element) in list.iter().enumerate() {
        let Val::String(text) = element else {
            return Err(CelError::NoOverload);
        };
        if at > 0 {
            out.push_str(between);
        }
        out.push_str(text);
    }
    Ok(out.into())
}

//! Kubernetes' library of semantic versions: `semver("1.2.3").isLessThan(semver("1.3.0"))`.

use std::{cmp::Ordering, rc::Rc};

use super::{CelError, Val};

type Found<'v> = Result<Val<'v>, CelError>;

/// A semantic version (<https://semver.org>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    /// The identifiers of a pre-release.
    pre: Vec<Identifier>,
    /// Says nothing about order.
    build: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    // Numbers come before words.
    Number(u64),
    Word(String),
}

/// A part of a version: digits without zeros in front.
fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("Number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .map_err(|_| format!("number {text:?} is too large"))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Semver {
    /// Reads a version.
    ///
    /// # Errors
    ///
    /// With upstream's text if it is none.
    pub fn parse(text: &str) -> Result<Semver, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let (rest, build) = match text.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match rest.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (rest, None),
        };
        let parts: Vec<&str> = core.split('.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let numbers = [number(major)?, number(minor)?, number(patch)?];
        let identifiers = pre.into_iter().flat_map(|pre| pre.split('.'));
        let pre = identifiers.map(|part| {
            if !is_identifier(part) {
                return Err(format!("Invalid character(s) found in prerelease {part:?}"));
            }
            match part.bytes().all(|b| b.is_ascii_digit()) {
                true => number(part).map(Identifier::Number),
                false => Ok(Identifier::Word(part.to_owned())),
            }
        });
        let pre = pre.collect::<Result<_, _>>()?;
        let build: Vec<String> = build
            .into_iter()
            .flat_map(|build| build.split('.').map(str::to_owned))
            .collect();
        if let Some(part) = build.iter().find(|part| !is_identifier(part)) {
            return Err(format!(
                "Invalid character(s) found in build meta data {part:?}"
            ));
        }
        Ok(Semver {
            numbers,
            pre,
            build,
        })
    }

    /// As upstream makes a version of what nearly is one: without a `v` in front and zeros before numbers, and
    /// with zeros for the numbers that are left out.
    fn normalised(text: &str) -> String {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (core, rest) = text.split_at(end);
        let mut parts: Vec<&str> = core
            .split('.')
            .map(|part| match part.trim_start_matches('0') {
                "" if !part.is_empty() => "0",
                part => part,
            })
            .collect();
        while parts.len() < 3 {
            parts.push("0");
        }
        parts.join(".") + rest
    }

    /// Which comes first; what is said of the build does not count.
    pub(super) fn order(&self, other: &Semver) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self.pre.cmp(&other.pre),
            }
        })
    }
}

/// `semver(…)` and `isSemver(…)`.
pub(super) fn parse<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    let found = match args {
        [Val::String(text)] | [Val::String(text), Val::Bool(false)] => Semver::parse(text),
        [Val::String(text), Val::Bool(true)] => Semver::parse(&Semver::normalised(text)),
        _ => return Err(CelError::NoOverload),
    };
    match found {
        found if name == "isSemver" => Ok(found.is_ok().into()),
        Ok(version) => Ok(Val::Semver(Rc::new(version))),
        Err(text) => Err(CelError::Failed(text)),
    }
}

/// `version.major()` and so on.
pub(super) fn method<'v>(name: &str, version: &Semver, rest: &[Val<'v>]) -> Found<'v> {
    let part = |at: usize| {
        Ok(Val::Int(
            i64::try_from(version.numbers[at]).unwrap_or(i64::MAX),
        ))
    };
    match (name, rest) {
        ("major", []) => part(0),
        ("minor", []) => part(1),
        ("patch", []) => part(2),
        ("isLessThan", [Val::Semver(other)]) => Ok(version.order(other).is_lt().into()),
        ("isGreaterThan", [Val::Semver(other)]) => Ok(version.order(other).is_gt().into()),
        ("compareTo", [Val::Semver(other)]) => Ok(Val::Int(version.order(other) as i64)),
        _ => Err(CelError::NoOverload),
    }
}

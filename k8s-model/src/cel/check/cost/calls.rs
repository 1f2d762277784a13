//! What functions cost besides their arguments, and how large their results are.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{
    Coster, Known, NEW_LIST, NEW_OBJECT, element,
    size::{Size, UNKNOWN, replaced, scaled},
    size_of,
};
use crate::cel::check::{functions::Overload, types::Type};

/// How many characters are looked at for one unit.
const TEXT: f64 = 0.1;
/// How long the regular expression of a named format is taken to be.
const FORMAT_REGEX: f64 = 128.0;
/// What a character of a regular expression costs.
const REGEX: f64 = 0.25;
/// What asking the authorizer costs: an expression may ask twice.
const CHECK: u64 = 350_000;

/// What a call is given: what is known of it, its type, and how it is written.
pub(super) type Argument<'e, 's> = (Known<'s>, Type<'s>, &'e IdedExpr);

/// A function as it is called.
pub(super) struct Function<'f, 's> {
    pub(super) name: &'f str,
    pub(super) target: Option<&'f Argument<'f, 's>>,
    pub(super) args: &'f [Argument<'f, 's>],
}

impl Function<'_, '_> {
    /// An argument that is written as a number, or what else to take.
    fn number(&self, at: usize, otherwise: u64) -> u64 {
        match self.args.get(at).map(|(.., arg)| &arg.expr) {
            Some(Expr::Literal(LiteralValue::Int(n))) => {
                u64::try_from(*n.inner()).unwrap_or(otherwise)
            }
            _ => otherwise,
        }
    }
}

/// What a call costs that makes a list of that size, and that size.
fn made_list(factor: f64, size: Size) -> (u64, Option<Size>) {
    let cost = scaled(size.max, factor).saturating_add(NEW_LIST + 1);
    (cost, Some(size))
}

impl<'s> Coster<'_, 's> {
    /// What a function costs besides its arguments, called so, and how large its result is.
    pub(super) fn function(
        &mut self,
        call: &Function<'_, 's>,
        overload: &Overload,
    ) -> (u64, Option<Size>) {
        let arg = |at: usize| call.args.get(at).map_or(UNKNOWN, size_of);
        let target = call.target.map(size_of);
        let text = |size: Size| scaled(size.max, TEXT);
        let takes = |at: usize| overload.takes.get(at);
        match (call.name, target) {
            ("check", _) => (CHECK, None),
            ("fieldSelector" | "labelSelector", _) => {
                let length = arg(0);
                let requirements = scaled(scaled(length.max, 0.5), (NEW_LIST + NEW_OBJECT) as f64);
                (
                    NEW_LIST
                        .saturating_add(text(length))
                        .saturating_add(requirements),
                    None,
                )
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(size)) => {
                match call.target.and_then(|target| self.elements_of(target)) {
                    Some((elements, ty)) => {
                        let more = match ty {
                            Type::String | Type::Bytes => text(elements),
                            _ => 0,
                        };
                        (size.max.saturating_mul(1_u64.saturating_add(more)), None)
                    }
                    None => (text(size), None),
                }
            }
            ("url" | "jsonpatch.escapeKey", None) => (text(arg(0)), Some(arg(0))),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(size)) => {
                (text(size), Some(size))
            }
            ("replace", Some(size)) => (
                scaled(size.max, 2.0 * TEXT),
                Some(replaced(size, arg(0), arg(1))),
            ),
            ("split", Some(size)) => {
                let max = call.number(1, size.max);
                (scaled(size.max, 2.0 * TEXT), Some(Size { min: 0, max }))
            }
            ("join", Some(size)) => {
                let elements = call.target.and_then(|target| self.elements_of(target));
                let mut out = elements.map_or(Size::exactly(0), |(of, _)| size.times(of));
                if !call.args.is_empty() {
                    out = out.plus(arg(0).times(Size {
                        min: size.min.saturating_sub(1),
                        max: size.max.saturating_sub(1),
                    }));
                }
                (text(out), Some(out))
            }
            ("find" | "findAll", Some(size)) => {
                let texts = scaled(size.max.saturating_add(1), TEXT);
                let result = Size {
                    min: 0,
                    max: size.max,
                };
                (
                    texts.saturating_mul(scaled(arg(0).max, REGEX)),
                    Some(result),
                )
            }
            ("ip", Some(_)) => (1, None),
            (
                "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver"
                | "isSemver",
                None,
            ) => (text(arg(0)), None),
            ("ip.isCanonical", _) => (scaled(arg(0).max, 2.0 * TEXT), None),
            ("containsIP" | "containsCIDR", Some(_)) => {
                // Addresses have up to 16 bytes, and both are looked at.
                let mut cost = scaled(32, TEXT);
                if call.name == "containsCIDR" {
                    cost += scaled(16, TEXT) + 1;
                }
                if matches!(takes(1), Some(Type::String)) {
                    cost = cost.saturating_add(text(arg(0)));
                }
                (cost, None)
            }
            ("validate", Some(_)) => (scaled(text(arg(0)), FORMAT_REGEX * REGEX), None),
            ("format", Some(size)) => (text(size), None),
            ("bytes", None) if matches!(takes(0), Some(Type::String)) => {
                let size = arg(0);
                let max = size.max.saturating_mul(4);
                (text(size), Some(Size { max, ..size }))
            }
            ("string", None) if matches!(takes(0), Some(Type::Bytes)) => {
                let size = arg(0);
                let min = size.min / 4;
                (text(size), Some(Size { min, ..size }))
            }
            ("strings.quote", _) => {
                let size = arg(0);
                let two = Size::exactly(2);
                let result = Size {
                    min: size.min,
                    max: size.max.saturating_mul(2),
                };
                (text(size), Some(result.plus(two)))
            }
            ("startsWith" | "endsWith", Some(_)) => (text(arg(0)), None),
            (operators::IN, _) => match takes(1) {
                Some(Type::List(_)) => (arg(1).max, None),
                _ => (1, None),
            },
            ("matches", _) => {
                let (text, pattern) = match target {
                    Some(target) => (target, arg(0)),
                    None => (arg(0), arg(1)),
                };
                let texts = scaled(text.max.saturating_add(1), TEXT);
                (texts.saturating_mul(scaled(pattern.max, REGEX)), None)
            }
            ("contains", Some(size)) => (text(size).saturating_mul(text(arg(0))), None),
            (operators::ADD, _) => match takes(0) {
                Some(Type::List(_)) => (1, Some(arg(0).plus(arg(1)))),
                Some(Type::String | Type::Bytes) => {
                    let size = arg(0).plus(arg(1));
                    (text(size), Some(size))
                }
                _ => (1, None),
            },
            (operators::EQUALS | operators::NOT_EQUALS, _) => {
                let own = call.args.first().map(|(_, ty, _)| ty);
                match own {
                    Some(Type::Own(_)) if call.name == operators::EQUALS => (1, None),
                    _ => (scaled(arg(0).max.min(arg(1).max), TEXT), None),
                }
            }
            (
                operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS,
                _,
            ) if matches!(takes(0), Some(Type::String | Type::Bytes)) => {
                (scaled(arg(0).max.min(arg(1).max), TEXT), None)
            }
            // Of cel-go's extension for lists.
            ("slice", Some(size)) => {
                let (from, to) = (call.number(0, 0), call.number(1, size.max));
                made_list(1.0, Size::exactly(to.saturating_sub(from)))
            }
            ("lists.range", _) => made_list(1.0, Size::exactly(call.number(0, u64::MAX))),
            ("reverse", Some(size)) if matches!(takes(0), Some(Type::List(_))) => {
                made_list(1.0, size)
            }
            ("flatten", Some(size)) => {
                let depth = match call.args.is_empty() {
                    true => 1,
                    false => call.number(0, u64::MAX),
                };
                made_list(depth as f64, size)
            }
            ("distinct", Some(size)) => made_list(2.0, size.times(size)),
            ("sort" | "@sortBy", Some(size)) => {
                let (keys, of) = match call.name {
                    "sort" => (size, call.target),
                    _ => (arg(0), call.args.first()),
                };
                let factor = match of.map(|(_, ty, _)| ty) {
                    Some(Type::List(of)) if matches!(**of, Type::String | Type::Bytes) => {
                        2.0 + TEXT
                    }
                    _ => 2.0,
                };
                made_list(factor, keys.times(keys))
            }
            ("sets.contains" | "sets.equivalent" | "sets.intersects", _) => {
                let each = arg(0).max.saturating_mul(arg(1).max);
                let times = match call.name {
                    "sets.equivalent" => 2,
                    _ => 1,
                };
                (each.saturating_mul(times).saturating_add(1), None)
            }
            _ => (1, None),
        }
    }

    /// How large the elements of a list are, and their type. Nothing if it is no list.
    fn elements_of(&mut self, (known, ty, _): &Argument<'_, 's>) -> Option<(Size, Type<'s>)> {
        let Type::List(of) = ty else {
            return None;
        };
        let size = self.size(element(known.place), &Type::Dyn);
        Some((size.unwrap_or(UNKNOWN), (**of).clone()))
    }
}

//! CEL's library of numbers: `math.greatest(1, 2)`.

use super::{CelError, Val};

type Found<'v> = Result<Val<'v>, CelError>;

/// The functions that there are.
const NAMES: [&str; 18] = [
    "greatest",
    "least",
    "ceil",
    "floor",
    "round",
    "trunc",
    "abs",
    "sign",
    "isInf",
    "isNaN",
    "isFinite",
    "sqrt",
    "bitAnd",
    "bitOr",
    "bitXor",
    "bitNot",
    "bitShiftLeft",
    "bitShiftRight",
];

/// Whether `math` has a function of that name.
pub(super) fn is_function(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `math.name(…)`.
pub(super) fn library<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    match (name, args) {
        ("greatest" | "least", [list]) if list.elements().is_some() => {
            let elements = list.elements().unwrap_or_default();
            if elements.is_empty() {
                let text = format!("math.@{}(list) argument must not be empty", short(name));
                return Err(CelError::Failed(text));
            }
            extreme(name, &elements)
        }
        ("greatest" | "least", [_, ..]) => extreme(name, args),
        ("ceil" | "floor" | "round" | "trunc", [Val::Double(n)]) => Ok(Val::Double(match name {
            "ceil" => n.ceil(),
            "floor" => n.floor(),
            // Away from zero, as Go does.
            "round" => n.round(),
            _ => n.trunc(),
        })),
        ("isInf", [Val::Double(n)]) => Ok(n.is_infinite().into()),
        ("isNaN", [Val::Double(n)]) => Ok(n.is_nan().into()),
        ("isFinite", [Val::Double(n)]) => Ok(n.is_finite().into()),
        ("abs", [Val::Int(n)]) => {
            let overflow = || CelError::Failed("integer overflow".to_owned());
            n.checked_abs().map(Val::Int).ok_or_else(overflow)
        }
        ("abs" | "sign", [Val::Uint(n)]) => Ok(Val::Uint(if name == "abs" {
            *n
        } else {
            u64::from(*n > 0)
        })),
        ("abs", [Val::Double(n)]) => Ok(Val::Double(n.abs())),
        ("sign", [Val::Int(n)]) => Ok(Val::Int(n.signum())),
        ("sign", [Val::Double(n)]) => Ok(Val::Double(match n {
            n if n.is_nan() || *n == 0.0 => *n,
            n => n.signum(),
        })),
        ("sqrt", [value]) => number(value).map(|n| Val::Double(n.sqrt())),
        ("bitNot", [Val::Int(n)]) => Ok(Val::Int(!n)),
        ("bitNot", [Val::Uint(n)]) => Ok(Val::Uint(!n)),
        ("bitAnd" | "bitOr" | "bitXor", [Val::Int(a), Val::Int(b)]) => Ok(Val::Int(match name {
            "bitAnd" => a & b,
            "bitOr" => a | b,
            _ => a ^ b,
        })),
        ("bitAnd" | "bitOr" | "bitXor", [Val::Uint(a), Val::Uint(b)]) => {
            Ok(Val::Uint(match name {
                "bitAnd" => a & b,
                "bitOr" => a | b,
                _ => a ^ b,
            }))
        }
        ("bitShiftLeft" | "bitShiftRight", [value, Val::Int(by)]) => shift(name, value, *by),
        _ => Err(CelError::NoOverload),
    }
}

fn short(name: &str) -> &'static str {
    if name == "greatest" { "max" } else { "min" }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "as CEL takes roots of whole numbers"
)]
fn number(value: &Val<'_>) -> Result<f64, CelError> {
    match value {
        Val::Int(n) => Ok(*n as f64),
        Val::Uint(n) => Ok(*n as f64),
        Val::Double(n) => Ok(*n),
        _ => Err(CelError::NoOverload),
    }
}

fn extreme<'v>(name: &str, values: &[Val<'v>]) -> Found<'v> {
    let mut best = &values[0];
    for value in values {
        number(value)?;
        let Some(order) = value.compare(best) else {
            continue; // Not a number is neither.
        };
        if (name == "greatest" && order.is_gt()) || (name == "least" && order.is_lt()) {
            best = value;
        }
    }
    Ok(best.clone())
}

fn shift<'v>(name: &str, value: &Val<'v>, by: i64) -> Found<'v> {
    let Ok(by) = u32::try_from(by) else {
        let text = format!("math.{name}() negative offset: {by}");
        return Err(CelError::Failed(text));
    };
    let left = name == "bitShiftLeft";
    match value {
        Val::Int(n) if left => Ok(Val::Int(n.checked_shl(by).unwrap_or(0))),
        // The sign is not kept.
        Val::Int(n) => {
            let bits = n.cast_unsigned().checked_shr(by).unwrap_or(0);
            Ok(Val::Int(bits.cast_signed()))
        }
        Val::Uint(n) if left => Ok(Val::Uint(n.checked_shl(by).unwrap_or(0))),
        Val::Uint(n) => Ok(Val::Uint(n.checked_shr(by).unwrap_or(0))),
        _ => Err(CelError::NoOverload),
    }
}

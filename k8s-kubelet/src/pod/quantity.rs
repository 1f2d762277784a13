//! Just enough of Kubernetes quantities for what a node computes with them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths of its unit, rounded up; `None` if it can't be read.
pub(crate) fn milli(q: &Quantity) -> Option<i128> {
    let s = q.0.trim();
    let end = s
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && (*c == '-' || *c == '+'))))
        .map_or(s.len(), |(i, _)| i);
    let (number, suffix) = s.split_at(end);
    // In units of 10^-12, so that nano-quantities stay exact before rounding.
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1i128, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction12: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(12)
        .collect();
    let fraction12: i128 = fraction12.parse().ok()?;
    const PICO: i128 = 1_000_000_000_000;
    let pico = whole.checked_mul(PICO)?.checked_add(fraction12)?;
    let (mul, div): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let e: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(e.unsigned_abs())?;
            if e < 0 { (1, factor) } else { (factor, 1) }
        }
    };
    let scaled = pico
        .checked_mul(mul)
        .map(|v| v / div)
        .or_else(|| pico.checked_div(div)?.checked_mul(mul))?;
    let unit = PICO / 1000;
    Some(sign * ((scaled + unit - 1) / unit))
}

/// A quantity in its unit, rounded up.
pub(crate) fn value(q: &Quantity) -> Option<i64> {
    let m = milli(q)?;
    i64::try_from(if m >= 0 { (m + 999) / 1000 } else { m / 1000 }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(s: &str) -> Quantity {
        Quantity(s.to_owned())
    }

    #[test]
    fn quantities_are_read_in_all_notations() {
        assert_eq!(milli(&q("100m")), Some(100));
        assert_eq!(milli(&q("0.5")), Some(500));
        assert_eq!(milli(&q("1")), Some(1000));
        assert_eq!(milli(&q("1u")), Some(1), "rounds up");
        assert_eq!(value(&q("64Mi")), Some(64 << 20));
        assert_eq!(value(&q("1e3")), Some(1000));
        assert_eq!(value(&q("1.5Gi")), Some(3 << 29));
        assert_eq!(value(&q("8E")), Some(8_000_000_000_000_000_000));
        assert_eq!(value(&q("nonsense")), None);
        assert_eq!(value(&q("")), None);
    }
}

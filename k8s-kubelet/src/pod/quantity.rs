//! Quantities as the numbers that a node computes with.

use k8s_model::quantity::Amount;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths of its unit, rounded up; `None` if it can't be read.
pub(crate) fn milli(q: &Quantity) -> Option<i128> {
    Amount::parse(&q.0)
        .ok()
        .map(|a| i128::from(a.milli_value()))
}

/// A quantity in its unit, rounded up.
pub(crate) fn value(q: &Quantity) -> Option<i64> {
    Amount::parse(&q.0).ok().map(|a| a.value())
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

//! A number of pods that may be told as a percentage.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number, or a percentage of `total`. Something that is neither counts as zero; validation does
/// not let it in.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|percent| percent.parse().ok())
                .unwrap_or(0);
            let product = percent.max(0) * i64::from(total.max(0));
            let value = if round_up {
                (product + 99) / 100
            } else {
                product / 100
            };
            i32::try_from(value).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_towards_moving() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&percent("25%"), 10, true), 3);
        assert_eq!(scaled(&percent("25%"), 10, false), 2);
        assert_eq!(scaled(&percent("100%"), 7, true), 7);
        assert_eq!(scaled(&percent("nonsense"), 7, true), 0);
        assert_eq!(scaled(&IntOrString::Int(4), 1, true), 4);
    }
}

//! Resource quantities, as in `500m` or `1Gi`: parsing, arithmetic, canonical form.
//!
//! The rules are those of
//! [Quantity](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
//! The wire type stays `k8s_openapi`'s [`Quantity`], a string; [`Amount`] is the number in it.
//!
//! ```
//! # use k8s_model::quantity::Amount;
//! let mut cpu: Amount = "1500m".parse()?;
//! cpu += "0.5".parse()?;
//! assert_eq!(cpu.to_string(), "2");
//! assert_eq!(cpu.milli_value(), 2000);
//! assert_eq!("1024Mi".parse::<Amount>()?.to_string(), "1Gi");
//! # Ok::<(), k8s_model::quantity::ParseError>(())
//! ```

use std::{
    borrow::Cow,
    cmp::Ordering,
    fmt,
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
    str::FromStr,
};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Text that is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not of the form number and suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The suffix is not one of those that exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity was, and is to be, written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// With an exponent, as in `12e6`.
    DecimalExponent,
    /// With a power of 1024, as in `12Mi`.
    BinarySi,
    /// With a power of 1000, as in `12M`.
    #[default]
    DecimalSi,
}

/// The number in a quantity, and how to write it.
///
/// Exact down to one billionth; what is finer is rounded away from zero when it is parsed. Numbers
/// of more than 38 digits, and binary ones above 2⁶³−1, are capped.
///
/// Comparison is by number alone: `1Gi` equals `1024Mi`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amount {
    value: i128,
    /// The number is `value * 10^scale`; never less than -9.
    scale: i32,
    format: Format,
}

const NANO: i32 = -9;
const POWERS: [i128; 39] = {
    let mut out = [1_i128; 39];
    let mut i = 1;
    while i < 39 {
        out[i] = out[i - 1] * 10;
        i += 1;
    }
    out
};

impl Amount {
    /// Zero.
    pub const ZERO: Amount = Amount {
        value: 0,
        scale: 0,
        format: Format::DecimalSi,
    };

    /// One.
    pub const ONE: Amount = Amount {
        value: 1,
        scale: 0,
        format: Format::DecimalSi,
    };

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Amount {
            value: value.into(),
            scale: 0,
            format,
        }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Amount {
            value: value.into(),
            scale: -3,
            format,
        }
    }

    /// Reads the number of a quantity.
    ///
    /// # Errors
    ///
    /// Fails with upstream's text if it is not one.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse(text).map(|(amount, _)| amount)
    }

    /// The number, rounded up (away from zero) to a whole one, and capped to 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The number of thousandths, rounded up (away from zero) and capped to 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The number of units of `10^scale`, rounded up (away from zero) and capped to 64 bits.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let value = rescale(self.value, self.scale, scale).0;
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// The nearest floating-point number.
    #[expect(clippy::cast_precision_loss, reason = "that is what the method is for")]
    pub fn to_f64(&self) -> f64 {
        self.value as f64 * 10_f64.powi(self.scale)
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.value == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        match self.value.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// The same number without what is finer than `10^scale`, rounded up (away from zero).
    #[must_use]
    pub fn round_up(self, scale: i32) -> Self {
        if self.scale >= scale {
            return self;
        }
        Amount {
            value: rescale(self.value, self.scale, scale).0,
            scale,
            ..self
        }
    }

    /// As the wire type, in canonical form.
    pub fn to_quantity(&self) -> Quantity {
        Quantity(self.to_string())
    }

    /// Both at the finer scale of the two.
    fn aligned(self, other: Amount) -> (i128, i128, i32) {
        let scale = self.scale.min(other.scale);
        (
            rescale(self.value, self.scale, scale).0,
            rescale(other.value, other.scale, scale).0,
            scale,
        )
    }
}

/// A quantity in the form in which upstream's server keeps it: canonical, except that a few
/// spellings which are as short as canonical ones stay as they are.
///
/// # Errors
///
/// Fails with upstream's text if it is not a quantity.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, ParseError> {
    let (amount, kept) = parse(text)?;
    Ok(if kept {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(amount.to_string())
    })
}

/// So many digits fit into 64 bits, where reading one takes a tenth of what it takes in 128.
const SHORT: usize = 19;

/// The number and whether its spelling is good as it is.
fn parse(text: &str) -> Result<(Amount, bool), ParseError> {
    if text == "0" {
        return Ok((Amount::ZERO, true));
    }
    let Parts {
        negative,
        whole,
        fraction,
        suffix,
    } = split(text)?;
    let (base, exponent, mut format) = interpret(suffix).ok_or(ParseError::Suffix)?;

    let digits = whole.bytes().chain(fraction.bytes());
    let mut value = if whole.len() + fraction.len() <= SHORT {
        i128::from(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    } else {
        digits.fold(0_i128, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(i128::from(digit - b'0'))
        })
    };
    let fraction_length = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let mut scale = 0_i32.saturating_sub(fraction_length);
    if base == 2 {
        value = value.saturating_mul(1_i128 << exponent);
    } else {
        scale = scale.saturating_add(exponent);
    }
    if scale < NANO {
        value = rescale(value, scale, NANO).0;
        scale = NANO;
    }
    if value == 0 {
        scale = 0;
    }
    // Keeps sums of such numbers inside 128 bits; upstream has no bound here.
    scale = scale.min(i32::from(i16::MAX));

    let mut amount = Amount {
        value,
        scale,
        format,
    };
    if format == Format::BinarySi {
        let max = Amount::new(i64::MAX, format);
        if amount > max {
            amount = max;
        }
        if amount.value != 0 && amount < Amount::new(1, format) {
            format = Format::DecimalSi;
        }
    }
    amount.format = format;
    if negative {
        amount.value = -amount.value;
    }
    let kept = is_kept(whole, fraction, base, exponent);
    Ok((amount, kept))
}

/// Upstream keeps the client's spelling where a cheap check shows it to be short enough.
fn is_kept(whole: &str, fraction: &str, base: i32, exponent: i32) -> bool {
    if base == 2 {
        let value = whole.parse::<u64>().unwrap_or(0);
        let precision = 15 - whole.len() as i64 - i64::from(exponent * 3 / 10) - 1;
        return fraction.is_empty() && precision >= 0 && exponent % 10 == 0 && value & 7 != 0;
    }
    let scale = exponent.saturating_sub(i32::try_from(fraction.len()).unwrap_or(i32::MAX));
    let last = if fraction.is_empty() { whole } else { fraction };
    let zeros_at_end = if fraction.len() >= 3 || fraction.is_empty() {
        last.ends_with("000")
    } else {
        format!("{whole}{fraction}").ends_with("000")
    };
    whole.len() + fraction.len() <= 18
        && scale >= NANO
        && scale % 3 == 0
        && !zeros_at_end
        && !whole.starts_with('0')
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Format);
    }
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();

    let rest = rest.trim_start_matches('0');
    let (whole, rest) = rest.split_at(digits(rest));
    let whole = if whole.is_empty() { "0" } else { whole };
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };

    let exponent = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if !exponent.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    Ok(Parts {
        negative,
        whole,
        fraction,
        suffix,
    })
}

fn interpret(suffix: &str) -> Option<(i32, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSi));
    let binary = |exponent| Some((2, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let exponent = i32::try_from(exponent).ok()?;
            Some((10, exponent, Format::DecimalExponent))
        }
    }
}

/// `value * 10^from` in units of `10^to`, rounded away from zero and capped; and whether that is
/// exact.
fn rescale(value: i128, from: i32, to: i32) -> (i128, bool) {
    let distance = from.saturating_sub(to);
    let power = POWERS.get(distance.unsigned_abs() as usize).copied();
    if distance >= 0 {
        let product = match power {
            _ if value == 0 => Some(0),
            Some(power) => value.checked_mul(power),
            None => None,
        };
        return match product {
            Some(product) => (product, true),
            None => (if value < 0 { i128::MIN } else { i128::MAX }, false),
        };
    }
    let Some(power) = power else {
        return (value.signum(), value == 0);
    };
    let (quotient, rest) = (value / power, value % power);
    if rest == 0 {
        (quotient, true)
    } else {
        (quotient + rest.signum(), false)
    }
}

impl fmt::Display for Amount {
    /// The canonical form: no fraction, and the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value == 0 {
            return f.write_str("0");
        }
        let mut format = self.format;
        if format == Format::BinarySi {
            let (mut whole, exact) = rescale(self.value, self.scale, 0);
            if exact && !(-1023..=1023).contains(&whole) {
                let mut suffix = 0;
                while suffix < 6 && whole % 1024 == 0 {
                    whole /= 1024;
                    suffix += 1;
                }
                return write!(
                    f,
                    "{whole}{}",
                    ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][suffix]
                );
            }
            format = Format::DecimalSi;
        }
        let (mut value, mut exponent) = (self.value, self.scale);
        while value % 10 == 0 {
            value /= 10;
            exponent += 1;
        }
        let largest = if format == Format::DecimalSi {
            18
        } else {
            i32::MAX
        };
        while exponent.rem_euclid(3) != 0 || exponent > largest {
            let Some(grown) = value.checked_mul(10) else {
                break;
            };
            value = grown;
            exponent -= 1;
        }
        match format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{value}"),
            Format::DecimalExponent => write!(f, "{value}e{exponent}"),
            _ => {
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                let suffix = usize::try_from((exponent - NANO) / 3)
                    .unwrap_or(0)
                    .min(suffixes.len() - 1);
                write!(f, "{value}{}", suffixes[suffix])
            }
        }
    }
}

impl FromStr for Amount {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Amount::parse(text)
    }
}

impl TryFrom<&Quantity> for Amount {
    type Error = ParseError;

    fn try_from(quantity: &Quantity) -> Result<Self, ParseError> {
        Amount::parse(&quantity.0)
    }
}

impl From<Amount> for Quantity {
    fn from(amount: Amount) -> Self {
        amount.to_quantity()
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b, _) = self.aligned(*other);
        a.cmp(&b)
    }
}

impl Add for Amount {
    type Output = Amount;

    /// The sum, written as the first summand, unless that is zero.
    fn add(self, other: Amount) -> Amount {
        let (a, b, scale) = self.aligned(other);
        let format = if self.value == 0 {
            other.format
        } else {
            self.format
        };
        Amount {
            value: a.saturating_add(b),
            scale,
            format,
        }
    }
}

impl Sub for Amount {
    type Output = Amount;

    /// The difference, written as the minuend, unless that is zero.
    fn sub(self, other: Amount) -> Amount {
        self + -other
    }
}

impl Neg for Amount {
    type Output = Amount;

    fn neg(self) -> Amount {
        Amount {
            value: self.value.saturating_neg(),
            ..self
        }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, expected) in [
            ("0", "0"),
            ("0m", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1.", "1."),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1Gi", "1Gi"),
            ("1000Ki", "1000Ki"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1000k", "1M"),
            ("12e3", "12e3"),
            ("12E3", "12E3"),
            ("1e2", "100"),
            ("100e-3", "100e-3"),
            ("1E", "1E"),
            ("-5", "-5"),
            ("0.1n", "1n"),
            ("0.0001m", "100n"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1126400m"),
            ("16Ei", "9223372036854775807"),
            ("123456789012", "123456789012"),
            ("1.500", "1.500"),
        ] {
            assert_eq!(canonical(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_upstreams_text() {
        assert_eq!(Amount::parse(""), Err(ParseError::Format));
        assert_eq!(Amount::parse("1Zi"), Err(ParseError::Format));
        assert_eq!(Amount::parse("abc"), Err(ParseError::Format));
        assert_eq!(Amount::parse("1 Gi"), Err(ParseError::Format));
        assert_eq!(Amount::parse("1mm"), Err(ParseError::Suffix));
        assert_eq!(Amount::parse("1KiB"), Err(ParseError::Format));
        assert_eq!(Amount::parse("1i"), Err(ParseError::Suffix));
        assert_eq!(
            Amount::parse("1Zi").unwrap_err().to_string(),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        );
    }

    #[test]
    fn rounding_goes_away_from_zero() {
        assert_eq!(amount("1001m").value(), 2);
        assert_eq!(amount("-1001m").value(), -2);
        assert_eq!(amount("1u").milli_value(), 1);
        assert_eq!(amount("1500m").round_up(0).to_string(), "2");
    }

    #[test]
    fn digits_count_however_many_there_are() {
        for length in 17..=22 {
            let digits = "9".repeat(length);
            let amount: Amount = digits.parse().unwrap();
            assert_eq!(amount.value, digits.parse::<i128>().unwrap());
        }
    }

    #[test]
    fn huge_numbers_are_capped() {
        assert_eq!(amount("10E").value(), i64::MAX);
        assert_eq!(amount("1e400").value(), i64::MAX);
        assert_eq!(amount("-1e400").milli_value(), i64::MIN);
        assert_eq!(amount(&"9".repeat(60)).value(), i64::MAX);
        assert!(amount("1e400") > amount("1E"));
        assert_eq!(amount("1e-400").value(), 1);
    }

    #[test]
    fn equality_ignores_the_spelling() {
        assert_eq!(amount("1Gi"), amount("1024Mi"));
        assert_eq!(amount("1"), amount("1000m"));
        assert_ne!(amount("1G"), amount("1Gi"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_the_same_number(
            value in any::<i64>(),
            suffix in prop::sample::select(vec!["n", "u", "m", "", "k", "M", "Ki", "Mi", "e2", "e-2"]),
        ) {
            let first = amount(&format!("{value}{suffix}"));
            let text = first.to_string();
            let second = amount(&text);
            prop_assert_eq!(first, second);
            prop_assert_eq!(second.to_string(), text);
        }

        #[test]
        fn sums_are_those_of_integers(a in -1_000_000_000..1_000_000_000_i64, b in -1_000_000_000..1_000_000_000_i64) {
            let (x, y) = (Amount::from_milli(a, Format::DecimalSi), Amount::from_milli(b, Format::DecimalSi));
            prop_assert_eq!((x + y).milli_value(), a + b);
            prop_assert_eq!((x - y).milli_value(), a - b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eEinumkKMGTP]{0,40}|.*") {
            if let Ok(amount) = Amount::parse(&text) {
                let _ = (amount.to_string(), amount.value(), amount.milli_value(), amount + amount);
            }
        }
    }
}

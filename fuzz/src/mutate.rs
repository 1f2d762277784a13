//! [`Mutator`]: inputs from seeds, by chance that can be repeated.

use fastrand::Rng;
use serde_json::Value;

/// The longest input that is made.
const LONGEST: usize = 1 << 16;

/// Makes inputs from seeds: the same for the same numbers, whatever was asked for before.
#[derive(Debug)]
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

/// What breaks readers in general.
const WORDS: &[&str] = &[
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "-1",
    "0",
    "-0",
    "1e999",
    "1E-999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "2147483648",
    "0.1",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "\u{7f}",
    "é",
    "𝄞",
    "%00",
    "%2f",
    "%2e%2e",
    "..",
    "/",
    "//",
    "~0",
    "~1",
    ",",
    ":",
    "=",
    "!=",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "*",
    "&a",
    "*a",
    "<<: *a",
    "!!binary ",
    "---\n",
    "\n",
    "\r\n",
    "\t",
    " ",
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "Infinity",
    "NaN",
    "1Ki",
    "1Ei",
    "1e10000",
];

impl Mutator {
    /// A mutator of these seeds, with words that mean something to the reader.
    pub fn new(seeds: Vec<Vec<u8>>, dictionary: &[&str]) -> Self {
        let words = WORDS.iter().chain(dictionary);
        Mutator {
            seeds,
            words: words.map(|word| word.as_bytes().to_vec()).collect(),
        }
    }

    /// The input of that number.
    pub fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = rng.choice(&self.seeds).cloned().unwrap_or_default();
        let structured = rng.bool()
            && match serde_json::from_slice::<Value>(&input) {
                Ok(mut value) => {
                    for _ in 0..rng.u32(1..4) {
                        self.mutate_value(&mut value, &mut rng);
                    }
                    input = value.to_string().into_bytes();
                    true
                }
                Err(_) => false,
            };
        if !structured || rng.u8(..8) == 0 {
            for _ in 0..rng.u32(1..6) {
                self.mutate_bytes(&mut input, &mut rng);
            }
        }
        input.truncate(LONGEST);
        input
    }

    fn word(&self, rng: &mut Rng) -> Vec<u8> {
        rng.choice(&self.words).cloned().unwrap_or_default()
    }

    fn mutate_bytes(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let at = rng.usize(..=input.len());
        let to = at + rng.usize(..=(input.len() - at).min(32));
        match rng.u8(..12) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => drop(input.drain(at..to)),
            3 => {
                let part = input[at..to].to_vec();
                let times = rng.usize(1..8);
                input.splice(at..at, part.repeat(times));
            }
            4 | 5 => {
                let word = self.word(rng);
                input.splice(at..at, word);
            }
            6 => {
                let word = self.word(rng);
                input.splice(at..to, word);
            }
            7 => {
                let other = rng.choice(&self.seeds).cloned().unwrap_or_default();
                let from = rng.usize(..=other.len());
                let until = from + rng.usize(..=other.len() - from);
                input.splice(at..to, other[from..until].iter().copied());
            }
            8 => input.truncate(at),
            // One word very often.
            9 if rng.u8(..8) == 0 => {
                let word = self.word(rng);
                let times = rng.usize(..(LONGEST / word.len().max(1)).min(20_000));
                input.splice(at..at, word.repeat(times));
            }
            // A number that is another.
            10 => {
                let digits = input[at..].iter().position(u8::is_ascii_digit);
                if let Some(start) = digits.map(|start| at + start) {
                    let len = input[start..]
                        .iter()
                        .take_while(|b| b.is_ascii_digit())
                        .count();
                    let other = match rng.u8(..4) {
                        0 => "99999999999999999999".to_owned(),
                        1 => (1u64 << rng.u32(..64)).to_string(),
                        2 => "0".to_owned(),
                        _ => rng.u32(..).to_string(),
                    };
                    input.splice(start..start + len, other.into_bytes());
                }
            }
            _ => input.push(rng.u8(..)),
        }
    }

    fn mutate_value(&self, root: &mut Value, rng: &mut Rng) {
        let mut donor = root.clone();
        let steps = rng.u32(..12);
        let donor = descend(&mut donor, steps, rng).clone();
        let steps = rng.u32(..12);
        let place = descend(root, steps, rng);
        match rng.u8(..10) {
            0 => *place = donor,
            1 => *place = self.scalar(rng),
            2 => {
                let depth = [1, 2, 60, 120][rng.usize(..4)];
                for _ in 0..depth {
                    *place = match rng.bool() {
                        true => Value::Array(vec![place.take()]),
                        false => {
                            Value::Object([("a".to_owned(), place.take())].into_iter().collect())
                        }
                    };
                }
            }
            3 => match place {
                Value::Array(items) => {
                    let again = items.first().cloned().unwrap_or(donor);
                    let times = [1, 2, 200][rng.usize(..3)];
                    items.extend(std::iter::repeat_n(again, times));
                }
                Value::Object(fields) => {
                    let key = String::from_utf8_lossy(&self.word(rng)).into_owned();
                    fields.insert(key, donor);
                }
                other => *other = donor,
            },
            4 => match place {
                Value::Array(items) if !items.is_empty() => {
                    drop(items.remove(rng.usize(..items.len())))
                }
                Value::Object(fields) if !fields.is_empty() => {
                    let key = fields.keys().nth(rng.usize(..fields.len())).cloned();
                    key.and_then(|key| fields.remove(&key));
                }
                other => *other = Value::Null,
            },
            5 => match place {
                Value::Array(items) => items.reverse(),
                Value::Object(fields) if !fields.is_empty() => {
                    let key = fields
                        .keys()
                        .nth(rng.usize(..fields.len()))
                        .cloned()
                        .unwrap_or_default();
                    let value = fields.remove(&key).unwrap_or_default();
                    fields.insert(
                        format!("{key}{}", String::from_utf8_lossy(&self.word(rng))),
                        value,
                    );
                }
                _ => {}
            },
            _ => {
                if let Value::String(text) = place {
                    let mut bytes = std::mem::take(text).into_bytes();
                    self.mutate_bytes(&mut bytes, rng);
                    *text = String::from_utf8_lossy(&bytes).into_owned();
                } else {
                    *place = self.scalar(rng);
                }
            }
        }
    }

    fn scalar(&self, rng: &mut Rng) -> Value {
        match rng.u8(..8) {
            0 => Value::Null,
            1 => rng.bool().into(),
            2 => rng.i64(..).into(),
            3 => [0i64, -1, 1, i64::from(i32::MAX), i64::MAX, i64::MIN][rng.usize(..6)].into(),
            4 => (rng.f64() * 1e300).into(),
            5 => "x".repeat(rng.usize(..5000)).into(),
            _ => String::from_utf8_lossy(&self.word(rng)).into_owned().into(),
        }
    }
}

/// Some value inside another.
fn descend<'v>(value: &'v mut Value, steps: u32, rng: &mut Rng) -> &'v mut Value {
    let mut here = value;
    for _ in 0..steps {
        let inside = match here {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        if inside == 0 {
            return here;
        }
        let pick = rng.usize(..inside);
        here = match here {
            Value::Array(items) => &mut items[pick],
            Value::Object(fields) => match fields.values_mut().nth(pick) {
                Some(value) => value,
                None => unreachable!("there are more than that"),
            },
            other => other,
        };
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_input() {
        let seeds = vec![b"{\"a\": [1, 2, {\"b\": \"c\"}]}".to_vec(), b"x=1".to_vec()];
        let (one, two) = (Mutator::new(seeds.clone(), &[]), Mutator::new(seeds, &[]));
        let inputs: Vec<_> = (0..500).map(|n| one.input(3, n)).collect();
        assert!(
            (0..500)
                .rev()
                .all(|n| two.input(3, n) == inputs[n as usize])
        );
        let distinct: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(distinct.len() > 400);
    }
}

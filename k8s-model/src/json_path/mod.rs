//! [`JsonPath`]: where in an object a value is, as printer columns and selectable fields say it.
//!
//! Read and followed as client-go's `util/jsonpath` does it, odd forms included.

mod parse;

use std::str::FromStr;

use serde_json::Value;

/// A path in the notation of `kubectl -o jsonpath`, without the outer braces: names after dots (with `\.` for a dot in a
/// name) or in single quotes between brackets, positions, slices with steps, several of these at once, `*`, `..` for
/// all that is within, and filters that compare two paths or literals.
///
/// ```
/// use k8s_model::json_path::JsonPath;
/// use serde_json::json;
///
/// let ready: JsonPath = r#".status.conditions[?(@.type=="Ready")].status"#.parse()?;
/// let object = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
/// assert_eq!(ready.first(&object), Some(&json!("True")));
/// # Ok::<(), k8s_model::json_path::ParseJsonPathError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseJsonPathError(String);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Slice(Slice),
    All,
    /// All that has parts, from the outside in.
    Recursive,
    /// What each of several paths leads to, one after the other.
    Union(Vec<Vec<Step>>),
    Filter(Filter),
    /// A value that stands in the path itself.
    Literal(Value),
    /// The word of a template, which leads nowhere.
    Word,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    from: Option<i64>,
    to: To,
    step: Option<i64>,
}

/// Where a slice ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// With the list.
    End,
    /// Before this position.
    Before(i64),
    /// After the one element that it is about.
    One,
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Vec<Step>,
    /// How it compares, and with what; without, it need only lead somewhere.
    compare: Option<(Compare, Vec<Step>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Unknown,
}

/// A path that does not go with a value: then it leads nowhere at all.
struct Misfit;

/// How many values a path follows at a time: where it goes down more than once, ways to one value multiply.
const MOST: usize = 4096;

impl JsonPath {
    /// The first value that the path leads to.
    pub fn first<'v>(&'v self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }

    /// All values that the path leads to, in order; a few thousand at most. None if it does not go with the value, as
    /// the position of an element that a list has not.
    pub fn find<'v>(&'v self, value: &'v Value) -> Vec<&'v Value> {
        walk(vec![value], &self.steps).unwrap_or_default()
    }
}

impl FromStr for JsonPath {
    type Err = ParseJsonPathError;

    fn from_str(text: &str) -> Result<Self, ParseJsonPathError> {
        let steps = parse::template(text).map_err(ParseJsonPathError)?;
        Ok(JsonPath { steps })
    }
}

fn walk<'v>(values: Vec<&'v Value>, steps: &'v [Step]) -> Result<Vec<&'v Value>, Misfit> {
    steps.iter().try_fold(values, |values, step| {
        let mut found = take(values, step)?;
        found.truncate(MOST);
        Ok(found)
    })
}

fn take<'v>(values: Vec<&'v Value>, step: &'v Step) -> Result<Vec<&'v Value>, Misfit> {
    let mut out = Vec::new();
    match step {
        Step::Field(name) => out.extend(values.into_iter().filter_map(|value| value.get(name))),
        Step::All => {
            for value in values {
                match value {
                    Value::Array(elements) => out.extend(elements),
                    Value::Object(fields) => out.extend(fields.values()),
                    _ => {}
                }
            }
        }
        Step::Recursive => values
            .into_iter()
            .for_each(|value| descend(value, &mut out)),
        Step::Slice(slice) => {
            for value in values.into_iter().filter(|value| !value.is_null()) {
                let Value::Array(elements) = value else {
                    return Err(Misfit);
                };
                match slice.of(elements)? {
                    Some(found) => out.extend(found),
                    // As upstream: what comes after a list of which nothing is wanted is not looked at.
                    None => break,
                }
            }
        }
        Step::Union(paths) => {
            for path in paths {
                let found = walk(values.clone(), path)?;
                if out.len() < MOST {
                    out.extend(found);
                }
            }
        }
        Step::Filter(filter) => {
            for value in values {
                let Value::Array(elements) = value else {
                    return Err(Misfit);
                };
                for element in elements {
                    if filter.holds(element)? {
                        out.push(element);
                    }
                }
            }
        }
        Step::Literal(value @ Value::String(_)) => out.push(value),
        Step::Literal(value) => out.extend(values.iter().map(|_| value)),
        Step::Word => return Err(Misfit),
    }
    Ok(out)
}

/// A text has parts, too, of which nothing more is known.
fn descend<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    if out.len() >= MOST {
        return;
    }
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push(value);
            fields.values().for_each(|value| descend(value, out));
        }
        Value::Array(elements) if !elements.is_empty() => {
            out.push(value);
            elements.iter().for_each(|value| descend(value, out));
        }
        Value::String(text) if !text.is_empty() => out.push(value),
        _ => {}
    }
}

impl Slice {
    /// The elements of a list that it is about; nothing if it is about none.
    fn of<'v>(
        &self,
        elements: &'v [Value],
    ) -> Result<Option<impl Iterator<Item = &'v Value> + use<'v>>, Misfit> {
        let length = i64::try_from(elements.len()).map_err(|_| Misfit)?;
        let from_end = |at: i64| {
            if at < 0 {
                at.saturating_add(length)
            } else {
                at
            }
        };
        let asked = self.from.unwrap_or(0);
        let from = from_end(asked);
        let to = match self.to {
            To::End => length,
            To::Before(at) => from_end(at),
            // The last one, counted from the end, is before position 0.
            To::One => match asked.saturating_add(1) {
                to if to <= 0 => to + length,
                to => to,
            },
        };
        if from == to {
            return Ok(None);
        }
        let within = (0..length).contains(&from) && (from..=length).contains(&to);
        let (Ok(from), Ok(to), true) = (usize::try_from(from), usize::try_from(to), within) else {
            return Err(Misfit);
        };
        let step = match self.step {
            Some(step) => usize::try_from(step).ok().filter(|step| *step > 0),
            None => Some(1),
        };
        let found = elements.get(from..to).unwrap_or_default().iter();
        Ok(Some(found.step_by(step.ok_or(Misfit)?)))
    }
}

impl Filter {
    fn holds(&self, element: &Value) -> Result<bool, Misfit> {
        let Some((how, right)) = &self.compare else {
            // As upstream: what does not go with the path is there.
            return Ok(!matches!(walk(vec![element], &self.left), Ok(found) if found.is_empty()));
        };
        let one = |path| match walk(vec![element], path)?.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => Err(Misfit),
        };
        let Some(left) = one(&self.left)? else {
            return Ok(false);
        };
        match one(right)? {
            Some(right) => how.holds(left, right),
            None => Ok(false),
        }
    }
}

impl Compare {
    /// Only what is of one type compares, and only some types have an order.
    fn holds(self, left: &Value, right: &Value) -> Result<bool, Misfit> {
        let order = match (left, right) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                (None, None) => a.as_f64().partial_cmp(&b.as_f64()),
                _ => return Err(Misfit),
            },
            (Value::Bool(a), Value::Bool(b)) => match self {
                Compare::Equal | Compare::NotEqual => Some(a.cmp(b)),
                _ => return Err(Misfit),
            },
            _ => return Err(Misfit),
        };
        let is = |wanted: fn(std::cmp::Ordering) -> bool| order.is_some_and(wanted);
        Ok(match self {
            Compare::Equal => is(std::cmp::Ordering::is_eq),
            Compare::NotEqual => !is(std::cmp::Ordering::is_eq),
            Compare::Less => is(std::cmp::Ordering::is_lt),
            Compare::LessOrEqual => is(std::cmp::Ordering::is_le),
            Compare::Greater => is(std::cmp::Ordering::is_gt),
            Compare::GreaterOrEqual => is(std::cmp::Ordering::is_ge),
            Compare::Unknown => return Err(Misfit),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What kube-apiserver 1.26 printed for these columns of an object.
    #[test]
    fn paths_lead_where_upstream_is_led() {
        let value = json!({"spec": {"a": "text", "list": [1, 2, 3], "n": 7, "x-y": "d", "null": null,
            "objs": [{"b": 1, "c": "x"}, {"b": 2, "c": "y", "d": {"e": "k"}, "f": 2.5, "g": true}]},
            "metadata": {"annotations": {"a.b/c": "ann"}}});
        for (path, expected) in [
            (".spec.a", json!(["text"])),
            (".spec.a ", json!(["text"])),
            (".spec.a}{.spec.n", json!(["text"])),
            ("$.spec.a", json!(["text"])),
            (".spec['a']", json!(["text"])),
            (".spec['a','n']", json!(["text", 7])),
            (".spec.x-y", json!(["d"])),
            (".spec.nope.x", json!([])),
            (".spec.null.x", json!([])),
            (".spec.a.x", json!([])),
            (".", json!([])),
            (".spec.list[0]", json!([1])),
            (".spec.list[-1]", json!([3])),
            (".spec.list[]", json!([1])),
            (".spec.list[00]", json!([1])),
            (".spec.list[1:]", json!([2, 3])),
            (".spec.list[:]", json!([1, 2, 3])),
            (".spec.list[*]", json!([1, 2, 3])),
            (".spec.list[-2:]", json!([2, 3])),
            (".spec.list[::2]", json!([1, 3])),
            (".spec.list[0,1]", json!([1, 2])),
            (".spec.list[0, -1]", json!([1, 3])),
            // What does not go with a list leads nowhere.
            (".spec.list[5]", json!([])),
            (".spec.list[0,5]", json!([])),
            (".spec.list[0:9]", json!([])),
            (".spec.list[1:0]", json!([])),
            (".spec.list[1:1]", json!([])),
            (".spec.list[::0]", json!([])),
            (".spec[0]", json!([])),
            (".spec.objs[?(@.b==2)].c", json!(["y"])),
            (".spec.objs[?(2==@.b)].c", json!(["y"])),
            (".spec.objs[?(@.b==@.b)].c", json!(["x", "y"])),
            (".spec.objs[?(@.b>=1)].c", json!(["x", "y"])),
            (".spec.objs[?(@.b!=1)].c", json!(["y"])),
            (".spec.objs[?(@.c==\"y\")].b", json!([2])),
            (".spec.objs[?(@.c=='y')].b", json!([2])),
            (".spec.objs[?(@.d)].c", json!(["y"])),
            (".spec.objs[?(@.f==2.5)].c", json!(["y"])),
            (".spec.objs[?(@.g==true)].c", json!(["y"])),
            (".spec.objs[?(@.d.e==\"k\")].b", json!([2])),
            (".spec.objs[*].d.e", json!(["k"])),
            (".spec.list[?(@>1)]", json!([2, 3])),
            // An integer is no other number, and an order is no matter of truth.
            (".spec.objs[?(@.b==2.0)].c", json!([])),
            (".spec.objs[?(@.b==\"2\")].c", json!([])),
            (".spec.objs[?(@.g<=true)].c", json!([])),
            (".spec[?(@.b)]", json!([])),
            ("..b", json!([1, 2])),
            (".spec..b", json!([1, 2])),
            ("...b", json!([1, 2])),
            (
                ".metadata..",
                json!([{"annotations": {"a.b/c": "ann"}}, {"a.b/c": "ann"}, "ann"]),
            ),
            (".metadata.annotations.a\\.b/c", json!(["ann"])),
            (".metadata.annotations['a\\.b/c']", json!(["ann"])),
            // A dot in quotes is one between names.
            (".metadata.annotations['a.b/c']", json!([])),
            (".spec range", json!([])),
        ] {
            let found: JsonPath = path.parse().unwrap();
            let found: Vec<Value> = found.find(&value).into_iter().cloned().collect();
            assert_eq!(Value::from(found), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_told() {
        for (path, text) in [
            (".a[b]", "invalid array index b"),
            (".a[", "unterminated array"),
            (".a[1 ]", "invalid array index 1 "),
            (".a[\"b\"]", "invalid array index \"b\""),
            (".a[-]", "array index - is not a number"),
            (".a[(@.b)]", "invalid array index (@.b)"),
            (".a[0,b]", "invalid array index b"),
            (".a[?(@.b]", "unterminated filter"),
            (".a[?(@.b) ]", "unclosed array expect ]"),
            (
                ".a[?(@.b==2 && @.c==3)]",
                "unrecognized character in action: U+0026 '&'",
            ),
            (
                ".a[?(@.c=~\"y\")]",
                "unrecognized character in action: U+007E '~'",
            ),
            (".a{\"x\"}", "unrecognized character in action: U+007B '{'"),
            ("....b", "invalid multiple recursive descent"),
            (".a 1.2.3", "cannot parse number 1.2.3"),
            (".a 'b", "unterminated quoted string"),
            (".a '\\q'", "unquote string '\\q' error invalid syntax"),
            (".a\nb", "unclosed action"),
            (".a}{.b", ""),
            (".a}x{.b[c]", "invalid array index c"),
        ] {
            let error = path.parse::<JsonPath>().err();
            let told = error.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(told, text, "{path}");
        }
    }

    #[test]
    fn brackets_in_one_another_are_no_path_however_many() {
        for (open, close) in [("[?(@.a", ")]"), ("[0,", "]"), ("[?(@.a==", ")]")] {
            for count in [2, 100, 10_000] {
                let path = format!(".a{}{}", open.repeat(count), close.repeat(count));
                assert!(path.parse::<JsonPath>().is_err(), "{count} of {open}");
            }
        }
    }

    #[test]
    fn ways_down_do_not_multiply_without_end() {
        let deep = (0..60).fold(json!(1), |inner, _| json!({ "a": inner }));
        let path: JsonPath = "..a".repeat(30).parse().unwrap();
        assert_eq!(path.find(&deep).len(), MOST);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[.a*'\"\\\\\\[\\]?(@=<0-9:,{} $-]{0,24}") {
            let value = json!({"a": [{"a": 1}, [0, "a"], "a", null], "0": {"a": 2.5}});
            if let Ok(path) = text.parse::<JsonPath>() {
                prop_assert!(path.find(&value).len() <= MOST);
            }
        }
    }
}

//! [`JsonPath`]: where in an object a value is, as printer columns and selectable fields say it.

use std::str::FromStr;

use serde_json::Value;

/// A path in the notation of `kubectl -o jsonpath`, without braces: names after dots (with `\.` for a
/// dot in a name) or in quotes between brackets, positions, slices, `*`, and filters that compare a
/// field with a literal.
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
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter {
        field: Vec<Step>,
        /// How the field compares with a literal; without, it need only be there.
        compare: Option<(Compare, Value)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const OPERATORS: [(&str, Compare); 6] = [
    ("==", Compare::Equal),
    ("!=", Compare::NotEqual),
    ("<=", Compare::LessOrEqual),
    (">=", Compare::GreaterOrEqual),
    ("<", Compare::Less),
    (">", Compare::Greater),
];

/// How deep filters may be in filters: each takes some of the stack.
const MAX_DEPTH: usize = 16;

impl JsonPath {
    /// The first value that the path leads to.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        walk(value, &self.steps).into_iter().next()
    }

    /// All values that the path leads to, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        walk(value, &self.steps)
    }

    /// The names of the fields on the way, if it is nothing but names.
    pub fn names(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| match step {
            Step::Field(name) => Some(name.clone()),
            _ => None,
        };
        if !self.steps.iter().all(|step| name(step).is_some()) {
            return None;
        }
        Some(
            self.steps
                .iter()
                .map(|step| match step {
                    Step::Field(name) => name.as_str(),
                    _ => "",
                })
                .collect(),
        )
    }
}

fn walk<'v>(value: &'v Value, steps: &[Step]) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in steps {
        found = found
            .into_iter()
            .flat_map(|value| take(value, step))
            .collect();
    }
    found
}

fn take<'v>(value: &'v Value, step: &Step) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => fields.get(name).into_iter().collect(),
        (Step::Index(at), Value::Array(elements)) => {
            let at = if *at < 0 { *at + length(elements) } else { *at };
            let at = usize::try_from(at).ok();
            at.and_then(|at| elements.get(at)).into_iter().collect()
        }
        (Step::Slice(from, to), Value::Array(elements)) => {
            let clamp = |at: i64| {
                let at = if at < 0 { at + length(elements) } else { at };
                usize::try_from(at.clamp(0, length(elements))).unwrap_or(0)
            };
            let (from, to) = (clamp(from.unwrap_or(0)), clamp(to.unwrap_or(i64::MAX / 2)));
            elements.get(from..to).unwrap_or_default().iter().collect()
        }
        (Step::All, Value::Array(elements)) => elements.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (Step::Filter { field, compare }, Value::Array(elements)) => elements
            .iter()
            .filter(|element| {
                let found = walk(element, field);
                match compare {
                    None => !found.is_empty(),
                    Some((how, literal)) => found
                        .first()
                        .is_some_and(|found| holds(found, *how, literal)),
                }
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn length(elements: &[Value]) -> i64 {
    i64::try_from(elements.len()).unwrap_or(i64::MAX)
}

fn holds(found: &Value, how: Compare, literal: &Value) -> bool {
    let order = match (found, literal) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a
            .as_f64()
            .zip(b.as_f64())
            .and_then(|(a, b)| a.partial_cmp(&b)),
        (a, b) if a == b => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match how {
        Compare::Equal => order.is_some_and(|o| o.is_eq()),
        Compare::NotEqual => !order.is_some_and(|o| o.is_eq()),
        Compare::Less => order.is_some_and(|o| o.is_lt()),
        Compare::LessOrEqual => order.is_some_and(|o| o.is_le()),
        Compare::Greater => order.is_some_and(|o| o.is_gt()),
        Compare::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
    }
}

impl FromStr for JsonPath {
    type Err = ParseJsonPathError;

    fn from_str(text: &str) -> Result<Self, ParseJsonPathError> {
        let steps = parse(text.strip_prefix('$').unwrap_or(text), 0)?;
        Ok(JsonPath { steps })
    }
}

fn bad(text: impl Into<String>) -> ParseJsonPathError {
    ParseJsonPathError(text.into())
}

fn parse(text: &str, depth: usize) -> Result<Vec<Step>, ParseJsonPathError> {
    if depth > MAX_DEPTH {
        return Err(bad("filters are nested too deeply"));
    }
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after).ok_or_else(|| bad("unterminated array"))?;
            steps.push(bracket(&after[..end], depth)?);
            rest = &after[end + 1..];
            continue;
        }
        let Some(after) = rest.strip_prefix('.') else {
            return Err(bad(format!(
                "unrecognized character in action: {:?}",
                rest.chars().next()
            )));
        };
        if after.starts_with('.') {
            return Err(bad("recursive descent is not supported"));
        }
        let mut name = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
        rest = &after[end..];
    }
    Ok(steps)
}

/// Where the bracket that was opened before a text closes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Some(out)
}

fn bracket(text: &str, depth: usize) -> Result<Step, ParseJsonPathError> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquote(text) {
        return Ok(Step::Field(name));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return parse_filter(filter.trim(), depth);
    }
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| bad(format!("invalid array index {text}")))
    };
    if let Some((from, to)) = text.split_once(':') {
        let end = |text: &str| (!text.trim().is_empty()).then(|| number(text)).transpose();
        return Ok(Step::Slice(end(from)?, end(to)?));
    }
    number(text).map(Step::Index)
}

fn parse_filter(text: &str, depth: usize) -> Result<Step, ParseJsonPathError> {
    let field = text
        .strip_prefix('@')
        .ok_or_else(|| bad(format!("unrecognized filter {text}")))?;
    let found = OPERATORS
        .iter()
        .filter_map(|(operator, how)| Some((field.find(operator)?, *operator, *how)))
        .min_by_key(|(at, operator, _)| (*at, usize::MAX - operator.len()));
    let Some((at, operator, how)) = found else {
        return Ok(Step::Filter {
            field: parse(field.trim(), depth + 1)?,
            compare: None,
        });
    };
    let literal = field[at + operator.len()..].trim();
    let value = unquote(literal)
        .map(Value::from)
        .or_else(|| serde_json::from_str(literal).ok())
        .ok_or_else(|| bad(format!("unrecognized literal {literal}")))?;
    Ok(Step::Filter {
        field: parse(field[..at].trim(), depth + 1)?,
        compare: Some((how, value)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        let value = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "list": [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3, "t": "b"}],
        });
        for (path, expected) in [
            (r".metadata.annotations.a\.b/c", json!(["x"])),
            (".metadata.annotations['a.b/c']", json!(["x"])),
            (".list[1].n", json!([2])),
            (".list[-1].n", json!([3])),
            (".list[0:2].n", json!([1, 2])),
            (".list[*].n", json!([1, 2, 3])),
            (r#".list[?(@.t=="b")].n"#, json!([2, 3])),
            (".list[?(@.n>=2)].n", json!([2, 3])),
            (".nothing.here", json!([])),
            (".list.n", json!([])),
        ] {
            let parsed: JsonPath = path.parse().unwrap();
            assert_eq!(json!(parsed.find(&value)), expected, "{path}");
        }
        for path in ["x", ".a[", ".a[x]", ".a[?(b)]", ".a..b"] {
            assert!(path.parse::<JsonPath>().is_err(), "{path}");
        }
    }

    #[test]
    fn filters_are_nested_so_deep_and_no_deeper() {
        let nested = |depth: usize| format!(".a{}{}", "[?(@".repeat(depth), ")]".repeat(depth));
        assert!(nested(MAX_DEPTH).parse::<JsonPath>().is_ok());
        for depth in [MAX_DEPTH + 1, 300_000] {
            let refused = nested(depth).parse::<JsonPath>().unwrap_err();
            assert_eq!(refused.to_string(), "filters are nested too deeply");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[.\[\]?@()='"a*0-9:\\-]{0,24}"#) {
            if let Ok(path) = text.parse::<JsonPath>() {
                let _ = path.find(&json!({"a": [1, {"a": 2}]}));
            }
        }
    }
}

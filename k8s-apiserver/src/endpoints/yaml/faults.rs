//! What is wrong with a text that is no YAML, in the words of yaml.v2, which upstream reads it with.

use serde_json::Value;
use serde_saphyr::Error;

/// What is told without a place, and without saying that it is about YAML.
const UNSUPPORTED: &str = "json: unsupported value: ";
const NO_KEY: &str = "Unsupported map key of type: %!s(<nil>)";
const COMPOSITE: &str = "invalid map key: ";

/// What is told of a value that has nothing before its colon, which yaml.v2 does not take for a key that is null.
fn nothing_before_colon(source: &str) -> Option<String> {
    let begins = |line: &str| {
        let rest = line.strip_prefix(':');
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let mut before = "";
    for (number, line) in source.lines().enumerate() {
        let mut inner = line.trim_start();
        while let Some(element) = inner.strip_prefix("- ") {
            inner = element.trim_start();
        }
        let in_flow = |start| {
            inner
                .split(start)
                .skip(1)
                .any(|rest| begins(rest.trim_start()))
        };
        let text = if begins(inner) && !before.starts_with('?') {
            "did not find expected key"
        } else if in_flow('{') || (inner.starts_with('{') && in_flow(',')) {
            "did not find expected node content"
        } else {
            before = inner;
            continue;
        };
        return Some(match number {
            0 => format!("yaml: {text}"),
            number => format!("yaml: line {number}: {text}"),
        });
    }
    None
}

/// An error in upstream's words, as far as the parsers have the same.
pub(super) fn told(error: &Error, source: &str) -> String {
    let whole = error.to_string();
    let text = whole.lines().next().unwrap_or_default();
    if text.contains(NO_KEY)
        && let Some(told) = nothing_before_colon(source)
    {
        return told;
    }
    for own in [UNSUPPORTED, NO_KEY] {
        if let Some(at) = text.find(own) {
            return placeless(&text[at..]).to_owned();
        }
    }
    if let Some(at) = text.find(COMPOSITE) {
        return format!("yaml: {}", placeless(&text[at..]));
    }
    if text.starts_with("non-finite float") {
        let value = text.split('`').nth(1).unwrap_or_default();
        let value = match value.trim_start_matches(['+', '-']) {
            inf if inf.eq_ignore_ascii_case(".nan") => "NaN",
            _ if value.starts_with('-') => "-Inf",
            _ => "+Inf",
        };
        return format!("{UNSUPPORTED}{value}");
    }
    let line = error.location().map_or(0, |location| location.line());
    let line = usize::try_from(line).unwrap_or(usize::MAX);
    let lines = || source.lines().count();
    let text = placeless(text);
    let text = match text.strip_prefix("while ") {
        Some(rest) => rest.split_once(", ").map_or(text, |(_, problem)| problem),
        None => text,
    };
    // Upstream's scanner counts lines from one, its parser from nought, and neither tells its first.
    let (text, line) = match text {
        _ if text.starts_with("unexpected character: ") => {
            ("found character that cannot start any token", line)
        }
        _ if text.starts_with("alias replay limit exceeded") => {
            ("document contains excessive aliasing", 0)
        }
        "alias references unknown anchor" => {
            let name = alias(source, line, |name| !source.contains(&format!("&{name}")));
            return format!("yaml: unknown anchor '{name}' referenced");
        }
        _ if text.starts_with("recursive references") => {
            let name = alias(source, line, |name| source.contains(&format!("&{name}")));
            return format!("yaml: anchor '{name}' value contains itself");
        }
        "unsupported YAML major version" => ("found incompatible YAML document", 0),
        "found a tab" => ("found a tab character that violates indentation", line + 1),
        "unclosed quote" | "invalid indentation in multiline quoted scalar"
            if text.starts_with("unclosed") || line > lines() =>
        {
            match source.matches('\n').count() {
                0 => ("found unexpected end of stream", 0),
                ends => ("found unexpected end of stream", ends + 1),
            }
        }
        "misplaced bracket" => ("did not find expected node content", line.saturating_sub(1)),
        _ if text.starts_with("unclosed bracket") => {
            let text = match source.trim_end().ends_with(['{', '[', ',', ':']) {
                true => "did not find expected node content",
                false if text.ends_with("'{'") => "did not find expected ',' or '}'",
                false => "did not find expected ',' or ']'",
            };
            return format!("yaml: line {}: {text}", lines());
        }
        _ if text.starts_with("did not find expected ") => (text, line.saturating_sub(1)),
        _ => (text, line),
    };
    match line {
        0 => format!("yaml: {text}"),
        1 if !text.starts_with("did not find expected ") => format!("yaml: {text}"),
        line => format!("yaml: line {line}: {text}"),
    }
}

/// An error without its place.
fn placeless(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(text, _)| text)
}

/// The first alias in a line that is of this sort.
fn alias(source: &str, line: usize, is: impl Fn(&str) -> bool) -> &str {
    let line = source
        .lines()
        .nth(line.saturating_sub(1))
        .unwrap_or_default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let names = line.split('*').skip(1).map(|rest| {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        &rest[..end]
    });
    let mut names = names.filter(|name| !name.is_empty());
    names.find(|name| is(name)).unwrap_or_default()
}

/// For a number that JSON does not have.
pub(super) fn not_finite(value: f64) -> String {
    let value = match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN",
        (false, true) => "+Inf",
        (false, false) => "-Inf",
    };
    format!("{UNSUPPORTED}{value}")
}

/// For a value without a key.
pub(super) fn no_key(value: &Value) -> String {
    let value = match value {
        Value::Null => "<nil>".to_owned(),
        value => go(value),
    };
    format!("{NO_KEY}, key: <nil>, value: {value}")
}

/// For a list or a map where a key should be.
pub(super) fn composite_key(key: &Value) -> String {
    format!("{COMPOSITE}{}", go(key))
}

/// A value as Go's `%#v` shows it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields: Vec<String> = fields
                .map(|(key, v)| format!("{key:?}:{}", go(v)))
                .collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", fields.join(", "))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    #[test]
    fn faults_are_told_in_upstreams_words() {
        for (text, why) in [
            (
                "a: b: c",
                "yaml: mapping values are not allowed in this context",
            ),
            (
                "a: b\nc: d: e\n",
                "yaml: line 2: mapping values are not allowed in this context",
            ),
            (
                "a:\n  - b\n c: d",
                "yaml: line 2: did not find expected key",
            ),
            ("a: @x", "yaml: found character that cannot start any token"),
            (
                "\ta: b",
                "yaml: found character that cannot start any token",
            ),
            (
                "a:\n  b: c\n\td: e\n",
                "yaml: line 3: found a tab character that violates indentation",
            ),
            ("{", "yaml: line 1: did not find expected node content"),
            ("a: [", "yaml: line 1: did not find expected node content"),
            ("]", "yaml: did not find expected node content"),
            (
                "a: b\nc: {a: b",
                "yaml: line 2: did not find expected ',' or '}'",
            ),
            ("a: [b", "yaml: line 1: did not find expected ',' or ']'"),
            (
                "a: b\nc: \"x",
                "yaml: line 2: found unexpected end of stream",
            ),
            ("a: 'x", "yaml: found unexpected end of stream"),
            (
                "a: b\nc: \"x\n",
                "yaml: line 3: found unexpected end of stream",
            ),
            (
                "%YAML 2.0\n---\na: b",
                "yaml: found incompatible YAML document",
            ),
            ("a: &a [*a]", "yaml: anchor 'a' value contains itself"),
            (
                "a: &a [x]\nb: [*a, *y]",
                "yaml: unknown anchor 'y' referenced",
            ),
            ("a: .inf", "json: unsupported value: +Inf"),
            ("a: -.inf", "json: unsupported value: -Inf"),
            ("a: .nan", "json: unsupported value: NaN"),
            (
                "a:\n  null: b",
                "Unsupported map key of type: %!s(<nil>), key: <nil>, value: \"b\"",
            ),
            (
                "?",
                "Unsupported map key of type: %!s(<nil>), key: <nil>, value: <nil>",
            ),
            ("- : a", "yaml: did not find expected key"),
            ("a: b\nc:\n  : d", "yaml: line 2: did not find expected key"),
            ("? a\n: b\n: c", "yaml: line 2: did not find expected key"),
            ("{a: b, : c}", "yaml: did not find expected node content"),
            (
                "? \n: a",
                "Unsupported map key of type: %!s(<nil>), key: <nil>, value: \"a\"",
            ),
            (
                "a:\n  [b, 1]: c",
                "yaml: invalid map key: []interface {}{\"b\", 1}",
            ),
            (
                "{a: b}: c",
                "yaml: invalid map key: map[interface {}]interface {}{\"a\":\"b\"}",
            ),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), why, "{text}");
        }
        let mut many = "a0: &a0 [x]\n".to_owned();
        for i in 1..7 {
            let refs = vec![format!("*a{}", i - 1); 9].join(",");
            many.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert_eq!(
            read(many.as_bytes()).unwrap_err(),
            "yaml: document contains excessive aliasing"
        );
    }
}

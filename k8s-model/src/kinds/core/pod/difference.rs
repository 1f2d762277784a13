//! What an update would change, in the form in which upstream tells it: that of
//! [go-cmp](https://pkg.go.dev/github.com/google/go-cmp/cmp#Diff).
//!
//! The names of fields are Go's; their order is that of JSON, and of what did not change there is no more than how much.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::kinds::checks::json;

/// What is long is cut, and of what is deep the depth is not shown.
const LONGEST: usize = 16 * 1024;
const DEPTH: usize = 32;

/// What an update would change, in the form in which upstream tells it; `ty` is the name of the Go type, such as
/// `core.PodSpec`.
pub fn difference(ty: &str, old: &impl Serialize, new: &impl Serialize) -> String {
    of(ty, &json(old), &json(new))
}

fn of(ty: &str, old: &Value, new: &Value) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "  {ty}{{");
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        fields(&mut out, old, new, 1);
    }
    out.push_str("  }\n");
    if out.len() > LONGEST {
        let mut end = LONGEST;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push_str("...");
    }
    out
}

fn line(out: &mut String, mark: char, depth: usize, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{mark} {}{text}", "\t".repeat(depth));
}

fn fields(out: &mut String, old: &Map<String, Value>, new: &Map<String, Value>, depth: usize) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut same = 0;
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if before == after {
            same += 1;
            continue;
        }
        identical(out, &mut same, "fields", depth);
        let label = format!("{}: ", go_name(name));
        change(out, &label, before, after, depth);
    }
    identical(out, &mut same, "fields", depth);
}

/// Says how many did not change, if any.
fn identical(out: &mut String, same: &mut usize, what: &str, depth: usize) {
    if *same > 0 {
        let what = if *same == 1 {
            what.trim_end_matches('s')
        } else {
            what
        };
        line(
            out,
            ' ',
            depth,
            format_args!("... // {same} identical {what}"),
        );
        *same = 0;
    }
}

fn change(out: &mut String, label: &str, old: Option<&Value>, new: Option<&Value>, depth: usize) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) if depth < DEPTH => {
            line(out, ' ', depth, format_args!("{label}{{"));
            fields(out, old, new, depth + 1);
            line(out, ' ', depth, format_args!("}},"));
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if depth < DEPTH => {
            line(out, ' ', depth, format_args!("{label}{{"));
            let mut same = 0;
            for at in 0..old.len().max(new.len()) {
                let (before, after) = (old.get(at), new.get(at));
                if before == after {
                    same += 1;
                } else {
                    identical(out, &mut same, "elements", depth + 1);
                    change(out, "", before, after, depth + 1);
                }
            }
            identical(out, &mut same, "elements", depth + 1);
            line(out, ' ', depth, format_args!("}},"));
        }
        (old, new) => {
            for (mark, value) in [('-', old), ('+', new)] {
                match value {
                    Some(value) => line(out, mark, depth, format_args!("{label}{},", shown(value))),
                    // An element that is not there has no line.
                    None if label.is_empty() => {}
                    None => line(out, mark, depth, format_args!("{label}nil,")),
                }
            }
        }
    }
}

/// A value on one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", go_name(name), shown(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(shown).collect();
            format!("{{{}}}", elements.join(", "))
        }
        other => other.to_string(),
    }
}

/// The name of a Go field of its name in JSON.
fn go_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("dns") {
        return format!("DNS{rest}");
    }
    let mut chars = name.chars();
    chars
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_shows_what_changes_and_counts_the_rest() {
        let old = json!({"containers": [{"name": "a", "image": "i"}, {"name": "b"}], "restartPolicy": "Always", "dnsPolicy": "Default"});
        let new = json!({"containers": [{"name": "a", "image": "j"}, {"name": "b"}], "restartPolicy": "Never",
            "dnsPolicy": "Default", "hostPID": true});
        let expected = "  core.PodSpec{
  \tContainers: {
  \t\t{
- \t\t\tImage: \"i\",
+ \t\t\tImage: \"j\",
  \t\t\t... // 1 identical field
  \t\t},
  \t\t... // 1 identical element
  \t},
  \t... // 1 identical field
- \tHostPID: nil,
+ \tHostPID: true,
- \tRestartPolicy: \"Always\",
+ \tRestartPolicy: \"Never\",
  }
";
        assert_eq!(of("core.PodSpec", &old, &new), expected);
    }
}

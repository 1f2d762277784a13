//! Validation of values, with upstream's texts (`k8s.io/kube-openapi/pkg/validation`).

use serde_json::{Map, Value};

use super::{
    Additional, Kind, Schema,
    correlation::{Correlated, Elements},
    formats,
};
use crate::{
    decode::MAX_SAFE,
    field::{self, Error, ErrorList, ErrorType, Path},
};

impl Schema {
    /// What is wrong with a value: types, bounds, formats, required fields. Sets and list maps are
    /// [another check](Schema::validate_lists), and so are rules.
    pub fn validate(&self, value: &Value) -> ErrorList {
        self.validate_change(value, None)
    }

    /// What is wrong with a value that takes the place of another. A part that is as it was is
    /// taken as it is, even if the schema has become stricter since (KEP-4008).
    pub fn validate_change(&self, value: &Value, old: Option<&Value>) -> ErrorList {
        let mut out = ErrorList::new();
        let old = old.map(|old| Correlated::new(self, value, old));
        node(self, value, old.as_ref(), At::Root, &mut out);
        out
    }

    /// The same of one field of a resource and nothing else of it, as upstream judges an update of the status: texts
    /// speak of what is in the field as if nothing were around it.
    pub(crate) fn validate_field(
        &self,
        name: &str,
        resource: &Value,
        old: Option<&Value>,
    ) -> ErrorList {
        let (Some(schema), Some(value)) = (self.properties.get(name), resource.get(name)) else {
            return ErrorList::new();
        };
        let old = old.and_then(|old| old.get(name));
        let mut out = schema.validate_change(value, old);
        for error in &mut out {
            error.field = error.field.below(&Path::new(name));
        }
        out
    }
}

/// Where in an object a value is. It is spelled out where something is wrong: a key can have a million bytes, and stand
/// above a hundred thousand values.
#[derive(Clone, Copy)]
enum At<'p> {
    Root,
    Field(&'p At<'p>, &'p str),
    Element(&'p At<'p>, usize),
}

/// How many findings there may be before it is asked how long their paths are, and how many bytes those may have.
const FEW: usize = 64;
const MOST: usize = 16 << 20;

impl At<'_> {
    fn len(self) -> usize {
        match self {
            At::Root => 0,
            At::Field(above, name) => above.len() + name.len() + 1,
            At::Element(above, _) => above.len() + 3,
        }
    }
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Field(At::Root, name) => f.write_str(name),
            At::Field(above, name) => write!(f, "{above}.{name}"),
            At::Element(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// The path of a field, as upstream's texts have it.
fn path(at: At<'_>) -> Path {
    match at {
        At::Root => Path::default(),
        at => Path::new(&at.to_string()),
    }
}

fn invalid(at: At<'_>, value: impl Into<Value>, text: String) -> Error {
    field::invalid(path(at), value, format!("{at} in body {text}"))
}

fn wrong_type(at: At<'_>, wanted: &str, found: &Value) -> Error {
    Error {
        kind: ErrorType::TypeInvalid,
        ..invalid(
            at,
            found.clone(),
            format!("must be of type {wanted}: {found}"),
        )
    }
}

/// A number as Go's `%v` has it.
fn go(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e21 {
        format!("{number:.0}")
    } else {
        number.to_string()
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn node<'v>(
    schema: &'v Schema,
    value: &'v Value,
    old: Option<&Correlated<'v>>,
    at: At<'_>,
    out: &mut ErrorList,
) {
    let is_long = || at.len().saturating_mul(out.len()) > MOST;
    if out.len() > FEW && is_long() {
        return;
    }
    let before = out.len();
    judge(schema, value, old, at, out);
    if out.len() > before && old.is_some_and(Correlated::is_same) {
        out.truncate(before);
    }
}

fn judge<'v>(
    schema: &'v Schema,
    value: &'v Value,
    old: Option<&Correlated<'v>>,
    at: At<'_>,
    out: &mut ErrorList,
) {
    type_of(schema, value, at, out);
    junctors(schema, value, old, at, out);
    match value {
        Value::String(text) => string(schema, text, at, out),
        Value::Number(n) => number(schema, value, n.as_f64().unwrap_or(f64::NAN), at, out),
        Value::Array(elements) => array(schema, elements, old, at, out),
        _ => {}
    }
    if let Some(values) = &schema.enumeration
        && !(value.is_null() && schema.nullable)
        && !values.iter().any(|allowed| same(allowed, value))
    {
        let values = values.iter().map(|allowed| match allowed {
            Value::String(text) => format!("{text:?}"),
            other => format!("{:?}", other.to_string()),
        });
        out.push(Error {
            kind: ErrorType::NotSupported,
            detail: format!(
                "supported values: {}",
                values.collect::<Vec<_>>().join(", ")
            ),
            ..field::invalid(path(at), value.clone(), "")
        });
    }
    if let Value::Object(fields) = value {
        object(schema, fields, old, at, out);
    }
}

/// Equality of JSON, where `1` and `1.0` are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn type_of(schema: &Schema, value: &Value, at: At<'_>, out: &mut ErrorList) {
    let wanted = match schema.kind {
        _ if schema.int_or_string => "integer,string",
        Some(kind) => kind.as_str(),
        None => return,
    };
    if value.is_null() {
        if !schema.nullable {
            out.push(wrong_type(at, wanted, &"null".into()));
        }
        return;
    }
    let found = kind_of(value);
    let is_whole = (value.as_f64()).is_some_and(|n| n.fract() == 0.0 && n.abs() <= MAX_SAFE);
    let fits = match schema.kind {
        _ if schema.int_or_string => {
            found == "string" || found == "integer" || (found == "number" && is_whole)
        }
        Some(Kind::Integer) => found == "integer" || (found == "number" && is_whole),
        Some(Kind::Number) => matches!(found, "integer" | "number"),
        Some(kind) => found == kind.as_str(),
        None => true,
    };
    if fits {
        return;
    }
    // Upstream tells the format where there is one, and that of what was found.
    match (&schema.format, value) {
        (Some(format), Value::Number(n)) => {
            let found = if n.is_f64() { "float64" } else { "int64" };
            out.push(wrong_type(at, format, &found.into()));
        }
        (Some(format), Value::Bool(_) | Value::Object(_)) => {
            out.push(wrong_type(at, format, &"".into()));
        }
        _ => out.push(wrong_type(at, wanted, &found.into())),
    }
}

fn string(schema: &Schema, text: &str, at: At<'_>, out: &mut ErrorList) {
    if schema.max_length.is_some() || schema.min_length.is_some() {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_length
            && length > max
        {
            out.push(field::too_long(path(at), usize::try_from(max).unwrap_or(0)));
        }
        if let Some(min) = schema.min_length
            && length < min
        {
            out.push(invalid(
                at,
                text,
                format!("should be at least {min} chars long"),
            ));
        }
    }
    if let Some(pattern) = &schema.pattern
        && !pattern.is_match(text)
    {
        out.push(invalid(
            at,
            text,
            format!("should match '{}'", pattern.as_str()),
        ));
    }
    if let Some(format) = &schema.format
        && schema.kind.is_none_or(|kind| kind == Kind::String)
        && !formats::fits(format, text)
    {
        out.push(wrong_type(at, format, &text.into()));
    }
}

fn number(schema: &Schema, value: &Value, n: f64, at: At<'_>, out: &mut ErrorList) {
    if let Some(factor) = schema.multiple_of {
        let quotient = n / factor;
        if factor > 0.0 && (quotient - quotient.round()).abs() > f64::EPSILON * quotient.abs() {
            let text = format!("should be a multiple of {}", go(factor));
            out.push(invalid(at, value.clone(), text));
        }
    }
    if let Some(max) = schema.maximum {
        if schema.exclusive_maximum && n >= max {
            out.push(invalid(
                at,
                value.clone(),
                format!("should be less than {}", go(max)),
            ));
        } else if n > max {
            let text = format!("should be less than or equal to {}", go(max));
            out.push(invalid(at, value.clone(), text));
        }
    }
    if let Some(min) = schema.minimum {
        if schema.exclusive_minimum && n <= min {
            out.push(invalid(
                at,
                value.clone(),
                format!("should be greater than {}", go(min)),
            ));
        } else if n < min {
            let text = format!("should be greater than or equal to {}", go(min));
            out.push(invalid(at, value.clone(), text));
        }
    }
}

fn array<'v>(
    schema: &'v Schema,
    elements: &'v [Value],
    old: Option<&Correlated<'v>>,
    at: At<'_>,
    out: &mut ErrorList,
) {
    if let Some(items) = &schema.items {
        let before = old.map(|old| (old, old.elements()));
        for (i, element) in elements.iter().enumerate() {
            let old = before
                .as_ref()
                .and_then(|(old, elements): &(_, Elements<'v>)| old.element(elements, element));
            node(items, element, old.as_ref(), At::Element(&at, i), out);
        }
    }
    let count = i64::try_from(elements.len()).unwrap_or(i64::MAX);
    if let Some(min) = schema.min_items
        && count < min
    {
        out.push(invalid(
            at,
            count,
            format!("should have at least {min} items"),
        ));
    }
    if let Some(max) = schema.max_items
        && count > max
    {
        let max = usize::try_from(max).unwrap_or(0);
        out.push(field::too_many(path(at), elements.len(), max));
    }
    if schema.unique_items {
        let mut seen = std::collections::HashSet::new();
        if !elements
            .iter()
            .all(|element| seen.insert(element.to_string()))
        {
            out.push(invalid(at, "", "shouldn't contain duplicates".to_owned()));
        }
    }
}

fn object<'v>(
    schema: &'v Schema,
    fields: &'v Map<String, Value>,
    old: Option<&Correlated<'v>>,
    at: At<'_>,
    out: &mut ErrorList,
) {
    let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    if let Some(min) = schema.min_properties
        && count < min
    {
        out.push(invalid(
            at,
            count,
            format!("should have at least {min} properties"),
        ));
    }
    if let Some(max) = schema.max_properties
        && count > max
    {
        let max = usize::try_from(max).unwrap_or(0);
        out.push(field::too_many(path(at), fields.len(), max));
    }
    for name in &schema.required {
        if !fields.contains_key(name) {
            out.push(field::required(path(At::Field(&at, name)), ""));
        }
    }
    for (name, value) in fields {
        if let Some(field) = schema.field(name) {
            // Both have been converted to this version, whatever they were.
            let is_root = matches!(at, At::Root);
            let is_head = is_root && matches!(name.as_str(), "apiVersion" | "kind");
            let old = old.filter(|_| !is_head).and_then(|old| old.field(name));
            node(field, value, old.as_ref(), At::Field(&at, name), out);
        } else if schema.additional == Additional::Allowed(false) {
            let text = format!("{}.{name} in body is a forbidden property", at);
            out.push(field::invalid(path(at), "", text));
        }
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn junctors<'v>(
    schema: &'v Schema,
    value: &'v Value,
    old: Option<&Correlated<'v>>,
    at: At<'_>,
    out: &mut ErrorList,
) {
    let judge = |schema: &'v Schema| {
        let mut found = ErrorList::new();
        judge(schema, value, old, at, &mut found);
        found
    };
    let fails =
        |text: String| field::invalid(Path::default(), "", format!("{:?} {text}", at.to_string()));
    if !schema.any_of.is_empty() {
        let judged: Vec<ErrorList> = schema.any_of.iter().map(judge).collect();
        if !judged.iter().any(Vec::is_empty) {
            out.push(fails(
                "must validate at least one schema (anyOf)".to_owned(),
            ));
            // What is wrong with the one that comes closest helps most.
            out.extend(judged.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
    }
    if !schema.one_of.is_empty() {
        let judged: Vec<ErrorList> = schema.one_of.iter().map(judge).collect();
        match judged.iter().filter(|found| found.is_empty()).count() {
            1 => {}
            0 => {
                let text = "must validate one and only one schema (oneOf). Found none valid";
                out.push(fails(text.to_owned()));
                out.extend(judged.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
            n => out.push(fails(format!(
                "must validate one and only one schema (oneOf). Found {n} valid alternatives"
            ))),
        }
    }
    if !schema.all_of.is_empty() {
        let judged: Vec<ErrorList> = schema.all_of.iter().map(judge).collect();
        let valid = judged.iter().filter(|found| found.is_empty()).count();
        if valid < judged.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.extend(judged.into_iter().flatten());
            out.push(fails(format!(
                "must validate all the schemas (allOf){none}"
            )));
        }
    }
    if let Some(not) = &schema.not
        && judge(not).is_empty()
    {
        out.push(fails("must not validate the schema (not)".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings(schema: Value, value: Value) -> Vec<String> {
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        let found = schema.validate(&value);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn findings_are_upstreams() {
        let object = |property: Value| json!({"type": "object", "properties": {"a": property}});
        for (schema, value, expected) in [
            (
                object(json!({"type": "integer"})),
                json!({"a": "x"}),
                "a: Invalid value: \"string\": a in body must be of type integer: \"string\"",
            ),
            (
                object(json!({"type": "string"})),
                json!({"a": null}),
                "a: Invalid value: \"null\": a in body must be of type string: \"null\"",
            ),
            (
                object(json!({"x-kubernetes-int-or-string": true})),
                json!({"a": true}),
                "a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\"",
            ),
            (
                object(json!({"type": "integer", "maximum": 10.0})),
                json!({"a": 11}),
                "a: Invalid value: 11: a in body should be less than or equal to 10",
            ),
            (
                object(json!({"type": "number", "minimum": 0.5, "exclusiveMinimum": true})),
                json!({"a": 0.5}),
                "a: Invalid value: 0.5: a in body should be greater than 0.5",
            ),
            (
                object(json!({"type": "string", "pattern": "^b+$"})),
                json!({"a": "x"}),
                "a: Invalid value: \"x\": a in body should match '^b+$'",
            ),
            (
                object(json!({"type": "string", "minLength": 2})),
                json!({"a": "x"}),
                "a: Invalid value: \"x\": a in body should be at least 2 chars long",
            ),
            (
                object(json!({"type": "string", "format": "ipv4"})),
                json!({"a": "x"}),
                "a: Invalid value: \"x\": a in body must be of type ipv4: \"x\"",
            ),
            (
                object(json!({"type": "string", "format": "date-time"})),
                json!({"a": 5}),
                "a: Invalid value: \"int64\": a in body must be of type date-time: \"int64\"",
            ),
            (
                object(json!({"type": "integer", "format": "int32"})),
                json!({"a": true}),
                "a: Invalid value: \"\": a in body must be of type int32: \"\"",
            ),
            (
                object(json!({"type": "array", "items": {"type": "string"}, "maxItems": 1})),
                json!({"a": ["x", "y"]}),
                "a: Too many: 2: must have at most 1 item",
            ),
            (
                object(json!({"type": "array", "items": {"type": "string"}})),
                json!({"a": ["x", 1]}),
                "a[1]: Invalid value: \"integer\": a[1] in body must be of type string: \"integer\"",
            ),
            (
                json!({"type": "object", "required": ["b"]}),
                json!({}),
                "b: Required value",
            ),
            (
                object(json!({"type": "object", "minProperties": 1})),
                json!({"a": {}}),
                "a: Invalid value: 0: a in body should have at least 1 properties",
            ),
            (
                object(json!({"type": "string", "not": {"enum": ["x"]}})),
                json!({"a": "x"}),
                "<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)",
            ),
        ] {
            assert_eq!(findings(schema, value), [expected]);
        }
    }

    #[test]
    fn alternatives_tell_what_comes_closest() {
        let schema =
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b", "c"]}]});
        assert_eq!(
            findings(schema.clone(), json!({})),
            [
                "<nil>: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). Found none valid",
                "a: Required value",
            ]
        );
        assert_eq!(
            findings(schema, json!({"a": 1, "b": 1, "c": 1})),
            [
                "<nil>: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ]
        );
    }

    #[test]
    fn long_paths_are_not_spelled_out_for_all_that_is_below_them() {
        let schema = json!({"type": "object", "additionalProperties": {"type": "array", "items":
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}});
        let long = "x".repeat(1 << 20);
        let good = json!({ &*long: vec![json!({"a": 1}); 100_000] });
        assert_eq!(findings(schema.clone(), good), [""; 0]);
        let bad = json!({ &*long: vec![json!({}); 100_000] });
        let told = findings(schema, bad);
        assert!(
            told[0].ends_with("xx[0].a: Required value"),
            "{}",
            &told[0][told[0].len() - 40..]
        );
        assert!((FEW..200).contains(&told.len()), "{}", told.len());
    }

    #[test]
    fn what_does_not_change_is_not_judged_again() {
        let schema = Schema::new(&serde_json::from_value(json!({"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1}, "b": {"type": "string"},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1.0}}}},
        }})).unwrap());
        let old = json!({"a": "too long", "list": [{"k": "x", "v": 9}]});
        let new =
            json!({"a": "too long", "b": "new", "list": [{"k": "y", "v": 1}, {"k": "x", "v": 9}]});
        assert!(schema.validate_change(&new, Some(&old)).is_empty());
        let new = json!({"a": "too long", "list": [{"k": "x", "v": 8}]});
        assert_eq!(schema.validate_change(&new, Some(&old)).len(), 1);
    }
}

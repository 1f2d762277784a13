//! Validation of values, with upstream's texts (`k8s.io/kube-openapi/pkg/validation`).

mod numbers;
#[cfg(test)]
mod tests;

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

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() => "integer",
        // What is too great for 64 bits with a sign has none in Go either.
        Value::Number(_) => "number",
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
    // Of nothing, no more is asked than its type and whether it is one of the values, which it never is.
    if value.is_null() {
        one_of_values(schema, value, at, out);
        return;
    }
    junctors(schema, value, old, at, out);
    match value {
        Value::String(text) => string(schema, text, at, out),
        Value::Number(n) => numbers::judge(schema, n, at, out),
        Value::Array(elements) => array(schema, elements, old, at, out),
        _ => {}
    }
    one_of_values(schema, value, at, out);
    if let Value::Object(fields) = value {
        object(schema, fields, old, at, out);
    }
}

fn one_of_values(schema: &Schema, value: &Value, at: At<'_>, out: &mut ErrorList) {
    let Some(values) = &schema.enumeration else {
        return;
    };
    if !value.is_null() && values.iter().any(|allowed| same(allowed, value)) {
        return;
    }
    let values = values.iter().map(|allowed| match allowed {
        Value::String(text) => format!("{text:?}"),
        other => format!("{:?}", other.to_string()),
    });
    let found = match value {
        Value::Null => "null".into(),
        value => value.clone(),
    };
    out.push(Error {
        kind: ErrorType::NotSupported,
        detail: format!(
            "supported values: {}",
            values.collect::<Vec<_>>().join(", ")
        ),
        ..field::invalid(path(at), found, "")
    });
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
        None => match &schema.other_kind {
            Some(other) => other,
            None => return,
        },
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
        // Of a text or a list that is of a format, no type is asked.
        None => schema.format.is_some() && matches!(found, "string" | "array"),
    };
    if fits {
        return;
    }
    // Upstream tells the format where there is one, and that of what was found.
    match (&schema.format, value) {
        (Some(format), Value::Number(n)) => {
            let found = if n.is_i64() { "int64" } else { "float64" };
            out.push(wrong_type(at, format, &found.into()));
        }
        (Some(format), Value::Bool(_) | Value::Object(_)) => {
            out.push(wrong_type(at, format, &"".into()));
        }
        _ => out.push(wrong_type(at, wanted, &found.into())),
    }
}

fn string(schema: &Schema, text: &str, at: At<'_>, out: &mut ErrorList) {
    out.extend(fault_of_text(schema, text, at));
    if let Some(format) = &schema.format
        && schema.kind.is_none_or(|kind| kind == Kind::String)
        && !formats::fits(format, text)
    {
        out.push(wrong_type(at, format, &text.into()));
    }
}

/// Of the length and the pattern of a text, upstream tells what it finds first.
fn fault_of_text(schema: &Schema, text: &str, at: At<'_>) -> Option<Error> {
    if schema.max_length.is_some() || schema.min_length.is_some() {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_length.filter(|max| length > *max) {
            let too_long = |max| field::too_long(path(at), max);
            return Some(beyond(max, too_long, "value is too long"));
        }
        if let Some(min) = schema.min_length.filter(|min| length < *min) {
            let why = format!("should be at least {min} chars long");
            return Some(invalid(at, text, why));
        }
    }
    let pattern = (schema.pattern.as_ref()).filter(|pattern| !pattern.is_match(text))?;
    let why = format!("should match '{}'", pattern.as_str());
    Some(invalid(at, text, why))
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
        let too_many = |max| field::too_many(path(at), elements.len(), max);
        out.push(beyond(max, too_many, "has too many items"));
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
    // Nobody looks into an object that has too many fields, or too few.
    if let Some(fault) = fault_of_count(schema, fields.len(), at) {
        out.push(fault);
        return;
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
            out.push(field::invalid(path(at), name.as_str(), text));
        }
    }
}

fn fault_of_count(schema: &Schema, fields: usize, at: At<'_>) -> Option<Error> {
    let count = i64::try_from(fields).unwrap_or(i64::MAX);
    if let Some(min) = schema.min_properties.filter(|min| count < *min) {
        let why = format!("should have at least {min} properties");
        return Some(invalid(at, count, why));
    }
    let max = schema.max_properties.filter(|max| count > *max)?;
    let too_many = |max| field::too_many(path(at), fields, max);
    Some(beyond(max, too_many, "has too many items"))
}

/// A finding of more than there may be. A limit below zero is not told.
fn beyond(max: i64, finding: impl FnOnce(usize) -> Error, untold: &str) -> Error {
    match usize::try_from(max) {
        Ok(max) => finding(max),
        Err(_) => Error {
            detail: untold.to_owned(),
            ..finding(0)
        },
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

//! [`Rules`]: the `x-kubernetes-validations` of a schema, compiled (KEP-2876).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Additional, Rule, Schema};
use crate::{
    cel::{CALL_LIMIT, CelError, OBJECT_LIMIT, Program, Val, value as of},
    field::{self, Error, ErrorList, ErrorType, Path},
    json_path::JsonPath,
};

/// The rules of a schema and of all that is in it.
#[derive(Debug, Default)]
pub struct Rules {
    own: Vec<Compiled>,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    program: Result<Program, CelError>,
    message: Option<Program>,
    /// Whether it compares with the old value.
    is_transition: bool,
}

impl Rules {
    /// Compiles the rules of a schema.
    pub fn new(schema: &Schema) -> Self {
        let some = |schema: &Schema| Some(Rules::new(schema)).filter(|rules| !rules.is_empty());
        Rules {
            own: schema.rules.iter().map(compile).collect(),
            properties: schema
                .properties
                .iter()
                .filter_map(|(name, schema)| Some((name.clone(), some(schema)?)))
                .collect(),
            additional: match &schema.additional {
                Additional::Schema(values) => some(values).map(Box::new),
                _ => None,
            },
            items: schema.items.as_deref().and_then(some).map(Box::new),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
            && self.properties.is_empty()
            && self.additional.is_none()
            && self.items.is_none()
    }

    /// What the rules find wrong with a value, and with how it differs from an old one. A rule that
    /// does not compare them is not asked about what did not change.
    pub fn check(&self, schema: &Schema, value: &Value, old: Option<&Value>) -> ErrorList {
        let mut walk = Walk {
            budget: OBJECT_LIMIT,
            out: ErrorList::new(),
        };
        walk.node(self, schema, value, old, &Path::default());
        walk.out
    }
}

fn compile(rule: &Rule) -> Compiled {
    let program = Program::parse(&rule.rule);
    let message = rule.message_expression.as_deref();
    Compiled {
        is_transition: program.as_ref().is_ok_and(|p| p.mentions("oldSelf")),
        message: message.and_then(|source| Program::parse(source).ok()),
        program,
        rule: rule.clone(),
    }
}

struct Walk {
    budget: u64,
    out: ErrorList,
}

impl Walk {
    /// False if no more may be spent.
    fn node(
        &mut self,
        rules: &Rules,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
    ) -> bool {
        if value.is_null() {
            return true;
        }
        for rule in &rules.own {
            if !self.rule(rule, schema, value, old, path) {
                return false;
            }
        }
        match value {
            Value::Object(fields) => fields.iter().all(|(name, value)| {
                let old = old.and_then(|old| old.get(name));
                match (schema.properties.get(name), &schema.additional) {
                    (Some(field), _) => match rules.properties.get(name) {
                        Some(rules) => self.node(rules, field, value, old, &path.child(name)),
                        None => true,
                    },
                    (None, Additional::Schema(field)) => match &rules.additional {
                        Some(rules) => self.node(rules, field, value, old, &path.key(name)),
                        None => true,
                    },
                    _ => true,
                }
            }),
            Value::Array(elements) => {
                let (Some(rules), Some(items)) = (&rules.items, &schema.items) else {
                    return true;
                };
                let before = schema.old_elements(old);
                elements.iter().enumerate().all(|(at, element)| {
                    let old = before.of(schema, element);
                    self.node(rules, items, element, old, &path.index(at))
                })
            }
            _ => true,
        }
    }

    fn rule(
        &mut self,
        compiled: &Compiled,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
    ) -> bool {
        let rule = &compiled.rule;
        let optional = rule.optional_old_self == Some(true);
        if compiled.is_transition && old.is_none() && !optional {
            return true;
        }
        if !compiled.is_transition && old == Some(value) {
            return true;
        }
        let program = match &compiled.program {
            Ok(program) => program,
            Err(error) => {
                let text = format!("rule compile error: compilation failed: {error}");
                self.out.push(self::invalid(schema, path, text));
                return true;
            }
        };
        let before = old.map(|old| of(old, Some(schema)));
        let before = match (optional, before) {
            (true, before) => Val::Optional(before.map(std::rc::Rc::new)),
            (false, Some(before)) => before,
            (false, None) => Val::Null,
        };
        let variables = [("self", of(value, Some(schema))), ("oldSelf", before)];
        let mut call = self.budget.min(CALL_LIMIT);
        let allowed = call;
        let found = program.evaluate(&variables, &mut call);
        self.budget = self.budget.saturating_sub(allowed - call);
        let told = match rule.message.as_deref().map(str::trim) {
            Some(message) if !message.is_empty() => message,
            _ => rule.rule.trim(),
        };
        match found {
            Ok(Val::Bool(true)) => {}
            Ok(Val::Bool(false)) => {
                let message = compiled.message.as_ref().and_then(|program| {
                    let mut call = self.budget.min(CALL_LIMIT);
                    let allowed = call;
                    let found = program.evaluate(&variables, &mut call);
                    self.budget = self.budget.saturating_sub(allowed - call);
                    match found {
                        Ok(Val::String(text)) => Some(text.trim().to_owned())
                            .filter(|t| !t.is_empty() && !t.contains(['\n', '\r'])),
                        _ => None,
                    }
                });
                let message = message.unwrap_or_else(|| match rule.message.as_deref() {
                    Some(message) if !message.trim().is_empty() => message.trim().to_owned(),
                    _ => format!("failed rule: {}", rule.rule.trim()),
                });
                let path = below(path, rule.field_path.as_deref());
                self.out.push(refused(rule, schema, path, message));
            }
            Err(error @ CelError::Cost) => {
                let why = if allowed == CALL_LIMIT {
                    "call cost exceeds limit for rule"
                } else {
                    "no further validation rules will be run due to call cost exceeds limit for rule"
                };
                let text = format!("'{error}': {why}: {told}");
                self.out.push(invalid(schema, path, text));
                return false;
            }
            Ok(_) | Err(CelError::NoOverload) => {
                let error = CelError::NoOverload;
                let text = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
                );
                self.out.push(invalid(schema, path, text));
            }
            Err(error) => {
                let text = format!("{error} evaluating rule: {told}");
                self.out.push(invalid(schema, path, text));
            }
        }
        if self.budget == 0 {
            let text = "validation failed due to running out of cost budget, no further validation rules will be run";
            self.out.push(invalid(schema, path, text.to_owned()));
            return false;
        }
        true
    }
}

fn type_name(schema: &Schema) -> &'static str {
    schema.kind.map_or("", super::Kind::as_str)
}

fn invalid(schema: &Schema, path: &Path, text: String) -> Error {
    field::invalid(path.clone(), type_name(schema), text)
}

fn refused(rule: &Rule, schema: &Schema, path: Path, message: String) -> Error {
    let error = field::invalid(path, type_name(schema), message);
    match rule.reason.as_deref() {
        Some("FieldValueRequired") => Error {
            kind: ErrorType::Required,
            value: None,
            ..error
        },
        Some("FieldValueForbidden") => Error {
            kind: ErrorType::Forbidden,
            value: None,
            ..error
        },
        Some("FieldValueDuplicate") => Error {
            kind: ErrorType::Duplicate,
            detail: String::new(),
            ..error
        },
        _ => error,
    }
}

/// The field below a path that a rule blames.
fn below(path: &Path, field: Option<&str>) -> Path {
    let parsed = field.and_then(|field| field.parse::<JsonPath>().ok());
    match parsed.as_ref().and_then(JsonPath::names) {
        Some(names) => names
            .iter()
            .fold(path.clone(), |path, name| path.child(name)),
        None => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings(schema: Value, value: &Value, old: Option<&Value>) -> Vec<String> {
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        let found = Rules::new(&schema).check(&schema, value, old);
        found.iter().map(ToString::to_string).collect()
    }

    fn spec(rules: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules,
            "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}}}})
    }

    #[test]
    fn a_rule_that_fails_tells_its_message() {
        let value = json!({"spec": {"min": 3, "max": 2}});
        for (rule, expected) in [
            (
                json!({"rule": "self.min <= self.max"}),
                "spec: Invalid value: \"object\": failed rule: self.min <= self.max",
            ),
            (
                json!({"rule": "self.min <= self.max", "message": "too great"}),
                "spec: Invalid value: \"object\": too great",
            ),
            (
                json!({"rule": "self.min <= self.max", "messageExpression": "'at most ' + string(self.max)"}),
                "spec: Invalid value: \"object\": at most 2",
            ),
            (
                json!({"rule": "self.min <= self.max", "fieldPath": ".min", "reason": "FieldValueForbidden", "message": "no"}),
                "spec.min: Forbidden: no",
            ),
            (
                json!({"rule": "self.min / 0 == 1"}),
                "spec: Invalid value: \"object\": division by zero evaluating rule: self.min / 0 == 1",
            ),
        ] {
            assert_eq!(findings(spec(json!([rule])), &value, None), [expected]);
        }
    }

    #[test]
    fn transitions_compare_with_what_was() {
        let (old, new) = (json!({"spec": {"min": 1}}), json!({"spec": {"min": 2}}));
        let rule = spec(json!([{"rule": "self.min == oldSelf.min", "message": "may not change"}]));
        assert!(findings(rule.clone(), &new, None).is_empty());
        assert!(findings(rule.clone(), &old, Some(&old)).is_empty());
        let found = findings(rule, &new, Some(&old));
        assert_eq!(found, ["spec: Invalid value: \"object\": may not change"]);
        let rule =
            spec(json!([{"rule": "oldSelf.hasValue() || self.min == 1", "optionalOldSelf": true}]));
        assert_eq!(findings(rule.clone(), &new, None).len(), 1);
        assert!(findings(rule, &new, Some(&old)).is_empty());
    }

    #[test]
    fn what_did_not_change_is_not_asked_about() {
        let value = json!({"spec": {"min": 3, "max": 2}});
        let rule = spec(json!([{"rule": "self.min <= self.max"}]));
        assert!(findings(rule, &value, Some(&value)).is_empty());
    }
}

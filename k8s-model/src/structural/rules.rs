//! [`Rules`]: the `x-kubernetes-validations` of a schema, compiled (KEP-2876).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Additional, Rule, Schema, field_path};
use crate::{
    cel::{CALL_LIMIT, CelError, OBJECT_LIMIT, Program, Scope, Val, value as of},
    field::{self, Error, ErrorList, ErrorType, Path},
};

/// How long a message may be that an expression makes, in bytes.
const LONGEST_MESSAGE: usize = 5 << 10;

/// What is told when nothing is left of what the rules for one object may cost.
const NO_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

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
    program: Result<Program, String>,
    message: Option<Program>,
    /// Whether it compares with the old value.
    is_transition: bool,
    /// The field that it blames, below its own.
    blamed: Option<String>,
}

impl Rules {
    /// Compiles the rules of a schema, which is that of whole resources.
    pub fn new(schema: &Schema) -> Self {
        Rules::below(schema, true)
    }

    fn below(schema: &Schema, is_root: bool) -> Self {
        let some =
            |schema: &Schema| Some(Rules::below(schema, false)).filter(|rules| !rules.is_empty());
        let own = schema.rules.iter();
        Rules {
            own: own.map(|rule| compile(rule, schema, is_root)).collect(),
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

    /// What the rules find wrong with a value, and with how it differs from an old one. What did not change is excused
    /// from rules that are false of it, if they do not compare.
    pub fn check(&self, schema: &Schema, value: &Value, old: Option<&Value>) -> ErrorList {
        let mut walk = Walk {
            budget: OBJECT_LIMIT,
            out: ErrorList::new(),
        };
        let before = Before { old, nearest: None };
        walk.node(self, schema, value, before, &Path::default());
        walk.out
    }
}

fn compile<'s>(rule: &Rule, schema: &'s Schema, is_root: bool) -> Compiled {
    let with = |scope: Scope<'s>, name: &str| match is_root || schema.embedded {
        true => scope.with_resource(name, schema),
        false => scope.with(name, Some(schema)),
    };
    // What is stored was judged when it was written.
    let scope = with(Scope::new().stored(true), "self");
    let scope = match rule.optional_old_self {
        Some(true) => scope.with_optional("oldSelf", "self"),
        _ => with(scope, "oldSelf"),
    };
    let parsed = |source: &str| {
        let program = Program::parse(source).map_err(|error| error.to_string())?;
        program.typed(&scope)
    };
    let program = parsed(&rule.rule);
    let message = rule.message_expression.as_deref();
    let blamed = rule.field_path.as_deref();
    Compiled {
        is_transition: program.as_ref().is_ok_and(|p| p.mentions("oldSelf")),
        message: message.and_then(|source| parsed(source).ok()),
        blamed: blamed.and_then(|path| field_path::read(path, schema)),
        program,
        rule: rule.clone(),
    }
}

struct Walk {
    budget: u64,
    out: ErrorList,
}

/// What was there before.
#[derive(Clone, Copy)]
struct Before<'v> {
    /// The old value, if there is one that stands for this one.
    old: Option<&'v Value>,
    /// The nearest value around this one that has an old one, with that.
    nearest: Option<(&'v Value, &'v Value)>,
}

impl<'v> Before<'v> {
    /// Whether the value is in something that is as it was.
    fn is_same(&self, value: &Value) -> bool {
        match (self.old, self.nearest) {
            (Some(old), _) => old == value,
            (None, Some((now, old))) => now == old,
            (None, None) => false,
        }
    }

    /// Of what is in a value.
    fn within(&self, value: &'v Value, old: Option<&'v Value>) -> Self {
        Before {
            old,
            nearest: match self.old {
                Some(before) => Some((value, before)),
                None => self.nearest,
            },
        }
    }
}

/// What became of the expression of a message.
enum Message {
    Made(String),
    /// It makes none: the rule's own is told.
    None,
    /// It costs too much, and nothing more is evaluated.
    TooDear(String),
}

impl Walk {
    /// False if no more may be spent.
    fn node<'v>(
        &mut self,
        rules: &Rules,
        schema: &Schema,
        value: &'v Value,
        before: Before<'v>,
        path: &Path,
    ) -> bool {
        if value.is_null() {
            return true;
        }
        if !rules.own.is_empty() && self.budget == 0 {
            self.out.push(invalid(schema, path, NO_BUDGET.to_owned()));
            return false;
        }
        for rule in &rules.own {
            if !self.rule(rule, schema, value, before, path) {
                return false;
            }
        }
        match value {
            Value::Object(fields) => fields.iter().all(|(name, field)| {
                let old = before.old.and_then(|old| old.get(name));
                let before = before.within(value, old);
                match (schema.properties.get(name), &schema.additional) {
                    (Some(schema), _) => match rules.properties.get(name) {
                        Some(rules) => self.node(rules, schema, field, before, &path.child(name)),
                        None => true,
                    },
                    (None, Additional::Schema(schema)) => match &rules.additional {
                        Some(rules) => self.node(rules, schema, field, before, &path.key(name)),
                        None => true,
                    },
                    _ => true,
                }
            }),
            Value::Array(elements) => {
                let (Some(rules), Some(items)) = (&rules.items, &schema.items) else {
                    return true;
                };
                let correlated = schema.old_elements(before.old);
                elements.iter().enumerate().all(|(at, element)| {
                    let before = before.within(value, correlated.of(schema, element));
                    self.node(rules, items, element, before, &path.index(at))
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
        before: Before<'_>,
        path: &Path,
    ) -> bool {
        let rule = &compiled.rule;
        let optional = rule.optional_old_self == Some(true);
        if compiled.is_transition && before.old.is_none() && !optional {
            return true;
        }
        let program = match &compiled.program {
            Ok(program) => program,
            Err(error) => {
                let text = format!("rule compile error: compilation failed: {error}");
                self.out.push(invalid(schema, path, text));
                return true;
            }
        };
        let old = before.old.map(|old| of(old, Some(schema)));
        let old = match (optional, old) {
            (true, old) => Val::Optional(old.map(std::rc::Rc::new)),
            (false, Some(old)) => old,
            (false, None) => Val::Null,
        };
        let variables = [("self", of(value, Some(schema))), ("oldSelf", old)];
        let (found, cost) = program.run(&variables, self.budget.min(CALL_LIMIT));
        let Some(left) = self.budget.checked_sub(cost) else {
            self.out.push(invalid(schema, path, NO_BUDGET.to_owned()));
            return false;
        };
        self.budget = left;
        let message = rule
            .message
            .as_deref()
            .filter(|message| !message.is_empty());
        let told = message.unwrap_or(&rule.rule).trim();
        let text = match found {
            Ok(Val::Bool(true)) => return true,
            Ok(Val::Bool(false)) => {
                return self.broken(compiled, schema, value, before, &variables, path);
            }
            Err(error @ CelError::Cost) => {
                let text = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {told}"
                );
                self.out.push(invalid(schema, path, text));
                return false;
            }
            Ok(_) | Err(CelError::NoOverload) => {
                let error = CelError::NoOverload;
                format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
                )
            }
            Err(error) => format!("{error} evaluating rule: {told}"),
        };
        self.out.push(invalid(schema, path, text));
        true
    }

    /// A rule is false of a value.
    fn broken(
        &mut self,
        compiled: &Compiled,
        schema: &Schema,
        value: &Value,
        before: Before<'_>,
        variables: &[(&'static str, Val<'_>)],
        path: &Path,
    ) -> bool {
        let rule = &compiled.rule;
        let path = match compiled.blamed.as_deref() {
            Some(blamed) => path.child(blamed),
            None => path.clone(),
        };
        let (error, goes_on) = match self.message(compiled, variables) {
            Message::Made(message) => (refused(rule, value, path, message), true),
            Message::None => {
                let message = match rule.message.as_deref().filter(|m| !m.is_empty()) {
                    Some(message) => message.trim().to_owned(),
                    None => format!("failed rule: {}", rule.rule.trim()),
                };
                (refused(rule, value, path, message), true)
            }
            Message::TooDear(text) => (invalid(schema, &path, text), false),
        };
        if compiled.is_transition || !before.is_same(value) {
            self.out.push(error);
        }
        goes_on
    }

    fn message(&mut self, compiled: &Compiled, variables: &[(&'static str, Val<'_>)]) -> Message {
        let Some(program) = &compiled.message else {
            return Message::None;
        };
        let (found, cost) = program.run(variables, self.budget.min(CALL_LIMIT));
        let Some(left) = self.budget.checked_sub(cost) else {
            let text = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
            return Message::TooDear(text.to_owned());
        };
        self.budget = left;
        match found {
            Ok(Val::String(text)) => {
                let text = text.trim();
                let good =
                    !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
                match good {
                    true => Message::Made(text.to_owned()),
                    false => Message::None,
                }
            }
            Err(CelError::Cost) => {
                let source = compiled.rule.message_expression.as_deref();
                Message::TooDear(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                    source.unwrap_or_default()
                ))
            }
            _ => Message::None,
        }
    }
}

fn type_name(schema: &Schema) -> &'static str {
    schema.kind.map_or("", super::Kind::as_str)
}

fn invalid(schema: &Schema, path: &Path, text: String) -> Error {
    field::invalid(path.clone(), type_name(schema), text)
}

/// Objects and lists are not told.
fn refused(rule: &Rule, value: &Value, path: Path, message: String) -> Error {
    let mut error = field::invalid(path, value.clone(), message);
    if matches!(value, Value::Object(_) | Value::Array(_)) {
        error.value = None;
    }
    match rule.reason.as_deref() {
        Some("FieldValueRequired") => {
            error.kind = ErrorType::Required;
            error.value = None;
        }
        Some("FieldValueForbidden") => {
            error.kind = ErrorType::Forbidden;
            error.value = None;
        }
        Some("FieldValueDuplicate") => {
            error.kind = ErrorType::Duplicate;
            error.detail = String::new();
        }
        _ => {}
    }
    error
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
                "spec: Invalid value: failed rule: self.min <= self.max",
            ),
            (
                json!({"rule": "self.min <= self.max", "message": "too great"}),
                "spec: Invalid value: too great",
            ),
            (
                json!({"rule": "self.min <= self.max", "messageExpression": "'at most ' + string(self.max)"}),
                "spec: Invalid value: at most 2",
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
        assert_eq!(found, ["spec: Invalid value: may not change"]);
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

    /// As upstream: what goes wrong is told whether the value changed or not, only what is false is not.
    #[test]
    fn what_cannot_be_evaluated_is_told_of_what_did_not_change_too() {
        let value = json!({"spec": {"min": 3}});
        let rule = spec(json!([{"rule": "self.min <= self.max"}]));
        assert_eq!(
            findings(rule, &value, Some(&value)),
            [
                "spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"
            ]
        );
    }

    #[test]
    fn what_rules_may_cost_ends_them() {
        let list = |rules: Value| {
            json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer"},
                "x-kubernetes-validations": rules}}})
        };
        let value = json!({"list": (0..600).collect::<Vec<_>>()});
        // Each of 600 costs three, and seven for each of 600.
        let dear = "self.all(x, self.all(y, x + y >= 0))";
        let of_call = "list: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: ";
        let found = findings(
            list(json!([{"rule": dear, "message": "dear"}, {"rule": "false"}])),
            &value,
            None,
        );
        assert_eq!(found, [format!("{of_call}dear")]);
        let found = findings(
            list(json!([{"rule": "false"}, {"rule": dear}, {"rule": "false"}])),
            &value,
            None,
        );
        assert_eq!(
            found,
            [
                "list: Invalid value: failed rule: false".to_owned(),
                format!("{of_call}{dear}")
            ]
        );
        // Each of these costs less than a call may, and all of them more than an object may.
        let value = json!({"list": (0..300).collect::<Vec<_>>()});
        let rules: Vec<Value> = (0..30).map(|_| json!({ "rule": dear })).collect();
        let found = findings(list(json!(rules)), &value, None);
        assert_eq!(
            found,
            [format!("list: Invalid value: \"array\": {NO_BUDGET}")]
        );
        let rules: Vec<Value> = (0..10).map(|_| json!({ "rule": dear })).collect();
        assert_eq!(
            findings(list(json!(rules)), &value, None),
            Vec::<String>::new()
        );
        // A message is priced, too.
        let value = json!({"list": (0..600).collect::<Vec<_>>()});
        let rules = json!([{"rule": "false", "messageExpression": format!("{dear} ? 'a' : 'b'")}, {"rule": "false"}]);
        assert_eq!(
            findings(list(rules), &value, None),
            [format!(
                "list: Invalid value: \"array\": no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                format!("{dear} ? 'a' : 'b'")
            )]
        );
    }
}

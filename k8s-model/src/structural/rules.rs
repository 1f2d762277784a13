//! [`Rules`]: the `x-kubernetes-validations` of a schema, compiled (KEP-2876).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Additional, Kind, Rule, Schema,
    correlation::{Correlated, Elements},
    field_path,
};
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
    /// Whether any of its own compares with the old value: only then messages may speak of it.
    compares: bool,
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
    /// Compiles the rules of a schema, be it that of whole resources or not.
    pub fn new(schema: &Schema, is_root: bool) -> Self {
        let some =
            |schema: &Schema| Some(Rules::new(schema, false)).filter(|rules| !rules.is_empty());
        let own = schema.rules.iter();
        let own: Vec<Compiled> = own.map(|rule| compile(rule, schema, is_root)).collect();
        Rules {
            compares: own.iter().any(|rule| rule.is_transition),
            own,
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

    /// What the rules find wrong with a value, and with how it differs from an old one.
    pub fn check(&self, schema: &Schema, value: &Value, old: Option<&Value>) -> Findings {
        let mut walk = Walk {
            budget: OBJECT_LIMIT,
            out: Findings::default(),
        };
        let root = old.map(|old| Correlated::new(schema, value, old));
        let before = Before {
            old,
            own: root.as_ref(),
            nearest: None,
        };
        walk.node(self, schema, value, before, &Path::default());
        walk.out
    }
}

impl Rules {
    /// What is wrong with a default at a path: with one that stays, and with one that is new. What that costs is taken
    /// off the budget; false if it is not enough.
    pub(crate) fn check_default(
        &self,
        schema: &Schema,
        value: &Value,
        path: &Path,
        budget: &mut u64,
    ) -> (ErrorList, bool) {
        let check = |old| {
            let mut walk = Walk {
                budget: *budget,
                out: Findings::default(),
            };
            let before = Before {
                old,
                own: None,
                nearest: None,
            };
            let goes_on = walk.node(self, schema, value, before, path);
            (walk.out.errors, walk.budget, goes_on)
        };
        let (mut errors, mut left, mut goes_on) = check(Some(value));
        if errors.is_empty() {
            let (more, rest, ends) = check(None);
            (errors, left, goes_on) = (more, left.min(rest), goes_on && ends);
        }
        *budget = left;
        (errors, goes_on)
    }
}

/// What rules find wrong.
#[derive(Debug, Default)]
pub struct Findings {
    /// What nobody is excused from.
    pub errors: ErrorList,
    /// What is excused, since it did not change and the rules that are false of it do not compare.
    pub excused: ErrorList,
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
    out: Findings,
}

/// What was there before.
#[derive(Clone, Copy)]
struct Before<'b, 'v> {
    /// What rules may compare with.
    old: Option<&'v Value>,
    /// The value with the one that it takes the place of, if it does.
    own: Option<&'b Correlated<'v>>,
    /// The nearest value around this one that does.
    nearest: Option<&'b Correlated<'v>>,
}

impl<'b, 'v> Before<'b, 'v> {
    /// Whether the value is as it was, or in something that is.
    fn is_same(&self) -> bool {
        self.own.or(self.nearest).is_some_and(Correlated::is_same)
    }

    /// Of what is in a value, itself correlated or not.
    fn within<'c>(&self, old: Option<&'v Value>, own: Option<&'c Correlated<'v>>) -> Before<'c, 'v>
    where
        'b: 'c,
    {
        Before {
            old,
            own,
            nearest: self.own.or(self.nearest),
        }
    }

    /// The same of a field of it.
    fn field(&self, name: &str) -> Option<Correlated<'v>> {
        self.own.and_then(|own| own.field(name))
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

/// A value, with what is known of it.
#[derive(Clone, Copy)]
struct Known<'v> {
    schema: &'v Schema,
    value: &'v Value,
    compares: bool,
}

impl Walk {
    /// False if no more may be spent.
    fn node<'v>(
        &mut self,
        rules: &Rules,
        schema: &'v Schema,
        value: &'v Value,
        before: Before<'_, 'v>,
        path: &Path,
    ) -> bool {
        if value.is_null() {
            return true;
        }
        if !rules.own.is_empty() && self.budget == 0 {
            self.fails(schema, path, NO_BUDGET.to_owned());
            return false;
        }
        let known = Known {
            schema,
            value,
            compares: rules.compares,
        };
        for rule in &rules.own {
            if !self.rule(rule, known, before, path) {
                return false;
            }
        }
        match value {
            Value::Object(fields) => fields.iter().all(|(name, field)| {
                let old = before.old.and_then(|old| old.get(name));
                let own = before.field(name);
                let is_root = before.own.is_some() && before.nearest.is_none();
                let mut before = before.within(old, own.as_ref());
                if is_root && matches!(name.as_str(), "apiVersion" | "kind") {
                    // Both have been converted to this version, whatever they were.
                    (before.own, before.nearest) = (None, None);
                }
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
                let olds = before.old.map(|old| Elements::of(schema, old));
                elements.iter().enumerate().all(|(at, element)| {
                    let old = olds.as_ref().and_then(|olds| olds.get(element));
                    let own = before.own.zip(olds.as_ref());
                    let own = own.and_then(|(own, olds)| own.element(olds, element));
                    let before = before.within(old, own.as_ref());
                    self.node(rules, items, element, before, &path.index(at))
                })
            }
            _ => true,
        }
    }

    fn fails(&mut self, schema: &Schema, path: &Path, text: String) {
        self.out.errors.push(invalid(schema, path, text));
    }

    fn rule(
        &mut self,
        compiled: &Compiled,
        known: Known<'_>,
        before: Before<'_, '_>,
        path: &Path,
    ) -> bool {
        let Known { schema, value, .. } = known;
        let rule = &compiled.rule;
        let optional = rule.optional_old_self == Some(true);
        if compiled.is_transition && before.old.is_none() && !optional {
            return true;
        }
        let program = match &compiled.program {
            Ok(program) => program,
            Err(error) => {
                let text = format!("rule compile error: compilation failed: {error}");
                self.fails(schema, path, text);
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
            self.fails(schema, path, NO_BUDGET.to_owned());
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
                return self.broken(compiled, known, before, path);
            }
            Err(error @ CelError::Cost) => {
                let text = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {told}"
                );
                self.fails(schema, path, text);
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
        self.fails(schema, path, text);
        true
    }

    /// A rule is false of a value.
    fn broken(
        &mut self,
        compiled: &Compiled,
        known: Known<'_>,
        before: Before<'_, '_>,
        path: &Path,
    ) -> bool {
        let (schema, rule) = (known.schema, &compiled.rule);
        // A message is made of the old value as such, whether the rule has an optional one or not.
        let mut variables = vec![("self", of(known.value, Some(schema)))];
        if let Some(old) = before.old.filter(|_| known.compares) {
            variables.push(("oldSelf", of(old, Some(schema))));
        }
        let path = match compiled.blamed.as_deref() {
            Some(blamed) => path.child(blamed),
            None => path.clone(),
        };
        let (error, goes_on) = match self.message(compiled, &variables) {
            Message::Made(message) => (refused(rule, known, path, message), true),
            Message::None => {
                let message = match rule.message.as_deref().filter(|m| !m.is_empty()) {
                    Some(message) => message.trim().to_owned(),
                    None => format!("failed rule: {}", rule.rule.trim()),
                };
                (refused(rule, known, path, message), true)
            }
            Message::TooDear(text) => (invalid(schema, &path, text), false),
        };
        match compiled.is_transition || !before.is_same() {
            true => self.out.errors.push(error),
            false => self.out.excused.push(error),
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
fn refused(rule: &Rule, known: Known<'_>, path: Path, message: String) -> Error {
    let mut error = field::invalid(path, known.value.clone(), message);
    if matches!(known.schema.kind, Some(Kind::Object | Kind::Array)) {
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
        let found = Rules::new(&schema, true).check(&schema, value, old).errors;
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
    fn what_did_not_change_is_excused_with_a_word_of_it() {
        let value = json!({"spec": {"min": 3, "max": 2}});
        let schema = spec(json!([{"rule": "self.min <= self.max", "message": "too great"}]));
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        let found = Rules::new(&schema, true).check(&schema, &value, Some(&value));
        assert!(found.errors.is_empty());
        let excused: Vec<String> = found.excused.iter().map(ToString::to_string).collect();
        assert_eq!(excused, ["spec: Invalid value: too great"]);
    }

    /// As upstream: a message is made of the old value itself, even where the rule has an optional one.
    #[test]
    fn messages_speak_of_the_old_value_if_a_rule_does() {
        let (old, new) = (json!({"spec": {"min": 1}}), json!({"spec": {"min": 2}}));
        let rule = |rule: &str, message: &str| {
            spec(json!([{"rule": rule, "messageExpression": message, "optionalOldSelf": true}]))
        };
        let source = "!oldSelf.hasValue()";
        for (message, expected) in [
            ("'was ' + string(oldSelf.?min.orValue(0))", "was 1"),
            (
                "oldSelf.hasValue() ? 'a' : 'b'",
                "failed rule: !oldSelf.hasValue()",
            ),
        ] {
            let found = findings(rule(source, message), &new, Some(&old));
            assert_eq!(found, [format!("spec: Invalid value: {expected}")]);
        }
        let found = findings(
            rule(
                "oldSelf.hasValue()",
                "'new: ' + string(oldSelf.?min.orValue(0))",
            ),
            &new,
            None,
        );
        assert_eq!(
            found,
            ["spec: Invalid value: failed rule: oldSelf.hasValue()"]
        );
    }

    #[test]
    fn elements_are_excused_where_they_are_as_they_were() {
        let element = json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.v < 5", "message": "large"}]});
        let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": element});
        let plain = json!({"type": "array", "items": element});
        let schema = json!({"type": "object", "properties": {"map": map, "plain": plain,
            "kind": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'Old'", "message": "old"}]}}});
        let a = json!({"k": "a", "v": 9});
        let b = json!({"k": "b", "v": 9});
        for (new, old, expected) in [
            (
                json!({"map": [a, b]}),
                json!({"map": [b]}),
                vec!["map[0]: Invalid value: large"],
            ),
            (json!({"map": [a, b]}), json!({"map": [b, a]}), vec![]),
            (json!({"plain": [a]}), json!({"plain": [a]}), vec![]),
            (
                json!({"plain": [a, b]}),
                json!({"plain": [a]}),
                vec![
                    "plain[0]: Invalid value: large",
                    "plain[1]: Invalid value: large",
                ],
            ),
            // What both versions have become one is not known of.
            (
                json!({"kind": "Old"}),
                json!({"kind": "Old"}),
                vec!["kind: Invalid value: \"Old\": old"],
            ),
        ] {
            assert_eq!(
                findings(schema.clone(), &new, Some(&old)),
                expected,
                "{new} {old}"
            );
        }
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

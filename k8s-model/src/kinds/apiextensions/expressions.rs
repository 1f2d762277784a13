//! The rules in a schema: whether they can be compiled, what they compare, what they may cost.

use std::collections::HashSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};

use super::structure::Patterns;
use crate::{
    cel::{Estimate, Program, Scope, max_cardinality},
    field::{self, ErrorList, Path},
    kinds::{checks, difference::spelled},
    structural::Schema,
};

/// What one rule may cost for all values that it is asked about; upstream's
/// `StaticEstimatedCostLimit`.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost; upstream's `StaticEstimatedCRDCostLimit`.
const SCHEMA_LIMIT: u64 = 100_000_000;

/// How many rules are named when all together cost too much.
const DEAREST: usize = 4;

/// Nodes of a schema that are wrong otherwise, or have such nodes within them.
pub(super) type Faulty = HashSet<*const JSONSchemaProps>;

/// What an update is excused for, as it was there before: upstream's versions may have judged it less strictly.
#[derive(Debug, Default)]
pub(super) struct Known<'d> {
    /// The rules, and the expressions of messages, of all versions of the old definition.
    rules: HashSet<&'d str>,
    messages: HashSet<&'d str>,
    /// Whether the schema is what it was: what each of its rules costs is not judged then, only what all cost.
    pub(super) is_unchanged: bool,
    pub(super) patterns: Patterns<'d>,
}

impl<'d> Known<'d> {
    /// What was there in these schemas.
    pub(super) fn of(schemas: impl Iterator<Item = &'d JSONSchemaProps>) -> Self {
        let mut known = Known::default();
        schemas.for_each(|schema| known.gather(schema));
        known
    }

    fn gather(&mut self, props: &'d JSONSchemaProps) {
        for rule in checks::list(&props.x_kubernetes_validations) {
            self.rules.insert(&rule.rule);
            self.messages
                .extend(rule.message_expression.as_deref().filter(|m| !m.is_empty()));
        }
        within(props, &mut |inner| self.gather(inner));
    }
}

/// Calls `each` with the schemas right within a schema.
pub(super) fn within<'d>(props: &'d JSONSchemaProps, each: &mut dyn FnMut(&'d JSONSchemaProps)) {
    let more = [&props.all_of, &props.any_of, &props.one_of];
    let maps = [
        &props.properties,
        &props.pattern_properties,
        &props.definitions,
    ];
    let inner = maps
        .into_iter()
        .flat_map(|map| map.iter().flatten().map(|(_, inner)| inner))
        .chain(more.into_iter().flat_map(|list| list.iter().flatten()))
        .chain(props.not.as_deref());
    inner.for_each(&mut *each);
    for more in [&props.additional_properties, &props.additional_items] {
        if let Some(JSONSchemaPropsOrBool::Schema(inner)) = more {
            each(inner);
        }
    }
    match &props.items {
        Some(JSONSchemaPropsOrArray::Schema(inner)) => each(inner),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter().for_each(each),
        None => {}
    }
}

/// Checks the rules of a schema that is structural, but for those of faulty nodes: who mends these may find that nothing is
/// wrong with their rules.
pub(super) fn check_all(
    props: &JSONSchemaProps,
    known: &Known<'_>,
    faulty: &Faulty,
    path: &Path,
    out: &mut ErrorList,
) {
    let mut check = Check {
        known,
        faulty,
        root: path.clone(),
        total: 0,
        dearest: Vec::new(),
        out,
    };
    check.node(props, path, None, Some(1));
    let total = check.total;
    if total > SCHEMA_LIMIT {
        for (_, path) in std::mem::take(&mut check.dearest) {
            let text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            out.push(field::forbidden(path, text));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        out.push(field::forbidden(
            path.clone(),
            too_much(name, total, SCHEMA_LIMIT),
        ));
    }
}

struct Check<'o> {
    known: &'o Known<'o>,
    faulty: &'o Faulty,
    /// Where the schema of the whole resource is.
    root: Path,
    total: u64,
    /// The rules that cost most, in the order of their cost.
    dearest: Vec<(u64, Path)>,
    out: &'o mut ErrorList,
}

impl Check<'_> {
    /// `loose` is where old values cease to be found for new ones; `times` how many values of the
    /// node there are at most, if each list and map above it has a bound.
    fn node(
        &mut self,
        props: &JSONSchemaProps,
        path: &Path,
        loose: Option<&Path>,
        times: Option<u64>,
    ) {
        let rules = checks::list(&props.x_kubernetes_validations);
        if !rules.is_empty() && !self.faulty.contains(&std::ptr::from_ref(props)) {
            let mut schema = Schema::new(props);
            schema.embedded |= *path == self.root;
            let times = times.unwrap_or_else(|| max_cardinality(&schema));
            for (at, rule) in rules.iter().enumerate() {
                let path = path.child("x-kubernetes-validations").index(at);
                self.rule(rule, &schema, &path, loose, times);
            }
        }
        for (name, inner) in props.properties.iter().flatten() {
            self.node(inner, &path.child("properties").key(name), loose, times);
        }
        let more = |bound: Option<i64>| {
            let bound = u64::try_from(bound?).unwrap_or(0);
            Some(times?.saturating_mul(bound))
        };
        if let Some(JSONSchemaPropsOrBool::Schema(inner)) = &props.additional_properties
            && has_rules(inner)
        {
            self.node(
                inner,
                &path.child("additionalProperties"),
                loose,
                more(props.max_properties),
            );
        }
        if let Some(JSONSchemaPropsOrArray::Schema(inner)) = &props.items
            && has_rules(inner)
        {
            let below = match props.x_kubernetes_list_type.as_deref() {
                Some("map") => loose,
                _ => Some(loose.unwrap_or(path)),
            };
            self.node(inner, &path.child("items"), below, more(props.max_items));
        }
    }

    fn rule(
        &mut self,
        rule: &ValidationRule,
        schema: &Schema,
        path: &Path,
        loose: Option<&Path>,
        times: u64,
    ) {
        if rule.rule.trim().is_empty() {
            return;
        }
        let rule_path = path.child("rule");
        let stored = self.known.rules.contains(rule.rule.as_str());
        let checked = Program::parse(&rule.rule)
            .map_err(|error| error.to_string())
            .and_then(|program| {
                let estimate = program.check(&scope(rule, schema).stored(stored))?;
                Ok((estimate, program.mentions("oldSelf")))
            })
            .map_err(|text| format!("compilation failed: {text}"));
        let checked = match checked {
            Ok((
                Estimate {
                    result: "bool",
                    cost,
                    ..
                },
                compares,
            )) => Ok((cost, compares)),
            Ok(_) => Err("cel expression must evaluate to a bool".to_owned()),
            Err(text) => Err(text),
        };
        let compares = match checked {
            Err(text) => {
                let error = field::invalid_spelled(
                    rule_path.clone(),
                    &spelled("ValidationRule", rule),
                    &text,
                );
                self.out.push(error);
                false
            }
            Ok((cost, compares)) => {
                let cost = cost.saturating_mul(times);
                self.spend("estimated rule cost", cost, &rule_path);
                self.message(rule, schema, &path.child("messageExpression"));
                compares
            }
        };
        if let Some(loose) = loose.filter(|_| compares) {
            let text = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}"
            );
            self.out
                .push(field::invalid(rule_path, rule.rule.as_str(), text));
        } else if let Some(value) = rule.optional_old_self.filter(|_| !compares) {
            let path = path.child("optionalOldSelf");
            let text = "may not be set if oldSelf is not used in rule";
            self.out.push(field::invalid(path, value, text));
        }
    }

    /// The expression of a rule's message.
    fn message(&mut self, rule: &ValidationRule, schema: &Schema, path: &Path) {
        let source = checks::text(&rule.message_expression);
        if source.is_empty() {
            return;
        }
        let stored = self.known.messages.contains(source);
        let checked = Program::parse(source)
            .map_err(|error| error.to_string())
            .and_then(|program| program.check(&scope(rule, schema).stored(stored)));
        let text = match checked {
            // A message is made once, for the first value that breaks the rule.
            Ok(Estimate {
                result: "string",
                cost,
                ..
            }) => {
                self.spend("estimated messageExpression cost", cost, path);
                return;
            }
            Ok(_) => "messageExpression must evaluate to a string".to_owned(),
            Err(text) => format!("messageExpression compilation failed: {text}"),
        };
        self.out.push(field::invalid_spelled(
            path.clone(),
            &spelled("ValidationRule", rule),
            &text,
        ));
    }

    /// Adds to what all rules cost, if that may be.
    fn spend(&mut self, name: &str, cost: u64, path: &Path) {
        if cost > RULE_LIMIT && !self.known.is_unchanged {
            let text = too_much(name, cost, RULE_LIMIT);
            self.out.push(field::forbidden(path.clone(), text));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.dearest.push((cost, path.clone()));
            self.dearest
                .sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.dearest.truncate(DEAREST);
        }
    }
}

/// What a rule of a schema may speak of.
fn scope<'s>(rule: &ValidationRule, schema: &'s Schema) -> Scope<'s> {
    let with = |scope: Scope<'s>, name: &str| match schema.embedded {
        true => scope.with_resource(name, schema),
        false => scope.with(name, Some(schema)),
    };
    let scope = with(Scope::new(), "self");
    match rule.optional_old_self {
        Some(true) => scope.with_optional("oldSelf", "self"),
        _ => with(scope, "oldSelf"),
    }
}

fn has_rules(props: &JSONSchemaProps) -> bool {
    let additional = match &props.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(inner)) => Some(&**inner),
        _ => None,
    };
    let items = match &props.items {
        Some(JSONSchemaPropsOrArray::Schema(inner)) => Some(&**inner),
        _ => None,
    };
    !checks::list(&props.x_kubernetes_validations).is_empty()
        || props
            .properties
            .iter()
            .flatten()
            .any(|(_, inner)| has_rules(inner))
        || additional.is_some_and(has_rules)
        || items.is_some_and(has_rules)
}

fn too_much(name: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

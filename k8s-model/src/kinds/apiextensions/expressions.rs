//! The rules in a schema: whether they can be compiled, what they compare, what they may cost.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};

use crate::{
    cel::{Estimate, Program, Scope, max_elements},
    field::{self, ErrorList, Path},
    kinds::checks,
    structural::Schema,
};

/// What one rule may cost for all values that it is asked about; upstream's
/// `StaticEstimatedCostLimit`.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost; upstream's `StaticEstimatedCRDCostLimit`.
const SCHEMA_LIMIT: u64 = 100_000_000;

/// How many rules are named when all together cost too much.
const DEAREST: usize = 4;

/// Checks the rules of a schema that is structural.
pub(super) fn check_all(props: &JSONSchemaProps, path: &Path, out: &mut ErrorList) {
    let mut check = Check {
        total: 0,
        dearest: Vec::new(),
        out,
    };
    check.node(props, path, None, 1);
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
    total: u64,
    /// The rules that cost most, in the order of their cost.
    dearest: Vec<(u64, Path)>,
    out: &'o mut ErrorList,
}

impl Check<'_> {
    /// `loose` is where old values cease to be found for new ones; `times` how many values of the
    /// node there are at most.
    fn node(&mut self, props: &JSONSchemaProps, path: &Path, loose: Option<&Path>, times: u64) {
        let rules = checks::list(&props.x_kubernetes_validations);
        if !rules.is_empty() {
            let schema = Schema::new(props);
            for (at, rule) in rules.iter().enumerate() {
                let path = path.child("x-kubernetes-validations").index(at);
                self.rule(rule, &schema, &path, loose, times);
            }
        }
        let below = match props.x_kubernetes_map_type.as_deref() {
            Some("atomic") => Some(loose.unwrap_or(path)),
            _ => loose,
        };
        for (name, inner) in props.properties.iter().flatten() {
            self.node(inner, &path.child("properties").key(name), below, times);
        }
        let more = || times.saturating_mul(max_elements(&Schema::new(props)));
        if let Some(JSONSchemaPropsOrBool::Schema(inner)) = &props.additional_properties
            && has_rules(inner)
        {
            self.node(inner, &path.child("additionalProperties"), below, more());
        }
        if let Some(JSONSchemaPropsOrArray::Schema(inner)) = &props.items
            && has_rules(inner)
        {
            let below = match props.x_kubernetes_list_type.as_deref() {
                Some("map") => loose,
                _ => Some(loose.unwrap_or(path)),
            };
            self.node(inner, &path.child("items"), below, more());
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
        let scope = || {
            let old = (rule.optional_old_self != Some(true)).then_some(schema);
            Scope::new().with("self", Some(schema)).with("oldSelf", old)
        };
        let rule_path = path.child("rule");
        let compiled = Program::parse(&rule.rule).map_err(|error| error.to_string());
        let checked = compiled.and_then(|program| Ok((program.check(&scope())?, program)));
        match checked {
            Err(text) => {
                let text = format!("compilation failed: {text}");
                self.out
                    .push(field::invalid(rule_path, checks::json(rule), text));
            }
            Ok((Estimate { result, cost }, program)) => {
                if !matches!(result, "bool" | "dyn") {
                    let text = "cel expression must evaluate to a bool";
                    self.out
                        .push(field::invalid(rule_path.clone(), checks::json(rule), text));
                }
                let cost = cost.saturating_mul(times);
                self.total = self.total.saturating_add(cost);
                if cost >= SCHEMA_LIMIT / 100 {
                    self.dearest.push((cost, rule_path.clone()));
                    self.dearest
                        .sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
                    self.dearest.truncate(DEAREST);
                }
                if cost > RULE_LIMIT {
                    let text = too_much("estimated rule cost", cost, RULE_LIMIT);
                    self.out.push(field::forbidden(rule_path.clone(), text));
                }
                let compares = program.mentions("oldSelf");
                if let Some(loose) = loose.filter(|_| compares) {
                    let text = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}"
                    );
                    self.out
                        .push(field::invalid(rule_path, rule.rule.as_str(), text));
                } else if rule.optional_old_self.is_some() && !compares {
                    let path = path.child("optionalOldSelf");
                    let value = rule.optional_old_self == Some(true);
                    let text = "may not be set if oldSelf is not used in rule";
                    self.out.push(field::invalid(path, value, text));
                }
            }
        }
        let Some(source) = &rule.message_expression else {
            return;
        };
        let path = path.child("messageExpression");
        let compiled = Program::parse(source).map_err(|error| error.to_string());
        match compiled.and_then(|program| program.check(&scope())) {
            Err(text) => {
                let text = format!("messageExpression compilation failed: {text}");
                self.out
                    .push(field::invalid(path, checks::json(rule), text));
            }
            Ok(estimate) if !matches!(estimate.result, "string" | "dyn") => {
                let text = "messageExpression must evaluate to a string";
                self.out
                    .push(field::invalid(path, checks::json(rule), text));
            }
            Ok(estimate) => {
                let cost = estimate.cost.saturating_mul(times);
                if cost > RULE_LIMIT {
                    let text = too_much("estimated messageExpression cost", cost, RULE_LIMIT);
                    self.out.push(field::forbidden(path, text));
                }
            }
        }
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

//! When an indexed job has succeeded, though not every index has (KEP-3998).

use k8s_openapi::api::batch::v1::{JobSpec, SuccessPolicy, SuccessPolicyRule};
use serde_json::Value;

use super::indexes;
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{json, non_negative},
};

const MAX_RULES: usize = 20;
/// The longest list of indexes, in bytes.
const MAX_INDEXES: usize = 64 * 1024;

/// Checks the policy of a job that has one.
pub(super) fn validate(policy: &SuccessPolicy, spec: &JobSpec, path: &Path) -> ErrorList {
    if spec.completion_mode.as_deref() != Some("Indexed") {
        let text = "requires indexed completion mode";
        return vec![field::invalid_spelled(path.clone(), &spelled(policy), text)];
    }
    let path = path.child("rules");
    let mut errors = ErrorList::new();
    if policy.rules.is_empty() {
        errors.push(field::required(
            path.clone(),
            "at least one rules must be specified when the successPolicy is specified",
        ));
    }
    if policy.rules.len() > MAX_RULES {
        errors.push(field::too_many(path.clone(), policy.rules.len(), MAX_RULES));
    }
    for (index, one) in policy.rules.iter().enumerate() {
        errors.extend(rule(one, spec.completions, &path.index(index)));
    }
    errors
}

/// A rule of a job with so many completions. Where it has none, that alone is told, elsewhere.
fn rule(rule: &SuccessPolicyRule, completions: Option<i32>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        errors.push(field::required(
            path.clone(),
            "at least one of succeededCount or succeededIndexes must be specified",
        ));
    }
    let mut listed = None;
    if let Some(text) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if text.len() > MAX_INDEXES {
            errors.push(field::too_long(path.clone(), MAX_INDEXES));
        }
        match completions.map(|completions| indexes::count(text, completions)) {
            Some(Err(why)) => {
                listed = Some(0);
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(field::invalid(path, text.as_str(), why));
            }
            Some(Ok(number)) => listed = Some(number),
            None => {}
        }
    }
    if let Some(count) = rule.succeeded_count {
        errors.extend(succeeded_count(
            count,
            completions,
            listed,
            path.child("succeededCount"),
        ));
    }
    errors
}

fn succeeded_count(
    count: i32,
    completions: Option<i32>,
    listed: Option<i64>,
    path: Path,
) -> ErrorList {
    let mut errors = non_negative(count, path.clone());
    for (most, what) in [
        (
            completions.map(i64::from),
            "the number of specified completions",
        ),
        (
            listed,
            "the number of indexes in the specified succeededIndexes field",
        ),
    ] {
        if let Some(most) = most.filter(|most| i64::from(count) > *most) {
            let text = format!("must be less than or equal to {most} ({what})");
            errors.push(field::invalid(path.clone(), count, text));
        }
    }
    errors
}

/// The policy as upstream's internal type is told.
pub(super) fn spelled(policy: &SuccessPolicy) -> String {
    let rules = policy.rules.iter().map(|rule| {
        let indexes = rule.succeeded_indexes.as_ref().map_or(Value::Null, json);
        let count = rule.succeeded_count.as_ref().map_or(Value::Null, json);
        format!(r#"{{"SucceededIndexes":{indexes},"SucceededCount":{count}}}"#)
    });
    format!(r#"{{"Rules":[{}]}}"#, rules.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(mode: &str, rules: Value) -> Vec<String> {
        let spec: JobSpec = serde_json::from_value(json!({
            "completionMode": mode, "completions": 5, "successPolicy": {"rules": rules}, "template": {},
        }))
        .unwrap();
        let policy = spec.success_policy.as_ref().unwrap();
        let found = validate(policy, &spec, &Path::new("p"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_about_indexes_that_the_job_has() {
        for rules in [
            json!([{"succeededCount": 5}]),
            json!([{"succeededIndexes": "0,2-4", "succeededCount": 4}, {"succeededIndexes": ""}]),
        ] {
            assert_eq!(found("Indexed", rules), [""; 0]);
        }
        for (rules, told) in [
            (
                json!([]),
                "p.rules: Required value: at least one rules must be specified when the successPolicy is specified",
            ),
            (
                json!([{}]),
                "p.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
            ),
            (
                json!([{"succeededIndexes": "5"}]),
                r#"p.rules[0].succeededIndexes: Invalid value: "5": error parsing succeededIndexes: too large index: "5""#,
            ),
            (
                json!([{"succeededCount": 6}]),
                "p.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
            ),
            (
                json!([{"succeededIndexes": "0-1", "succeededCount": 3}]),
                "p.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
            ),
            (
                json!([{"succeededCount": -1}]),
                "p.rules[0].succeededCount: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!(vec![json!({"succeededCount": 1}); 21]),
                "p.rules: Too many: 21: must have at most 20 items",
            ),
        ] {
            assert_eq!(found("Indexed", rules), [told]);
        }
        let long = format!("0{}", ",".repeat(MAX_INDEXES));
        let found = found("Indexed", json!([{"succeededIndexes": long}]));
        assert!(found[0].contains("Too long: may not be more than 65536 bytes"));
    }

    #[test]
    fn only_an_indexed_job_has_one() {
        assert_eq!(
            found("NonIndexed", json!([{"succeededCount": 1}])),
            [
                r#"p: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires indexed completion mode"#
            ]
        );
    }
}

//! The rules of ControllerRevisions.

use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{immutable, non_negative, slot},
        typed::KindRules,
    },
};

/// The rules of ControllerRevisions.
pub(crate) struct ControllerRevisionRules;

impl KindRules for ControllerRevisionRules {
    type Kind = ControllerRevision;

    fn validate(&self, revision: &ControllerRevision) -> ErrorList {
        let mut errors = number(revision);
        let data: Option<&RawExtension> = slot(&revision.data);
        let wrong = match data.map(|data| &data.0) {
            None | Some(Value::Null) => "data is mandatory",
            Some(Value::Object(_)) => return errors,
            Some(_) => "data must be a valid JSON object",
        };
        errors.push(field::required(Path::new("data"), wrong));
        errors
    }

    fn validate_update(&self, new: &ControllerRevision, old: &ControllerRevision) -> ErrorList {
        let mut errors = number(new);
        errors.extend(immutable(&new.data, &old.data, Path::new("data")));
        errors
    }
}

fn number(revision: &ControllerRevision) -> ErrorList {
    let number: Option<&i64> = slot(&revision.revision);
    non_negative(number.copied().unwrap_or_default(), Path::new("revision"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revision(number: i64, data: Value) -> ControllerRevision {
        let value = json!({"metadata": {"name": "a"}, "revision": number, "data": data});
        serde_json::from_value(value).unwrap()
    }

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    const NEGATIVE: &str = "revision: Invalid value: -1: must be greater than or equal to 0";

    #[test]
    fn data_is_an_object() {
        let found = |data: Value| told(ControllerRevisionRules.validate(&revision(-1, data)));
        assert_eq!(found(json!({})), [NEGATIVE]);
        let none = "data: Required value: data is mandatory";
        assert_eq!(found(Value::Null), [NEGATIVE, none]);
        let other = "data: Required value: data must be a valid JSON object";
        for data in [json!([]), json!("a"), json!(1)] {
            assert_eq!(found(data), [NEGATIVE, other]);
        }
    }

    #[test]
    fn data_that_was_never_an_object_may_stay() {
        let changed = |new: ControllerRevision| {
            let old = revision(1, json!([1]));
            told(ControllerRevisionRules.validate_update(&new, &old))
        };
        assert_eq!(changed(revision(2, json!([1]))), [""; 0]);
        let fixed = "data: Invalid value: [2]: field is immutable";
        assert_eq!(changed(revision(-1, json!([2]))), [NEGATIVE, fixed]);
    }
}

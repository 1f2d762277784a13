//! [`MatchConditions`]: which requests a webhook is asked about.

use std::{fmt, sync::Arc};

use k8s_model::cel::{self, Program, Scope, Val};
use serde_json::{Value, json};

use super::{Attributes, aggregate};

/// Expressions in CEL over `request`, the `spec` of a `SubjectAccessReview` in `v1`: a webhook is asked about requests
/// for which all of them are true. None fit all requests.
#[derive(Clone, Default)]
pub struct MatchConditions(Arc<[(String, Program)]>);

impl fmt::Debug for MatchConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.0.iter().map(|(source, _)| source);
        f.debug_list().entries(sources).finish()
    }
}

/// A condition that is no expression, or not one that is true or false.
#[derive(Debug, thiserror::Error)]
#[error("matchConditions[{index}].expression: {reason}")]
pub struct MatchConditionError {
    index: usize,
    reason: String,
}

/// What one evaluation may cost.
const BUDGET: u64 = cel::CALL_LIMIT;

/// What a request is to conditions: every text is there, even if it is empty.
pub(super) fn request(a: &Attributes<'_>) -> Value {
    let mut out = json!({
        "user": a.user.name, "groups": a.user.groups, "uid": a.user.uid, "extra": a.user.extra,
    });
    if a.resource_request {
        let mut attributes = serde_json::Map::new();
        if let Some(selectors) = a.selectors {
            selectors.describe(&mut attributes);
        }
        for selector in attributes.values_mut() {
            let all = selector["requirements"].as_array_mut();
            for requirement in all.into_iter().flatten() {
                if requirement["values"].is_null() {
                    requirement["values"] = json!([]);
                }
            }
        }
        for (name, text) in a.resource_texts() {
            attributes.insert(name.to_owned(), text.into());
        }
        out["resourceAttributes"] = attributes.into();
    } else {
        out["nonResourceAttributes"] = Value::from_iter(a.path_texts());
    }
    out
}

fn compile(source: &str) -> Result<Program, String> {
    let program = Program::parse(source).map_err(|error| error.to_string())?;
    let scope = Scope::new().with_access_review();
    let estimate = program.check(&scope)?;
    if estimate.result != "bool" {
        let found = estimate.full_result;
        return Err(format!("must evaluate to bool but got {found}"));
    }
    program.typed(&scope)
}

impl MatchConditions {
    /// Parses the expressions, and checks that they speak of what requests have and are true or false.
    ///
    /// # Errors
    /// Names the first that is none.
    pub fn parse<S: AsRef<str>>(
        sources: impl IntoIterator<Item = S>,
    ) -> Result<Self, MatchConditionError> {
        let parsed = sources.into_iter().enumerate().map(|(index, source)| {
            let source = source.as_ref();
            match compile(source) {
                Ok(program) => Ok((source.to_owned(), program)),
                Err(reason) => Err(MatchConditionError { index, reason }),
            }
        });
        Ok(MatchConditions(parsed.collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the request fits. One condition that is false is enough to say that it doesn't, whatever the others
    /// fail with.
    pub(super) fn fit(&self, request: &Value) -> Result<bool, String> {
        let mut errors = Vec::new();
        for (source, program) in self.0.iter() {
            let mut budget = BUDGET;
            let variables = [("request", cel::value(request, None))];
            match program.evaluate(&variables, &mut budget) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => errors.push(format!("{source:?} is not a bool")),
                Err(error) => errors.push(format!(
                    "cel evaluation error: expression '{source}' resulted in error: {error}"
                )),
            }
        }
        aggregate(&errors).map_or(Ok(true), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Identity, authz::Selectors};

    fn attributes(user: &Identity) -> Attributes<'_> {
        Attributes {
            user,
            verb: "get",
            group: "",
            version: "v1",
            resource: "nodes",
            subresource: "",
            namespace: "",
            name: "n",
            path: "",
            resource_request: true,
            selectors: None,
        }
    }

    fn fit(conditions: &[&str], attributes: &Attributes<'_>) -> Result<bool, String> {
        let conditions = MatchConditions::parse(conditions).unwrap();
        conditions.fit(&request(attributes))
    }

    #[test]
    fn all_conditions_must_hold_and_one_that_does_not_is_enough() {
        let alice = Identity::user("alice").group("dev");
        let fit = |conditions: &[&str]| fit(conditions, &attributes(&alice));
        assert_eq!(fit(&[]), Ok(true));
        assert_eq!(
            fit(&["has(request.resourceAttributes)", "request.user == 'alice'"]),
            Ok(true)
        );
        assert_eq!(fit(&["'ops' in request.groups"]), Ok(false));
        let broken = "request.groups[1] == 'x'";
        assert!(fit(&[broken]).unwrap_err().contains(broken));
        assert_eq!(fit(&[broken, "request.user == 'bob'"]), Ok(false));
    }

    #[test]
    fn texts_that_are_empty_are_there() {
        let nobody = Identity::default();
        let requirements = Selectors::parse("", "app");
        let asked = Attributes {
            selectors: Some(&requirements),
            ..attributes(&nobody)
        };
        let system = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'";
        assert_eq!(fit(&[system], &asked), Ok(false));
        assert_eq!(
            fit(
                &[
                    "request.user == '' && request.uid == '' && request.groups.size() == 0",
                    "!('scope' in request.extra) && !has(request.nonResourceAttributes)",
                    "request.resourceAttributes.labelSelector.requirements[0].values.size() == 0",
                ],
                &asked
            ),
            Ok(true)
        );
    }

    #[test]
    fn what_is_no_condition_is_refused_before_it_is_asked() {
        for (source, said) in [
            ("true &&", ""),
            ("request.user", "must evaluate to bool but got string"),
            ("request.nothing == 'x'", "undefined field 'nothing'"),
            (
                "request.resourceAttributes.name == 1",
                "no matching overload",
            ),
        ] {
            let error = MatchConditions::parse(["true", source]).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with("matchConditions[1].expression: "),
                "{error}"
            );
            assert!(error.contains(said), "{error}");
        }
    }
}

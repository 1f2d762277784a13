//! [`MatchConditions`]: which requests a webhook is asked about.

use std::{fmt, sync::Arc};

use k8s_model::cel::{self, Program, Val};
use serde_json::Value;

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

/// A condition that is no expression.
#[derive(Debug, thiserror::Error)]
#[error("matchConditions[{index}].expression: {reason}")]
pub struct MatchConditionError {
    index: usize,
    reason: String,
}

/// What one evaluation may cost.
const BUDGET: u64 = cel::CALL_LIMIT;

impl MatchConditions {
    /// Parses the expressions.
    ///
    /// # Errors
    /// Names the first that is none.
    pub fn parse<S: AsRef<str>>(
        sources: impl IntoIterator<Item = S>,
    ) -> Result<Self, MatchConditionError> {
        let parsed = sources.into_iter().enumerate().map(|(index, source)| {
            let source = source.as_ref();
            match Program::parse(source) {
                Ok(program) => Ok((source.to_owned(), program)),
                Err(error) => Err(MatchConditionError {
                    index,
                    reason: error.to_string(),
                }),
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
        let mut failed = None;
        for (source, program) in self.0.iter() {
            let mut budget = BUDGET;
            let variables = [("request", cel::value(request, None))];
            match program.evaluate(&variables, &mut budget) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => failed = Some(format!("{source:?} is not a bool")),
                Err(error) => failed = Some(format!("{source:?}: {error}")),
            }
        }
        failed.map_or(Ok(true), Err)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_conditions_must_hold_and_one_that_does_not_is_enough() {
        let request = json!({"user": "alice", "groups": ["dev"], "resourceAttributes": {"verb": "get", "namespace": "ns"}});
        let fit = |conditions: &[&str]| MatchConditions::parse(conditions).unwrap().fit(&request);
        assert_eq!(fit(&[]), Ok(true));
        assert_eq!(
            fit(&["has(request.resourceAttributes)", "request.user == 'alice'"]),
            Ok(true)
        );
        assert_eq!(fit(&["'ops' in request.groups"]), Ok(false));
        assert!(fit(&["request.nothing == 'x'"]).is_err());
        assert_eq!(
            fit(&["request.nothing == 'x'", "request.user == 'bob'"]),
            Ok(false)
        );
        assert!(fit(&["request.user"]).is_err());
        let error = MatchConditions::parse(["true", "true &&"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("matchConditions[1].expression: ")
        );
    }
}

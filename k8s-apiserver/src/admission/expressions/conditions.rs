//! Match conditions: what must be true of a request besides the rules.

use k8s_model::cel::{CelError, Val};
use serde::Deserialize;

use super::{CONDITIONS_COST_LIMIT, Expression};

/// A condition as configurations have it.
#[derive(Debug, Deserialize)]
struct Wire {
    expression: String,
}

/// One condition.
#[derive(Debug, Deserialize)]
#[serde(from = "Wire")]
pub(in crate::admission) struct Condition(Expression);

impl From<Wire> for Condition {
    fn from(wire: Wire) -> Self {
        Condition(Expression::new(&wire.expression))
    }
}

/// What conditions say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admission) enum Verdict {
    /// All are true.
    Match,
    /// One is false.
    NoMatch,
    /// None is false, and not all can be evaluated.
    Failed(String),
}

impl Condition {
    /// What the conditions say of these variables.
    pub(in crate::admission) fn judge(
        conditions: &[Condition],
        variables: &[(&'static str, Val<'_>)],
    ) -> Verdict {
        let mut budget = CONDITIONS_COST_LIMIT;
        let mut failures = Vec::new();
        for Condition(expression) in conditions {
            match expression.evaluate(variables, &mut budget) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Verdict::NoMatch,
                Ok(_) => failures.push(expression.failure(&CelError::NoOverload)),
                Err(error) => {
                    failures.push(expression.failure(&error));
                    if error == CelError::Cost {
                        break;
                    }
                }
            }
        }
        match failures.as_slice() {
            [] => Verdict::Match,
            [one] => Verdict::Failed(one.clone()),
            several => Verdict::Failed(format!("[{}]", several.join(", "))),
        }
    }
}

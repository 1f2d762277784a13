//! Match conditions: what must be true of a request besides the rules.

use std::time::Duration;

use k8s_model::cel::{CelError, Val};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Bound, CONDITIONS_COST_LIMIT, Expression};

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

/// What conditions say, and what it took.
#[derive(Clone, Debug)]
pub(in crate::admission) struct Judged {
    pub(in crate::admission) verdict: Verdict,
    /// How many of them could not be evaluated.
    pub(in crate::admission) errors: usize,
    /// How long it took; `None` if there were none.
    pub(in crate::admission) took: Option<Duration>,
}

impl Condition {
    /// What the conditions say of these variables.
    pub(in crate::admission) fn judge(conditions: &[Condition], variables: &Bound<'_>) -> Judged {
        if conditions.is_empty() {
            return Judged {
                verdict: Verdict::Match,
                errors: 0,
                took: None,
            };
        }
        let started = Instant::now();
        let (verdict, errors) = Self::verdict(conditions, variables);
        Judged {
            verdict,
            errors,
            took: Some(started.elapsed()),
        }
    }

    /// What they say, and how many could not be evaluated.
    fn verdict(conditions: &[Condition], variables: &Bound<'_>) -> (Verdict, usize) {
        let mut budget = CONDITIONS_COST_LIMIT;
        let mut failures = Vec::new();
        for Condition(expression) in conditions {
            match expression.evaluate(variables, &mut budget) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return (Verdict::NoMatch, failures.len()),
                Ok(_) => failures.push(expression.failure(&CelError::NoOverload)),
                Err(error) => {
                    failures.push(expression.failure(&error));
                    if error == CelError::Cost {
                        break;
                    }
                }
            }
        }
        let verdict = match failures.as_slice() {
            [] => Verdict::Match,
            [one] => Verdict::Failed(one.clone()),
            several => Verdict::Failed(format!("[{}]", several.join(", "))),
        };
        (verdict, failures.len())
    }
}

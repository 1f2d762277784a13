//! Expressions over requests: the match conditions of webhooks, and all that policies say.
//!
//! Evaluation itself waits for nobody. Where an expression asks the authorizer, the evaluation fails as
//! [pending](CelError::Pending), the question is put, and the expression is evaluated again: see [`settle`].

mod authorizer;
mod conditions;
mod metrics;
mod variables;

use std::rc::Rc;

use k8s_model::cel::{CelError, Program, Val};
use serde_json::Value;

use self::authorizer::AuthorizerValue;
pub(super) use self::{
    authorizer::{Questions, settle},
    conditions::{Condition, Judged, Verdict},
    metrics::{ConditionMetrics, count},
    variables::Variables,
};

/// What the expressions of one policy may cost for one request; upstream's `RuntimeCELCostBudget`.
pub(super) const COST_LIMIT: u64 = 10_000_000;
/// What match conditions may; upstream's `RuntimeCELCostBudgetMatchConditions`.
pub(super) const CONDITIONS_COST_LIMIT: u64 = COST_LIMIT / 4;

/// A compiled expression, with its source.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) source: String,
    program: Result<Program, CelError>,
}

impl Expression {
    pub(super) fn new(source: &str) -> Self {
        Expression {
            source: source.to_owned(),
            program: Program::parse(source),
        }
    }

    /// What it makes of the variables.
    pub(super) fn evaluate<'v>(
        &self,
        variables: &[(&'static str, Val<'v>)],
        budget: &mut u64,
    ) -> Result<Val<'v>, CelError> {
        match &self.program {
            Ok(program) => program.evaluate(variables, budget),
            Err(error) => Err(error.clone()),
        }
    }

    /// What upstream says of its failure.
    pub(super) fn failure(&self, error: &CelError) -> String {
        match error {
            CelError::Cost => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            error => format!("expression '{}' resulted in error: {error}", self.source),
        }
    }
}

/// What expressions speak of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'v> {
    /// The object as it is to be; null if there is none.
    pub(super) object: &'v Value,
    /// The object as it is; null if there is none.
    pub(super) old: &'v Value,
    /// The request, without its objects.
    pub(super) request: &'v Value,
    /// The parameters, if there may be any; null if there are none.
    pub(super) params: Option<&'v Value>,
    /// The namespace, if expressions may ask for it; null for what is in none.
    pub(super) namespace: Option<&'v Value>,
    /// What the authorizer has said so far.
    pub(super) questions: &'v Questions,
}

impl<'v> Inputs<'v> {
    /// The variables that all expressions have.
    pub(super) fn variables(&self) -> Vec<(&'static str, Val<'v>)> {
        let value = |json: &'v Value| k8s_model::cel::value(json, None);
        let mut out = vec![
            ("object", value(self.object)),
            ("oldObject", value(self.old)),
            ("request", value(self.request)),
        ];
        if let Some(params) = self.params {
            out.push(("params", value(params)));
        }
        if let Some(namespace) = self.namespace {
            out.push(("namespaceObject", value(namespace)));
        }
        let authorizer = AuthorizerValue::new(self.request, self.questions);
        out.push(("authorizer", Val::Host(Rc::new(authorizer))));
        out
    }
}

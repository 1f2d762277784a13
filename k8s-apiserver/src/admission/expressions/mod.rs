//! Expressions over requests: the match conditions of webhooks, and all that policies say.
//!
//! Evaluation itself waits for nobody. Where an expression asks the authorizer, the evaluation fails as
//! [pending](CelError::Pending), the question is put, and the expression is evaluated again: see [`settle`].

mod authorizer;
mod conditions;
mod metrics;
mod variables;

use std::{cell::Cell, rc::Rc};

use k8s_model::cel::{CALL_LIMIT, CelError, Program, Scope, Val};
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

/// The variables that there may be.
const NAMES: [&str; 7] = [
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "authorizer",
    "variables",
];

/// A compiled expression, with its source.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) source: String,
    program: Result<Program, CelError>,
}

impl Expression {
    pub(super) fn new(source: &str) -> Self {
        let scope = NAMES
            .iter()
            .fold(Scope::new().stored(true).with_objects(), |scope, name| {
                scope.with(name, None)
            });
        let parsed = Program::parse(source);
        // What has no types is evaluated all the same, and fails where it goes wrong.
        let program = parsed.and_then(|program| match program.typed(&scope) {
            Ok(typed) => Ok(typed),
            Err(_) => Program::parse(source),
        });
        Expression {
            source: source.to_owned(),
            program,
        }
    }

    /// What it makes of the variables, and what that costs by itself, which is no more than one evaluation may.
    fn run<'v>(&self, variables: &[(&'static str, Val<'v>)]) -> (Result<Val<'v>, CelError>, u64) {
        match &self.program {
            Ok(program) => program.run(variables, CALL_LIMIT),
            Err(error) => (Err(error.clone()), 0),
        }
    }

    /// What it makes of the variables. What that costs, together with what was evaluated for it, is taken off the
    /// budget.
    ///
    /// # Errors
    ///
    /// [`CelError::Cost`] if the budget is not enough. What costs more than one evaluation may fails otherwise.
    pub(super) fn evaluate<'v>(
        &self,
        variables: &Bound<'v>,
        budget: &mut u64,
    ) -> Result<Val<'v>, CelError> {
        let (found, cost) = self.run(&variables.all);
        let cost = cost.saturating_add(variables.spent.take());
        *budget = match budget.checked_sub(cost) {
            Some(left) => left,
            None => {
                *budget = 0;
                return Err(CelError::Cost);
            }
        };
        match found {
            Err(error @ CelError::Cost) => Err(CelError::Failed(error.to_string())),
            found => found,
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
    pub(super) fn variables(&self) -> Bound<'v> {
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
        Bound {
            all: out,
            spent: Rc::default(),
        }
    }
}

/// What an expression speaks of, with values.
#[derive(Clone, Debug)]
pub(super) struct Bound<'v> {
    all: Vec<(&'static str, Val<'v>)>,
    /// What was spent on those of them that are expressions themselves, since anybody asked.
    spent: Rc<Cell<u64>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with<T>(defined: &[(&str, &str)], run: impl FnOnce(&Bound<'_>) -> T) -> T {
        let (object, request) = (json!({"list": (0..300).collect::<Vec<_>>()}), json!({}));
        let questions = Questions::default();
        let inputs = Inputs {
            object: &object,
            old: &Value::Null,
            request: &request,
            params: None,
            namespace: None,
            questions: &questions,
        };
        let defined: Vec<(String, Expression)> = defined
            .iter()
            .map(|(name, source)| ((*name).to_owned(), Expression::new(source)))
            .collect();
        run(&Variables::with(&defined, inputs.variables()))
    }

    const DEAR: &str = "object.list.all(x, object.list.all(y, x + y >= 0))";

    #[test]
    fn one_expression_has_a_limit_and_a_policy_a_budget() {
        let dear = Expression::new(DEAR);
        let dearer =
            Expression::new("object.list.all(x, object.list.all(y, object.list.all(z, z >= 0)))");
        with(&[], |variables| {
            let mut budget = COST_LIMIT;
            assert!(matches!(
                dear.evaluate(variables, &mut budget),
                Ok(Val::Bool(true))
            ));
            let cost = COST_LIMIT - budget;
            assert!((600_000..CALL_LIMIT).contains(&cost), "{cost}");
            // More than one may cost is a failure like others, and what it cost is gone.
            let before = budget;
            let error = dearer.evaluate(variables, &mut budget).unwrap_err();
            assert_eq!(
                error,
                CelError::Failed("operation cancelled: actual cost limit exceeded".to_owned())
            );
            assert!(before - budget > CALL_LIMIT);
            // More than is left is not.
            let mut left = cost - 1;
            assert_eq!(
                dear.evaluate(variables, &mut left).unwrap_err(),
                CelError::Cost
            );
            assert_eq!(left, 0);
            let mut left = cost;
            assert!(dear.evaluate(variables, &mut left).is_ok());
        });
    }

    #[test]
    fn variables_are_paid_for_once_and_have_a_limit_of_their_own() {
        let defined = [("dear", DEAR), ("other", DEAR), ("wrong", "object.nothing")];
        with(&defined, |variables| {
            let both = Expression::new("variables.dear && variables.other");
            let mut budget = COST_LIMIT;
            assert!(both.evaluate(variables, &mut budget).is_ok());
            // Both together cost more than one expression may.
            let first = COST_LIMIT - budget;
            assert!(first > CALL_LIMIT, "{first}");
            let before = budget;
            assert!(both.evaluate(variables, &mut budget).is_ok());
            assert_eq!(before - budget, 4);
            let error = Expression::new("variables.wrong")
                .evaluate(variables, &mut budget)
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "composited variable \"wrong\" fails to evaluate: no such key: nothing"
            );
        });
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        with(&[("a", "1"), ("a", "2")], |variables| {
            let (expression, mut budget) = (Expression::new("variables.a == 2"), COST_LIMIT);
            let found = expression.evaluate(variables, &mut budget);
            assert!(matches!(found, Ok(Val::Bool(true))), "{found:?}");
        });
    }

    #[test]
    fn an_expression_asks_the_authorizer_twice_at_most() {
        let ask = "authorizer.group('').resource('pods').check('get').allowed()";
        with(&[], |variables| {
            let mut budget = COST_LIMIT;
            let error = Expression::new(ask)
                .evaluate(variables, &mut budget)
                .unwrap_err();
            assert_eq!(error, CelError::Pending);
            // The name, two steps, and the question.
            assert_eq!(COST_LIMIT - budget, 350_003);
        });
    }
}

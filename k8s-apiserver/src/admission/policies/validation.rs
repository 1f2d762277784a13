//! What a validating policy says of a request.

use std::time::{Duration, Instant};

use k8s_model::cel::{CelError, Val};
use serde::Deserialize;

use super::{Policy, metrics::Fault};
use crate::admission::expressions::{
    Bound, COST_LIMIT, Condition, Expression, Inputs, Judged, Variables, Verdict,
};

/// How long a message that an expression makes may be, in bytes; as upstream.
const MAX_MESSAGE: usize = 5 * 1024;
/// How long the value of an audit annotation may be, in bytes; as upstream.
const MAX_ANNOTATION: usize = 10 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireValidation {
    expression: String,
    message: Option<String>,
    message_expression: Option<String>,
    reason: Option<String>,
}

/// One validation.
#[derive(Debug, Deserialize)]
#[serde(from = "WireValidation")]
pub(super) struct Validation {
    expression: Expression,
    message: Option<String>,
    message_expression: Option<Expression>,
    reason: Option<String>,
}

impl From<WireValidation> for Validation {
    fn from(wire: WireValidation) -> Self {
        let message_expression = wire.message_expression.filter(|e| !e.is_empty());
        Validation {
            expression: Expression::new(&wire.expression),
            message: wire.message,
            message_expression: message_expression.map(|e| Expression::new(&e)),
            reason: wire.reason,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnnotation {
    key: String,
    value_expression: String,
}

/// One audit annotation.
#[derive(Debug, Deserialize)]
#[serde(from = "WireAnnotation")]
pub(super) struct Annotation {
    key: String,
    value: Expression,
}

impl From<WireAnnotation> for Annotation {
    fn from(wire: WireAnnotation) -> Self {
        Annotation {
            key: wire.key,
            value: Expression::new(&wire.value_expression),
        }
    }
}

/// Why a policy is against a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Objection {
    /// Which of its validations says so.
    pub(super) index: usize,
    pub(super) message: String,
    /// The reason of the refusal, if it is not the usual one.
    pub(super) reason: Option<String>,
    /// What was wrong with the expression.
    pub(super) fault: Fault,
    /// How long the evaluation took.
    pub(super) took: Duration,
}

/// What a policy says of a request.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What its match conditions say.
    pub(super) judged: Option<Judged>,
    pub(super) objections: Vec<Objection>,
    /// Keys and values for the audit log.
    pub(super) annotations: Vec<(String, String)>,
    /// What went wrong with annotations: the request is refused, whatever the binding says.
    pub(super) failures: Vec<(String, Fault)>,
    /// What was wrong with expressions, and is no obstacle.
    pub(super) ignored: Vec<(Fault, Duration)>,
}

/// Evaluates a policy.
pub(super) fn evaluate<'v>(policy: &'v Policy, inputs: &Inputs<'v>) -> Findings {
    let mut findings = Findings::default();
    let failed = |index: usize, message: String, fault: Fault, took: Duration| Objection {
        index,
        message,
        reason: None,
        fault,
        took,
    };
    let started = Instant::now();
    let judged = Condition::judge(&policy.conditions, &inputs.variables());
    let verdict = judged.verdict.clone();
    findings.judged = Some(judged);
    match verdict {
        Verdict::Match => {}
        Verdict::NoMatch => return findings,
        Verdict::Failed(_) if policy.fails_open => {
            findings.ignored.push((Fault::Invalid, started.elapsed()));
            return findings;
        }
        Verdict::Failed(text) => {
            let objection = failed(0, text, Fault::Invalid, started.elapsed());
            findings.objections.push(objection);
            return findings;
        }
    }
    let variables = Variables::with(&policy.variables, inputs.variables());
    let mut budget = COST_LIMIT;
    for (index, validation) in policy.validations.iter().enumerate() {
        let expression = &validation.expression;
        let started = Instant::now();
        match expression.evaluate(&variables, &mut budget) {
            Ok(Val::Bool(true)) => {}
            Err(error) => {
                let (fault, took) = (Fault::from(&error), started.elapsed());
                if policy.fails_open {
                    findings.ignored.push((fault, took));
                } else {
                    let text = expression.failure(&error);
                    findings.objections.push(failed(index, text, fault, took));
                }
                if error == CelError::Cost {
                    return findings;
                }
            }
            Ok(_) => {
                let message = match message(validation, &variables, &mut budget) {
                    Ok(message) => message,
                    Err(_) if policy.fails_open => continue,
                    Err(text) => {
                        let took = started.elapsed();
                        let objection = failed(index, text, Fault::Invalid, took);
                        findings.objections.push(objection);
                        continue;
                    }
                };
                findings.objections.push(Objection {
                    index,
                    message,
                    reason: validation.reason.clone(),
                    fault: Fault::None,
                    took: started.elapsed(),
                });
            }
        }
    }
    // Annotations have a budget of their own.
    let mut budget = COST_LIMIT;
    for annotation in &policy.annotations {
        annotate(policy, annotation, &variables, &mut budget, &mut findings);
    }
    findings
}

/// The message of a validation that says no: that of its expression if that makes a good one, or else its own, or
/// else the expression that is not true.
fn message(
    validation: &Validation,
    variables: &Bound<'_>,
    budget: &mut u64,
) -> Result<String, String> {
    let mut made = None;
    if let Some(expression) = &validation.message_expression {
        match expression.evaluate(variables, budget) {
            Ok(Val::String(text)) => {
                let text = text.trim();
                let good = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                made = good.then(|| text.to_owned());
            }
            Err(error @ (CelError::Cost | CelError::Pending)) => {
                let text = expression.failure(&error);
                return Err(format!("failed messageExpression: {text}"));
            }
            _ => {}
        }
    }
    let own = validation.message.as_deref().map(str::trim);
    Ok(match (made, own.filter(|text| !text.is_empty())) {
        (Some(made), _) => made,
        (None, Some(own)) => own.to_owned(),
        (None, None) => format!("failed expression: {}", validation.expression.source.trim()),
    })
}

fn annotate(
    policy: &Policy,
    annotation: &Annotation,
    variables: &Bound<'_>,
    budget: &mut u64,
    findings: &mut Findings,
) {
    let expression = &annotation.value;
    let (failure, fault) = match expression.evaluate(variables, budget) {
        Ok(Val::Null) => return,
        Ok(Val::String(text)) => {
            let text = text.trim();
            if !text.is_empty() {
                let end = text.floor_char_boundary(MAX_ANNOTATION);
                let key = format!("{}/{}", policy.name, annotation.key);
                findings.annotations.push((key, text[..end].to_owned()));
            }
            return;
        }
        Ok(_) => (
            format!(
                "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
                expression.source
            ),
            Fault::Invalid,
        ),
        Err(error) => (expression.failure(&error), Fault::from(&error)),
    };
    if !policy.fails_open {
        findings.failures.push((failure, fault));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::{expressions::Questions, policies::policy::Wire};

    #[test]
    fn annotations_have_a_budget_of_their_own() {
        // As dear as one expression may be, and soon evaluated.
        const DEAR: &str = "object.text.contains(object.text)";
        let annotation = |number: u32| {
            let value = format!("{DEAR} ? 'said' : null");
            json!({"key": format!("k{number}"), "valueExpression": value})
        };
        let annotations: Vec<Value> = (0..9).map(annotation).collect();
        let wire: Wire = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "validations": vec![json!({"expression": DEAR}); 9],
            "auditAnnotations": annotations,
        }}))
        .unwrap();
        let object = json!({"text": "x".repeat(9_900)});
        let (request, questions) = (json!({}), Questions::default());
        let inputs = Inputs {
            object: &object,
            old: &Value::Null,
            request: &request,
            params: None,
            namespace: None,
            questions: &questions,
        };
        let policy = Policy::from(wire);
        let findings = evaluate(&policy, &inputs);
        assert_eq!(findings.objections, []);
        assert_eq!(findings.failures.len(), 0);
        assert_eq!(findings.annotations.len(), 9);
    }
}

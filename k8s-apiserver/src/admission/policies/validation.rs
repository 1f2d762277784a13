//! What a validating policy says of a request.

use k8s_model::cel::{CelError, Val};
use serde::Deserialize;

use super::Policy;
use crate::admission::expressions::{
    COST_LIMIT, Condition, Expression, Inputs, Variables, Verdict,
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
}

/// What a policy says of a request.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) objections: Vec<Objection>,
    /// Keys and values for the audit log.
    pub(super) annotations: Vec<(String, String)>,
    /// What went wrong with annotations: the request is refused, whatever the binding says.
    pub(super) failures: Vec<String>,
}

/// Evaluates a policy.
pub(super) fn evaluate<'v>(policy: &'v Policy, inputs: &Inputs<'v>) -> Findings {
    let mut findings = Findings::default();
    let failed = |index: usize, message: String| Objection {
        index,
        message,
        reason: None,
    };
    match Condition::judge(&policy.conditions, &inputs.variables()) {
        Verdict::Match => {}
        Verdict::NoMatch => return findings,
        Verdict::Failed(_) if policy.fails_open => return findings,
        Verdict::Failed(text) => {
            findings.objections.push(failed(0, text));
            return findings;
        }
    }
    let variables = Variables::with(&policy.variables, inputs.variables());
    let mut budget = COST_LIMIT;
    for (index, validation) in policy.validations.iter().enumerate() {
        let expression = &validation.expression;
        match expression.evaluate(&variables, &mut budget) {
            Ok(Val::Bool(true)) => {}
            Err(error) => {
                if !policy.fails_open {
                    let text = expression.failure(&error);
                    findings.objections.push(failed(index, text));
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
                        findings.objections.push(failed(index, text));
                        continue;
                    }
                };
                findings.objections.push(Objection {
                    index,
                    message,
                    reason: validation.reason.clone(),
                });
            }
        }
    }
    for annotation in &policy.annotations {
        annotate(policy, annotation, &variables, &mut budget, &mut findings);
    }
    findings
}

/// The message of a validation that says no: that of its expression if that makes a good one, or else its own, or
/// else the expression that is not true.
fn message(
    validation: &Validation,
    variables: &[(&'static str, Val<'_>)],
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
    variables: &[(&'static str, Val<'_>)],
    budget: &mut u64,
    findings: &mut Findings,
) {
    let expression = &annotation.value;
    let failure = match expression.evaluate(variables, budget) {
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
        Ok(_) => format!(
            "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
            expression.source
        ),
        Err(error) => expression.failure(&error),
    };
    if !policy.fails_open {
        findings.failures.push(failure);
    }
}

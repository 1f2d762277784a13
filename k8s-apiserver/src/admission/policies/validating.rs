//! `ValidatingAdmissionPolicy`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause};
use serde_json::{Value, json};

use super::{Binding, Plugin, Policy, Scene, metrics, params, source::Bound, validation};
use crate::{
    Error,
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, expressions,
        matching::NamespaceLabels, reader::ObjectReader,
    },
    audit,
    authz::Authorizer,
};

/// Where the audit log says which validations failed.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// Refuses what a bound `ValidatingAdmissionPolicy` is against, or warns of it, or has it recorded, as the binding
/// says.
#[derive(Debug)]
pub struct ValidatingAdmissionPolicy(Plugin);

impl ValidatingAdmissionPolicy {
    /// Begins to follow the policies and their bindings. The authorizer answers expressions that ask it.
    pub fn new(reader: &Arc<dyn ObjectReader>, authorizer: &Arc<dyn Authorizer>) -> Self {
        let resources = [
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ];
        ValidatingAdmissionPolicy(Plugin::start(reader, authorizer, resources))
    }
}

/// What all policies together say of a request.
#[derive(Default)]
struct Judgement {
    /// The first refusal: its message and reason.
    refusal: Option<(String, Option<String>)>,
    failures: Vec<Value>,
    annotations: BTreeMap<String, Vec<String>>,
}

impl Judgement {
    fn refuse(
        &mut self,
        policy: &Policy,
        binding: Option<&Binding>,
        text: &str,
        reason: Option<String>,
    ) {
        let with = binding.map_or(String::new(), |b| format!(" with binding '{}'", b.name));
        let message = format!(
            "ValidatingAdmissionPolicy '{}'{with} denied request: {text}",
            policy.name
        );
        self.refusal.get_or_insert((message, reason));
    }

    /// Something about a policy or binding itself is wrong.
    fn misconfigured(
        &mut self,
        policy: &Policy,
        binding: Option<&Binding>,
        error: &dyn std::fmt::Display,
    ) {
        if !policy.fails_open {
            let what = if binding.is_some() {
                "binding"
            } else {
                "policy"
            };
            let text = format!("failed to configure {what}: {error}");
            self.refuse(policy, binding, &text, None);
        }
    }
}

#[async_trait]
impl AdmissionPlugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let all = self.0.bound(request).await?;
        if all.is_empty() {
            return Ok(());
        }
        // In a box: few servers have such policies.
        Box::pin(self.judge_by(&all, request)).await
    }
}

impl ValidatingAdmissionPolicy {
    async fn judge_by(
        &self,
        all: &[Bound],
        request: &AdmissionRequest<'_>,
    ) -> Result<(), AdmissionError> {
        let mut namespace = NamespaceLabels::default();
        let mut judgement = Judgement::default();
        for bound in all.iter() {
            self.judge(bound, request, &mut namespace, &mut judgement)
                .await?;
        }
        if !judgement.failures.is_empty() {
            audit::annotate(FAILURES, Value::from(judgement.failures).to_string());
        }
        for (key, values) in judgement.annotations {
            audit::annotate(key, values.join(", "));
        }
        match judgement.refusal {
            Some((message, reason)) => Err(refused(request, &message, reason.as_deref())),
            None => Ok(()),
        }
    }

    async fn judge(
        &self,
        bound: &Bound,
        request: &AdmissionRequest<'_>,
        namespace: &mut NamespaceLabels,
        judgement: &mut Judgement,
    ) -> Result<(), AdmissionError> {
        let (plugin, policy): (_, &Policy) = (&self.0, &bound.policy);
        let found = policy
            .matcher
            .find(request, namespace, &*plugin.reader)
            .await;
        let resource = match found {
            Ok(Some(resource)) => resource,
            Ok(None) => return Ok(()),
            Err(error) => {
                judgement.misconfigured(policy, None, &error);
                return Ok(());
            }
        };
        let mut scene: Option<Scene> = None;
        for binding in &bound.bindings {
            let binding: &Binding = binding;
            let params = params::bound(policy, binding, request, namespace, &*plugin.reader);
            let params = match params.await {
                Ok(Some(params)) => params,
                Ok(None) => continue,
                Err(text) => {
                    judgement.misconfigured(policy, Some(binding), &text);
                    continue;
                }
            };
            if scene.is_none() {
                scene = Some(plugin.scene(request, resource).await?);
            }
            let Some(scene) = &scene else {
                continue;
            };
            for param in &params {
                let param = policy.param_kind.as_ref().map(|_| param);
                let findings = plugin
                    .evaluate(scene, request, param, |inputs| {
                        validation::evaluate(policy, inputs)
                    })
                    .await;
                take(findings, policy, binding, request, judgement);
            }
        }
        Ok(())
    }
}

/// What follows from a policy's findings, as its binding says.
fn take(
    findings: validation::Findings,
    policy: &Policy,
    binding: &Binding,
    request: &AdmissionRequest<'_>,
    judgement: &mut Judgement,
) {
    let who = (policy, binding);
    if let Some(judged) = &findings.judged {
        expressions::count(request, "policy", &policy.name, "validate", judged);
    }
    for (fault, took) in findings.ignored {
        metrics::validated(request, who, "allow", fault, took);
    }
    for objection in findings.objections {
        for action in &binding.actions {
            let counted = match action.as_str() {
                "Deny" => "deny",
                "Warn" => "warn",
                _ => "audit",
            };
            metrics::validated(request, who, counted, objection.fault, objection.took);
            match action.as_str() {
                "Deny" => {
                    let reason = objection.reason.clone();
                    judgement.refuse(policy, Some(binding), &objection.message, reason);
                }
                "Warn" => request.warnings.add(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, objection.message
                )),
                "Audit" => judgement.failures.push(json!({
                    "message": objection.message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": objection.index,
                    "validationActions": binding.actions,
                })),
                _ => {}
            }
        }
    }
    for (failure, fault) in findings.failures {
        metrics::validated(request, who, "deny", fault, Duration::ZERO);
        judgement.refuse(policy, Some(binding), &failure, None);
    }
    for (key, value) in findings.annotations {
        let values = judgement.annotations.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
}

/// The refusal with the reason that a validation has for it.
fn refused(request: &AdmissionRequest<'_>, message: &str, reason: Option<&str>) -> AdmissionError {
    let (reason, code) = match reason {
        Some(reason @ "Forbidden") => (reason, 403),
        Some(reason @ "Unauthorized") => (reason, 401),
        Some(reason @ "RequestEntityTooLarge") => (reason, 413),
        _ => ("Invalid", 422),
    };
    let resource = request.resource;
    let error = Error::forbidden(resource.group, resource.resource, request.name, message);
    let mut status: Status = error.into_status();
    status.reason = Some(reason.to_owned());
    status.code = Some(code);
    let cause = StatusCause {
        message: Some(message.to_owned()),
        ..StatusCause::default()
    };
    let details = status.details.get_or_insert_default();
    details.causes.get_or_insert_default().push(cause);
    AdmissionError::Status(Box::new(status))
}

//! `MutatingAdmissionPolicy`.

use std::{fmt::Display, sync::Arc, time::Instant};

use async_trait::async_trait;
use k8s_model::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause};
use serde_json::Value;

use super::{
    Binding, Plugin, Policy,
    metrics::{self, Fault},
    mutation::{self, Kind},
    params,
    source::Bound,
};
use crate::{
    Error,
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
        expressions::{self, Verdict},
        matching::NamespaceLabels,
        reader::ObjectReader,
        views,
    },
    authz::Authorizer,
    registry::row::shape,
};

/// Changes objects as bound `MutatingAdmissionPolicy`s say, one after the other: each sees what those before it have
/// made of the object, but which of them are asked is known before the first changes anything. One with
/// `reinvocationPolicy: IfNeeded` is evaluated once more if anybody changes the object after it. Of a connection the
/// options are the object; what goes is not changed.
#[derive(Debug)]
pub struct MutatingAdmissionPolicy(Plugin);

impl MutatingAdmissionPolicy {
    /// Begins to follow the policies and their bindings. The authorizer answers expressions that ask it.
    pub fn new(reader: &Arc<dyn ObjectReader>, authorizer: &Arc<dyn Authorizer>) -> Self {
        let resources = [
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ];
        MutatingAdmissionPolicy(Plugin::start(reader, authorizer, resources))
    }
}

#[async_trait]
impl AdmissionPlugin for MutatingAdmissionPolicy {
    fn name(&self) -> &str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Delete
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let all = self.0.bound(request).await?;
        if all.is_empty() {
            return Ok(());
        }
        // In a box: few servers have such policies.
        Box::pin(self.change_by(&all, request)).await
    }
}

impl MutatingAdmissionPolicy {
    async fn change_by(
        &self,
        all: &[Bound],
        request: &mut AdmissionRequest<'_>,
    ) -> Result<(), AdmissionError> {
        let reinvocable = all.iter().any(|bound| bound.policy.reinvocable);
        let object =
            |request: &AdmissionRequest<'_>| reinvocable.then(|| views::current(request)).flatten();
        if request.more.reinvocation.again {
            let object = object(request);
            let invoked = &mut request.more.reinvocation.policies;
            invoked.begin_again(object.as_ref());
        }
        let mut failures = Failures::default();
        for invocation in self.invocations(all, request, &mut failures).await {
            self.invoke(&invocation, request, &mut failures).await?;
        }
        let object = object(request);
        request.more.reinvocation.policies.end(object);
        failures.refusal(request).map_or(Ok(()), Err)
    }
}

/// What went wrong with policies that must not fail.
#[derive(Default)]
struct Failures {
    texts: Vec<String>,
    /// The reason of the first, where it has one of its own.
    reason: Option<&'static str>,
}

impl Failures {
    fn add(
        &mut self,
        policy: &Policy,
        binding: Option<&Binding>,
        reason: Option<&'static str>,
        text: &dyn Display,
    ) {
        if policy.fails_open {
            return;
        }
        if self.texts.is_empty() {
            self.reason = reason;
        }
        let name = &policy.name;
        self.texts.push(match binding {
            Some(Binding { name: with, .. }) => {
                format!("policy '{name}' with binding '{with}' denied request: {text}")
            }
            None => format!("policy {name:?} denied request: {text}"),
        });
    }

    /// A policy or a binding does not make sense.
    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, error: &dyn Display) {
        let what = match binding {
            Some(_) => "binding",
            None => "policy",
        };
        let text = format!("failed to configure {what}: {error}");
        self.add(policy, binding, None, &text);
    }

    /// The refusal: the first failure's text, and all as its causes.
    fn refusal(self, request: &AdmissionRequest<'_>) -> Option<AdmissionError> {
        let first = self.texts.first()?.clone();
        let resource = request.resource;
        let error = Error::forbidden(resource.group, resource.resource, request.name, "");
        let mut status: Status = error.into_status();
        status.message = Some(first);
        if let Some(reason) = self.reason {
            status.reason = Some(reason.to_owned());
        }
        let causes = self.texts.into_iter().map(|text| StatusCause {
            message: Some(text),
            ..StatusCause::default()
        });
        let details = status.details.get_or_insert_default();
        details.causes.get_or_insert_default().extend(causes);
        Some(AdmissionError::Status(Box::new(status)))
    }
}

/// What a policy says, with one of its parameters, of an object in that version.
struct Invocation<'a> {
    policy: &'a Policy,
    binding: &'a Binding,
    param: Option<Value>,
    resource: &'a Resource,
}

impl MutatingAdmissionPolicy {
    /// Who is to be asked about the object as it is now, in which order. As upstream's `policyDispatcher` has it: what
    /// one of them makes of the object calls in no other, and keeps none out.
    async fn invocations<'a>(
        &self,
        all: &'a [Bound],
        request: &AdmissionRequest<'a>,
        failures: &mut Failures,
    ) -> Vec<Invocation<'a>> {
        let mut namespace = NamespaceLabels::default();
        let mut invocations = Vec::new();
        for bound in all {
            let found = bound
                .policy
                .matcher
                .find(request, &mut namespace, &*self.0.reader)
                .await;
            match found {
                Ok(Some(resource)) => {
                    let of = self.bound(bound, resource, request, &mut namespace, failures);
                    invocations.extend(of.await);
                }
                Ok(None) => {}
                Err(error) => failures.misconfigured(&bound.policy, None, &error),
            }
        }
        invocations
    }

    /// The invocations of a policy that covers the request, by its bindings.
    async fn bound<'a>(
        &self,
        bound: &'a Bound,
        resource: &'a Resource,
        request: &AdmissionRequest<'_>,
        namespace: &mut NamespaceLabels,
        failures: &mut Failures,
    ) -> Vec<Invocation<'a>> {
        let policy: &Policy = &bound.policy;
        let mut invocations = Vec::new();
        for binding in &bound.bindings {
            let binding: &Binding = binding;
            let params = params::bound(policy, binding, request, namespace, &*self.0.reader);
            match params.await {
                Ok(params) => {
                    let params = params.into_iter().flatten();
                    invocations.extend(params.map(|param| Invocation {
                        policy,
                        binding,
                        param: policy.param_kind.as_ref().map(|_| param),
                        resource,
                    }));
                }
                Err(text) => failures.misconfigured(policy, Some(binding), &text),
            }
        }
        invocations
    }

    /// Does what a policy says, with one of its parameters. What goes wrong with one of its mutations leaves the others
    /// alone, as upstream has it.
    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        request: &mut AdmissionRequest<'_>,
        failures: &mut Failures,
    ) -> Result<(), AdmissionError> {
        let Invocation {
            policy,
            binding,
            ref param,
            resource,
        } = *invocation;
        let (plugin, param) = (&self.0, param.as_ref());
        let mut scene = plugin.scene(request, resource).await?;
        let judged = plugin
            .evaluate(&scene, request, param, |inputs| {
                mutation::applies(policy, inputs)
            })
            .await;
        expressions::count(request, "policy", &policy.name, "validate", &judged);
        match judged.verdict {
            Verdict::Match => {}
            Verdict::NoMatch => return Ok(()),
            Verdict::Failed(text) => {
                failures.add(policy, Some(binding), INVALID, &text);
                return Ok(());
            }
        }
        let id = id(policy, binding, param);
        let reinvocation = &request.more.reinvocation;
        if reinvocation.again && !reinvocation.policies.is_due(&id) {
            return Ok(());
        }
        let before = scene.views.object.clone();
        let now = match request.more.registry {
            Some(registry) => registry.now(),
            None => jiff::Timestamp::now(),
        };
        let kind = Kind {
            shape: (request.operation != Operation::Connect).then(|| shape(resource)),
            api_version: resource.api_version(),
            now,
        };
        for (at, mutation) in policy.mutations.iter().enumerate() {
            let started = Instant::now();
            let change = plugin
                .evaluate(&scene, request, param, |inputs| {
                    mutation.evaluate(policy, inputs)
                })
                .await;
            let changed = change.and_then(|change| change.apply(&scene.views.object, &kind));
            let fault = match &changed {
                Ok(_) => Fault::None,
                Err(text) => Fault::of_text(text),
            };
            metrics::mutated(request, (policy, binding), fault, started.elapsed());
            match changed {
                // The next one sees defaults, too; after the last one they are filled in anyway.
                Ok(object) if at + 1 < policy.mutations.len() => {
                    scene.views.object = views::settled(request, resource, object)?;
                }
                Ok(object) => scene.views.object = object,
                Err(text) => failures.add(policy, Some(binding), INVALID, &text),
            }
        }
        let after = scene.views.object;
        if after != before && views::replace(request, resource, &before, after).await? {
            let reinvocation = &mut request.more.reinvocation;
            reinvocation.policies.changed();
            reinvocation.wanted = true;
        }
        if policy.reinvocable {
            request.more.reinvocation.policies.asked(&id);
        }
        Ok(())
    }
}

/// The reason of what goes wrong with a policy's expressions.
const INVALID: Option<&str> = Some("Invalid");

/// What tells an evaluation from others.
fn id(policy: &Policy, binding: &Binding, param: Option<&Value>) -> String {
    let meta = param.map_or(&Value::Null, |param| &param["metadata"]);
    let name = |name: &str| meta[name].as_str().unwrap_or_default();
    let (namespace, param) = (name("namespace"), name("name"));
    format!("{}/{}/{namespace}/{param}", policy.name, binding.name)
}

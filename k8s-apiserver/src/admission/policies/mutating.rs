//! `MutatingAdmissionPolicy`.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use k8s_model::Resource;
use serde_json::Value;

use super::{
    Binding, Plugin, Policy,
    metrics::{self, Fault},
    mutation, params,
    source::Bound,
};
use crate::{
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
/// made of the object. One with `reinvocationPolicy: IfNeeded` is evaluated once more if anybody changes the object
/// after it.
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
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let all = self.0.bound(request).await?;
        if all.is_empty() || request.object.is_none() {
            return Ok(());
        }
        let reinvocable = all.iter().any(|bound| bound.policy.reinvocable);
        let object = |request: &AdmissionRequest<'_>| {
            let object = request.object.as_ref().filter(|_| reinvocable);
            object.map(|object| object.to_value())
        };
        if request.more.reinvocation.again {
            let object = object(request);
            let invoked = &mut request.more.reinvocation.policies;
            invoked.begin_again(object.as_ref());
        }
        let mut namespace = NamespaceLabels::default();
        for bound in all.iter() {
            self.change(bound, request, &mut namespace).await?;
        }
        let object = object(request);
        request.more.reinvocation.policies.end(object);
        Ok(())
    }
}

impl MutatingAdmissionPolicy {
    async fn change(
        &self,
        bound: &Bound,
        request: &mut AdmissionRequest<'_>,
        namespace: &mut NamespaceLabels,
    ) -> Result<(), AdmissionError> {
        let (plugin, policy): (_, &Policy) = (&self.0, &bound.policy);
        let found = policy
            .matcher
            .find(request, namespace, &*plugin.reader)
            .await;
        let resource = match found {
            Ok(Some(resource)) => resource,
            Ok(None) => return Ok(()),
            Err(error) => return failed(policy, None, &error),
        };
        for binding in &bound.bindings {
            let binding: &Binding = binding;
            let covered = match &binding.matcher {
                Some(matcher) => matcher.find(request, namespace, &*plugin.reader).await,
                None => Ok(Some(resource)),
            };
            match covered {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(error) => {
                    failed(policy, Some(binding), &error)?;
                    continue;
                }
            }
            let id = format!("{}/{}", policy.name, binding.name);
            let reinvocation = &request.more.reinvocation;
            if reinvocation.again && !reinvocation.policies.is_due(&id) {
                continue;
            }
            let started = Instant::now();
            let mutated = self.mutate(policy, binding, request, resource).await;
            let fault = match &mutated {
                Ok(_) => Fault::None,
                Err(_) => Fault::Invalid,
            };
            metrics::mutated(request, (policy, binding), fault, started.elapsed());
            match mutated {
                Ok(true) => {
                    let reinvocation = &mut request.more.reinvocation;
                    reinvocation.policies.changed();
                    reinvocation.wanted = true;
                }
                Ok(false) => {}
                Err(text) => failed(policy, Some(binding), &text)?,
            }
            if policy.reinvocable {
                request.more.reinvocation.policies.asked(&id);
            }
        }
        Ok(())
    }

    /// Does what a policy says, with each of its parameters. Says whether that has changed the object. If something
    /// goes wrong the object stays as it was.
    async fn mutate(
        &self,
        policy: &Policy,
        binding: &Binding,
        request: &mut AdmissionRequest<'_>,
        resource: &Resource,
    ) -> Result<bool, String> {
        let plugin = &self.0;
        let params = match (&policy.param_kind, &binding.params) {
            (Some(kind), Some(params)) => params::find(kind, params, request).await?,
            _ => vec![Value::Null],
        };
        let mut scene = plugin
            .scene(request, resource)
            .await
            .map_err(|e| e.to_string())?;
        let before = scene.views.object.clone();
        let (shape, api_version) = (shape(resource), resource.api_version());
        let now = match request.more.registry {
            Some(registry) => registry.now(),
            None => jiff::Timestamp::now(),
        };
        for param in &params {
            let param = policy.param_kind.as_ref().map(|_| param);
            let judged = plugin
                .evaluate(&scene, request, param, |inputs| {
                    mutation::applies(policy, inputs)
                })
                .await;
            expressions::count(request, "policy", &policy.name, "validate", &judged);
            match judged.verdict {
                Verdict::Match => {}
                Verdict::NoMatch => continue,
                Verdict::Failed(text) => return Err(text),
            }
            for mutation in &policy.mutations {
                let change = plugin
                    .evaluate(&scene, request, param, |inputs| {
                        mutation.evaluate(policy, inputs)
                    })
                    .await?;
                let object = std::mem::take(&mut scene.views.object);
                scene.views.object = change.apply(object, &shape, &api_version, now)?;
            }
        }
        let after = scene.views.object;
        if after == before {
            return Ok(false);
        }
        views::replace(request, resource, &before, after)
            .await
            .map_err(|e| e.to_string())
    }
}

fn failed(
    policy: &Policy,
    binding: Option<&Binding>,
    error: &dyn std::fmt::Display,
) -> Result<(), AdmissionError> {
    if policy.fails_open {
        return Ok(());
    }
    let with = binding.map_or(String::new(), |b| format!(" with binding '{}'", b.name));
    Err(AdmissionError::forbidden(format!(
        "policy '{}'{with} denied request: {error}",
        policy.name
    )))
}

//! `MutatingAdmissionWebhook`.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::patch;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Hook, Invocation, Plugin,
    call::{self, Failure, internal},
    metrics::observe,
};
use crate::{
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
        matching::NamespaceLabels,
        reader::ObjectReader,
        views::{self, Views},
    },
    audit,
    authz::Authorizer,
};

/// Asks the webhooks of all `MutatingWebhookConfiguration`s that cover a request, one after the other: each sees what
/// those before it have made of the object. One with `reinvocationPolicy: IfNeeded` is asked once more if anybody
/// changes the object after it.
#[derive(Debug)]
pub struct MutatingAdmissionWebhook(Plugin);

impl MutatingAdmissionWebhook {
    /// Begins to follow the configurations. The reader also finds webhooks that are Services; the authorizer answers
    /// match conditions that ask it.
    pub fn new(reader: &Arc<dyn ObjectReader>, authorizer: &Arc<dyn Authorizer>) -> Self {
        let resource = "mutatingwebhookconfigurations";
        MutatingAdmissionWebhook(Plugin::start(reader, authorizer, resource))
    }
}

#[async_trait]
impl AdmissionPlugin for MutatingAdmissionWebhook {
    fn name(&self) -> &str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let hooks = self.0.hooks(request).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        // In a box: few servers have webhooks.
        Box::pin(self.ask(&hooks, request)).await
    }
}

impl MutatingAdmissionWebhook {
    async fn ask(
        &self,
        hooks: &[Arc<Hook>],
        request: &mut AdmissionRequest<'_>,
    ) -> Result<(), AdmissionError> {
        let again = request.more.reinvocation.again;
        let object = |request: &AdmissionRequest<'_>| {
            let invoked = hooks.iter().any(|hook| hook.reinvocable);
            invoked.then(|| views::current(request)).flatten()
        };
        if again {
            let object = object(request);
            let invoked = &mut request.more.reinvocation.webhooks;
            invoked.begin_again(object.as_ref());
        }
        let mut namespace = NamespaceLabels::default();
        for (at, hook) in hooks.iter().enumerate() {
            let found = self
                .0
                .invocation(hook, request, &mut namespace, "admit")
                .await?;
            let Some(invocation) = found else {
                continue;
            };
            if again && !request.more.reinvocation.webhooks.is_due(&hook.id) {
                continue;
            }
            let round = usize::from(again);
            let started = Instant::now();
            let changed = change(&invocation, request, round, at).await;
            let took = started.elapsed();
            audit::waited_for_webhooks("mutating", took);
            observe(request, hook, "admit", took, &changed);
            annotate(&invocation, round, at, matches!(changed, Ok(true)));
            let reinvocation = &mut request.more.reinvocation;
            if matches!(changed, Ok(true)) {
                reinvocation.webhooks.changed();
                reinvocation.wanted = true;
            }
            if hook.reinvocable {
                reinvocation.webhooks.asked(&hook.id);
            }
            match changed {
                Ok(_) => {}
                Err(Failure::Call { text, .. }) if hook.fails_open => {
                    call::fails_open("mutation", hook, round, at, &text);
                }
                Err(failure) => return Err(failure.into_error()),
            }
        }
        let object = object(request);
        request.more.reinvocation.webhooks.end(object);
        Ok(())
    }
}

/// Asks a webhook and does what it says. Says whether that has changed the object.
async fn change(
    invocation: &Invocation<'_>,
    request: &mut AdmissionRequest<'_>,
    round: usize,
    at: usize,
) -> Result<bool, Failure> {
    let hook = &invocation.hook;
    let views = Views::of(request, invocation.resource)
        .await
        .map_err(Failure::Internal)?;
    let before = views.object.clone();
    let answer = call::ask(invocation, request, views, true).await?;
    let Some(patch) = answer.patch else {
        return Ok(false);
    };
    let refused = |text: &str| Failure::Internal(internal(text));
    if answer.patch_type != "JSONPatch" {
        let text = format!("unsupported patch type {:?}", answer.patch_type);
        let name = &hook.name;
        return Err(Failure::Call {
            text: format!("failed calling webhook {name:?}: {text}"),
            code: 400,
        });
    }
    let steps: Value = serde_json::from_slice(&patch).map_err(|e| refused(&e.to_string()))?;
    if steps.as_array().is_some_and(Vec::is_empty) {
        return Ok(false);
    }
    if request.object.is_none() && request.more.connection().is_none() {
        return Err(refused(&format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    let mut after = before.clone();
    patch::json(&mut after, &patch).map_err(|e| {
        let status = e.to_status();
        refused(status.message.as_deref().unwrap_or_default())
    })?;
    let changed = views::replace(request, invocation.resource, &before, after)
        .await
        .map_err(Failure::Internal)?;
    // What the patch says may be as secret as the object: only a log that has objects has it.
    audit::annotate_requests(
        format!("patch.webhook.admission.k8s.io/round_{round}_index_{at}"),
        || {
            json!({
                "configuration": hook.configuration,
                "webhook": hook.name,
                "patch": steps,
                "patchType": "JSONPatch",
            })
            .to_string()
        },
    );
    Ok(changed)
}

fn annotate(invocation: &Invocation<'_>, round: usize, at: usize, mutated: bool) {
    let hook = &invocation.hook;
    audit::annotate(
        format!("mutation.webhook.admission.k8s.io/round_{round}_index_{at}"),
        json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated})
            .to_string(),
    );
}

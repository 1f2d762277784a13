//! `ValidatingAdmissionWebhook`.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::Instant;

use super::{Hook, Plugin, call, metrics::observe};
use crate::{
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
        matching::NamespaceLabels, reader::ObjectReader, views::Views,
    },
    audit,
    authz::Authorizer,
};

/// Asks the webhooks of all `ValidatingWebhookConfiguration`s that cover a request, all at once. The request goes on
/// if none refuses it.
#[derive(Debug)]
pub struct ValidatingAdmissionWebhook(Plugin);

impl ValidatingAdmissionWebhook {
    /// Begins to follow the configurations. The reader also finds webhooks that are Services; the authorizer answers
    /// match conditions that ask it.
    pub fn new(reader: &Arc<dyn ObjectReader>, authorizer: &Arc<dyn Authorizer>) -> Self {
        let resource = "validatingwebhookconfigurations";
        ValidatingAdmissionWebhook(Plugin::start(reader, authorizer, resource))
    }
}

#[async_trait]
impl AdmissionPlugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let hooks = self.0.hooks(request).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        // In a box: few servers have webhooks.
        Box::pin(self.ask(&hooks, request)).await
    }
}

impl ValidatingAdmissionWebhook {
    async fn ask(
        &self,
        hooks: &[Arc<Hook>],
        request: &AdmissionRequest<'_>,
    ) -> Result<(), AdmissionError> {
        let mut namespace = NamespaceLabels::default();
        let mut calls = Vec::new();
        for hook in hooks.iter() {
            let found = self
                .0
                .invocation(hook, request, &mut namespace, "validating")
                .await?;
            if let Some(invocation) = found {
                let views = Views::of(request, invocation.resource).await?;
                let at = calls.len();
                calls.push(async move {
                    let started = Instant::now();
                    let answer = call::ask(&invocation, request, views, false).await;
                    let took = started.elapsed();
                    observe(request, &invocation.hook, "validating", took, &answer);
                    match answer {
                        Ok(_) => Ok(()),
                        Err(call::Failure::Call { text, .. }) if invocation.hook.fails_open => {
                            call::fails_open("validating", &invocation.hook, 0, at, &text);
                            Ok(())
                        }
                        Err(failure) => Err(failure.into_error()),
                    }
                });
            }
        }
        let started = Instant::now();
        let asked = !calls.is_empty();
        let answers = join_all(calls).await;
        if asked {
            audit::waited_for_webhooks("validating", started.elapsed());
        }
        answers.into_iter().collect()
    }
}

//! The plugins `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: servers that have a say in writes.
//!
//! Which servers is said by objects: `MutatingWebhookConfiguration`s and `ValidatingWebhookConfiguration`s, which
//! are followed in memory. A request that none of their rules covers costs a look at the rules.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

mod call;
mod hook;
pub(super) mod metrics;
mod mutating;
mod review;
mod source;
mod validating;

use std::sync::Arc;

#[cfg(feature = "__fuzz")]
pub(crate) use self::review::fuzz as fuzz_answer;
use self::{hook::Hook, source::Source};
pub use self::{mutating::MutatingAdmissionWebhook, validating::ValidatingAdmissionWebhook};
use super::{
    AdmissionError, AdmissionRequest,
    expressions::{self, Condition, Inputs, Questions, Verdict, settle},
    matching::{self, NamespaceLabels},
    reader::ObjectReader,
    views::{self, Views},
};
use crate::authz::Authorizer;

/// What both plugins have.
#[derive(Debug)]
struct Plugin {
    reader: Arc<dyn ObjectReader>,
    authorizer: Arc<dyn Authorizer>,
    source: Source,
}

/// A webhook that is to be asked, and in which version of the resource.
struct Invocation<'r> {
    hook: Arc<Hook>,
    resource: &'r k8s_model::Resource,
}

impl Plugin {
    fn start(
        reader: &Arc<dyn ObjectReader>,
        authorizer: &Arc<dyn Authorizer>,
        resource: &'static str,
    ) -> Self {
        Plugin {
            reader: reader.clone(),
            authorizer: authorizer.clone(),
            source: Source::follow(reader, resource),
        }
    }

    /// The webhooks that there are, unless they have no say in the request anyway.
    async fn hooks(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<Arc<Vec<Arc<Hook>>>, AdmissionError> {
        if matching::is_beyond_webhooks(request) {
            return Ok(Arc::default());
        }
        self.source.hooks().await
    }

    /// Whether a webhook is to be asked; `step` is for metrics.
    async fn invocation<'r>(
        &self,
        hook: &Arc<Hook>,
        request: &AdmissionRequest<'r>,
        namespace: &mut NamespaceLabels,
        step: &str,
    ) -> Result<Option<Invocation<'r>>, AdmissionError> {
        let Some(resource) = matching::find(&hook.rules, hook.equivalent, request) else {
            return Ok(None);
        };
        if !matching::selects_object(&hook.object, request)
            || !namespace
                .selected(&hook.namespace, request, &*self.reader)
                .await?
        {
            return Ok(None);
        }
        let invocation = Invocation {
            hook: hook.clone(),
            resource,
        };
        if hook.conditions.is_empty() {
            return Ok(Some(invocation));
        }
        let views = Views::of(request, resource).await?;
        let described = views::describe(request, resource);
        let questions = Questions::default();
        let inputs = Inputs {
            object: &views.object,
            old: &views.old,
            request: &described,
            params: None,
            namespace: None,
            questions: &questions,
        };
        let judged = settle(&questions, request.user, &*self.authorizer, || {
            Condition::judge(&hook.conditions, &inputs.variables())
        })
        .await;
        expressions::count(request, "webhook", &hook.name, step, &judged);
        match judged.verdict {
            Verdict::Match => Ok(Some(invocation)),
            Verdict::NoMatch => Ok(None),
            Verdict::Failed(_) if hook.fails_open => Ok(None),
            Verdict::Failed(text) => Err(AdmissionError::forbidden(text)),
        }
    }
}

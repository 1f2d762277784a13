//! The plugins `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy`: rules on writes that are objects themselves,
//! written in CEL and bound to what they apply to.
//!
//! Policies and bindings are followed in memory. A request that no bound policy covers costs a look at their rules.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/> and
//! <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>.

mod binding;
pub(super) mod metrics;
mod mutating;
mod mutation;
mod params;
mod policy;
mod source;
mod validating;
mod validation;

use std::sync::Arc;

use k8s_model::Resource;
use k8s_openapi::{Resource as _, api::core::v1::Namespace};
use serde_json::Value;

use self::{
    binding::Binding,
    policy::Policy,
    source::{Bound, Source},
};
pub use self::{mutating::MutatingAdmissionPolicy, validating::ValidatingAdmissionPolicy};
use super::{
    AdmissionError, AdmissionRequest,
    expressions::{Inputs, Questions, settle},
    matching::{self, MatchResources, NamespaceLabels, Rule},
    reader::{ObjectReader, ReadError},
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

/// What a policy or binding applies to.
#[derive(Debug)]
struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    namespace: k8s_model::labels::Selector,
    object: k8s_model::labels::Selector,
}

impl From<MatchResources> for Matcher {
    fn from(wire: MatchResources) -> Self {
        Matcher {
            rules: wire.resource_rules,
            excluded: wire.exclude_resource_rules,
            equivalent: wire.match_policy.as_deref() != Some("Exact"),
            namespace: matching::selector(wire.namespace_selector.as_ref()),
            object: matching::selector(wire.object_selector.as_ref()),
        }
    }
}

impl Matcher {
    /// The version of the resource as which it covers the request, if it does. Without rules it covers all.
    async fn find<'r>(
        &self,
        request: &AdmissionRequest<'r>,
        namespace: &mut NamespaceLabels,
        reader: &dyn ObjectReader,
    ) -> Result<Option<&'r Resource>, AdmissionError> {
        let found = match self.rules.is_empty() {
            true => Some(request.resource),
            false => matching::find(&self.rules, self.equivalent, request),
        };
        let Some(found) = found else {
            return Ok(None);
        };
        let excluded = matching::find(&self.excluded, self.equivalent, request);
        if excluded.is_some()
            || !matching::selects_object(&self.object, request)
            || !namespace.selected(&self.namespace, request, reader).await?
        {
            return Ok(None);
        }
        Ok(Some(found))
    }
}

/// What expressions about a request speak of, apart from the parameters.
struct Scene {
    views: Views,
    described: Value,
    namespace: Value,
    questions: Questions,
}

impl Plugin {
    fn start(
        reader: &Arc<dyn ObjectReader>,
        authorizer: &Arc<dyn Authorizer>,
        resources: [&'static str; 2],
    ) -> Self {
        Plugin {
            reader: reader.clone(),
            authorizer: authorizer.clone(),
            source: Source::follow(reader, resources),
        }
    }

    /// The policies that there are, unless they have no say in the request anyway.
    async fn bound(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<Arc<Vec<Bound>>, AdmissionError> {
        if matching::is_beyond_policies(request) {
            return Ok(Arc::default());
        }
        self.source.bound().await
    }

    /// What expressions speak of, where the request is one about that version of its resource.
    async fn scene(
        &self,
        request: &AdmissionRequest<'_>,
        resource: &Resource,
    ) -> Result<Scene, AdmissionError> {
        let namespace = match request.namespace {
            // Here upstream does not count a namespace as in itself.
            _ if matching::is_namespace(request) => None,
            "" => None,
            name => {
                let (group, resource) = (Namespace::GROUP, Namespace::URL_PATH_SEGMENT);
                match self.reader.get_raw(group, resource, "", name).await {
                    // A server without namespaces has namespaces of no properties.
                    Err(ReadError::NotServed(_)) => None,
                    found => found?,
                }
            }
        };
        Ok(Scene {
            views: Views::of(request, resource).await?,
            described: views::describe(request, resource),
            namespace: namespace
                .and_then(|json| serde_json::from_slice(&json).ok())
                .unwrap_or_default(),
            questions: Questions::default(),
        })
    }

    /// Evaluates, asking the authorizer where that is needed.
    async fn evaluate<T: Send>(
        &self,
        scene: &Scene,
        request: &AdmissionRequest<'_>,
        params: Option<&Value>,
        evaluate: impl Fn(&Inputs<'_>) -> T + Send + Sync,
    ) -> T {
        let inputs = Inputs {
            object: &scene.views.object,
            old: &scene.views.old,
            request: &scene.described,
            params,
            namespace: Some(&scene.namespace),
            questions: &scene.questions,
        };
        settle(&scene.questions, request.user, &*self.authorizer, || {
            evaluate(&inputs)
        })
        .await
    }
}

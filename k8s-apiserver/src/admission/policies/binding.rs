//! [`Binding`]: what a policy applies to, with which parameters, and what follows.

use k8s_model::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::{Matcher, policy::Metadata};
use crate::admission::matching::{self, MatchResources};

/// The parameters that a binding refers to.
#[derive(Debug)]
pub(super) struct ParamRef {
    /// The name of one object; empty if a selector chooses them.
    pub(super) name: String,
    /// The namespace, if it is not that of the request.
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// Whether a request is refused if there are none.
    pub(super) denies: bool,
}

/// What a policy applies to.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) params: Option<ParamRef>,
    pub(super) matcher: Option<Matcher>,
    /// `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Wire {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    policy_name: String,
    param_ref: Option<WireParamRef>,
    match_resources: Option<MatchResources>,
    validation_actions: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireParamRef {
    name: String,
    namespace: String,
    selector: Option<LabelSelector>,
    parameter_not_found_action: Option<String>,
}

impl From<Wire> for Binding {
    fn from(wire: Wire) -> Self {
        let spec = wire.spec;
        Binding {
            name: wire.metadata.name,
            policy: spec.policy_name,
            params: spec.param_ref.map(|params| ParamRef {
                selector: matching::selector(params.selector.as_ref()),
                denies: params.parameter_not_found_action.as_deref() == Some("Deny"),
                name: params.name,
                namespace: params.namespace,
            }),
            matcher: spec.match_resources.map(Matcher::from),
            actions: spec.validation_actions,
        }
    }
}

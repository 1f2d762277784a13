//! [`Policy`]: a policy of either sort, compiled.

use serde::Deserialize;

use super::{
    Matcher,
    mutation::Mutation,
    validation::{Annotation, Validation},
};
use crate::admission::{
    expressions::{Condition, Expression},
    matching::MatchResources,
};

/// The kind of a policy's parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct ParamKind {
    pub(super) api_version: String,
    pub(super) kind: String,
}

/// A policy of either sort, compiled.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) param_kind: Option<ParamKind>,
    pub(super) matcher: Matcher,
    pub(super) conditions: Vec<Condition>,
    pub(super) variables: Vec<(String, Expression)>,
    /// Whether a request goes on if the policy cannot be evaluated.
    pub(super) fails_open: bool,
    /// Whether it is evaluated again if the object changes after it.
    pub(super) reinvocable: bool,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) mutations: Vec<Mutation>,
}

#[derive(Deserialize)]
pub(super) struct Wire {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    param_kind: Option<ParamKind>,
    match_constraints: MatchResources,
    match_conditions: Vec<Condition>,
    variables: Vec<Variable>,
    failure_policy: Option<String>,
    reinvocation_policy: Option<String>,
    validations: Vec<Validation>,
    audit_annotations: Vec<Annotation>,
    mutations: Vec<Mutation>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    expression: String,
}

impl From<Wire> for Policy {
    fn from(wire: Wire) -> Self {
        let spec = wire.spec;
        Policy {
            name: wire.metadata.name,
            param_kind: spec.param_kind,
            matcher: spec.match_constraints.into(),
            conditions: spec.match_conditions,
            variables: spec
                .variables
                .into_iter()
                .map(|v| (v.name, Expression::new(&v.expression)))
                .collect(),
            fails_open: spec.failure_policy.as_deref() == Some("Ignore"),
            reinvocable: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
            validations: spec.validations,
            annotations: spec.audit_annotations,
            mutations: spec.mutations,
        }
    }
}

//! Custom resources: rows of the table that come from custom resource definitions.
//!
//! [`rows`] makes a [`Resource`](crate::Resource) of each served version of a definition. Its objects are
//! [`CustomObject`]s, its [`Strategy`](crate::Strategy) a [`Version`]: the schema with all that is
//! said beside it. So custom resources go the same way as built-in ones.
//!
//! [`kind_rows`] does the same for a resource that is a Rust type of your own, with rules in terms of
//! that type: a [`KindStrategy`].

mod columns;
mod conditions;
mod decode;
mod functions;
mod known;
mod object;
mod publish;
mod scale;
mod strategy;
mod typed;
mod version;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub use self::{
    columns::Column,
    conditions::{condition, is_true, say_approval, set_condition, trusts_its_webhook},
    functions::Functions,
    object::CustomObject,
    scale::ScalePaths,
    typed::{KindColumn, KindStrategy, kind_rows},
    version::{Conversion, Version, compare_versions, rows},
};

/// The finalizer that keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether a definition is on its way out.
pub fn is_terminating(definition: &CustomResourceDefinition) -> bool {
    is_true(definition, "Terminating")
}

/// Whether the objects of a definition are served.
pub fn is_established(definition: &CustomResourceDefinition) -> bool {
    is_true(definition, "Established")
}

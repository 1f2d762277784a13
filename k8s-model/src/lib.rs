//! The Kubernetes object model: types, metadata rules, quantities, selectors, patches,
//! defaulting, validation, the table of resources.
//!
//! It does no I/O, keeps no time and rolls no dice: clocks and random sources are handed in.

#![forbid(unsafe_code)]

pub mod decode;
pub mod field;
pub mod fields;
mod generated;
mod kinds;
pub mod labels;
pub mod metadata;
pub mod names;
mod object;
pub mod openapi;
pub mod patch;
pub mod printers;
pub mod quantity;
mod resource;
pub mod schema;
pub mod status;
mod strategy;
mod table;

/// What pods ask for and how they are: shared by scheduler, controllers and node agent.
pub mod pods {
    pub use crate::kinds::core::pod::{
        condition, is_available, is_ready, is_sidecar, is_terminal, qos_class, ready_condition,
        resource_limits, resource_requests,
    };
}

pub use k8s_openapi;
pub use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};

pub use self::{
    decode::DecodeError,
    object::Object,
    resource::{Codec, GroupVersionResource, Resource, Scope, Subresource},
    strategy::{NoRules, Strategy},
    table::{ApiGroup, ResourceTable, resources, subresource_codec},
};

//! Pods: the rules of the kind, and what other crates need to know of a pod.

mod allowances;
mod alpha;
mod annotations;
mod claims;
mod conditions;
mod containers;
pub(crate) mod defaults;
mod dns;
mod environment;
mod gated;
mod label_keys;
mod mounts;
mod newer;
mod parts;
mod pod_level;
mod probes;
mod resize;
mod resources;
mod scheduling;
mod security;
mod status;
mod strategy;
mod update;
mod validation;
pub(crate) mod volumes;
mod warnings;
mod windows;

use k8s_openapi::api::core::v1::Container;

pub(crate) use self::{
    allowances::Before,
    alpha::prepare_template,
    pod_level::is_set as has_own_resources,
    resources::limit_list,
    scheduling::{effect, has_bad_values, node_selector, tolerations},
    strategy::PodRules,
    validation::{
        TemplateCheck, changed_long_running_template, changed_template, template_metadata,
    },
    volumes::{host_path, in_tree, nfs},
    warnings::template_warnings,
};
pub use self::{
    conditions::{condition, is_available, is_ready, is_terminal, ready_condition},
    resources::{qos_class, resource_limits, resource_requests},
};

/// Whether an init container keeps running beside the containers (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

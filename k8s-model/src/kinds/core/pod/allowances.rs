//! What a pod may go on saying although rules have come since that forbid it.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

use super::{containers, scheduling, security};

/// Rules that are not put to a new spec, as the stored one breaks them already: the update is about something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowances {
    /// Settings of a kernel's namespace that is the host's.
    pub(super) host_sysctls: bool,
    /// Values in a required node affinity that no label can have.
    pub(super) node_affinity_values: bool,
    /// Spread constraints whose selector has a key of `matchLabelKeys` for another reason than that.
    pub(super) spread_keys: bool,
    /// Init containers that come to an end, and are to be restarted when they are resized.
    pub(super) init_restarts: bool,
    /// Block devices in a user namespace.
    pub(super) mapped_devices: bool,
}

impl Allowances {
    /// What a stored spec does.
    pub(super) fn of(old: &PodSpec) -> Self {
        Allowances {
            host_sysctls: security::has_host_sysctls(old),
            node_affinity_values: scheduling::has_bad_node_affinity_values(old),
            spread_keys: scheduling::has_bad_spread_keys(old),
            init_restarts: containers::has_init_restarts(old),
            mapped_devices: containers::has_mapped_devices(old),
        }
    }

    /// What a stored template does.
    pub(super) fn of_template(old: Option<&PodTemplateSpec>) -> Self {
        old.and_then(|old| old.spec.as_ref())
            .map(Self::of)
            .unwrap_or_default()
    }
}

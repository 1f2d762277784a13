//! What a pod may go on saying although rules have come since that forbid it.

use k8s_openapi::{
    api::core::v1::{PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{annotations, containers, resources, scheduling, security, volumes};

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
    /// A cost of deletion that is no number.
    pub(super) deletion_cost: bool,
    /// Huge pages that do not come whole.
    pub(super) broken_pages: bool,
    /// Spread constraints whose selectors are none.
    pub(super) spread_selectors: bool,
    /// Volumes of images that say no image.
    pub(super) unnamed_images: bool,
    /// Tokens in volumes at paths that leave the volume, or that are kept for other things.
    pub(super) token_paths: bool,
}

impl Allowances {
    /// What a stored spec does, and the metadata around it.
    pub(super) fn of(meta: Option<&ObjectMeta>, old: &PodSpec) -> Self {
        Allowances {
            host_sysctls: security::has_host_sysctls(old),
            node_affinity_values: scheduling::has_bad_node_affinity_values(old),
            spread_keys: scheduling::has_bad_spread_keys(old),
            init_restarts: containers::has_init_restarts(old),
            mapped_devices: containers::has_mapped_devices(old),
            deletion_cost: meta.is_some_and(annotations::has_bad_deletion_cost),
            broken_pages: resources::has_broken_pages(old),
            spread_selectors: scheduling::has_bad_spread_selectors(old),
            unnamed_images: volumes::has_unnamed_images(old),
            token_paths: volumes::has_bad_token_paths(old),
        }
    }

    /// What a stored template does.
    pub(super) fn of_template(old: Option<&PodTemplateSpec>) -> Self {
        let of = |old: &PodTemplateSpec| Some(Self::of(old.metadata.as_ref(), old.spec.as_ref()?));
        old.and_then(of).unwrap_or_default()
    }
}

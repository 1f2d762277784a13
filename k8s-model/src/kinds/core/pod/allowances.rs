//! What a pod may go on saying although rules have come since that forbid it.

use k8s_openapi::{
    api::core::v1::{PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

use super::{annotations, containers, resources, scheduling, security, volumes};
use crate::kinds::selectors::{Values, has_bad_values};

/// Rules that are not put to a new spec, as the stored one breaks them already: the update is about something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowances {
    /// Settings of a kernel's namespace that is the host's.
    pub(super) host_sysctls: bool,
    /// Values in a required node affinity that no label can have.
    pub(super) node_affinity_values: bool,
    /// Values in selectors of pods to be near or not that no label can have.
    pub(super) selector_values: bool,
    /// Tolerations that compare numbers.
    pub(super) comparisons: bool,
    /// A user namespace beside the network of the host.
    pub(super) host_network_users: bool,
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
            selector_values: scheduling::has_bad_affinity_selectors(old),
            comparisons: scheduling::has_comparisons(old),
            host_network_users: old.host_users == Some(false) && old.host_network == Some(true),
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
    pub(super) fn of_template(old: Before<'_>) -> Self {
        let of = |old: &PodTemplateSpec| Some(Self::of(old.metadata.as_ref(), old.spec.as_ref()?));
        let mut allowed = old.template.and_then(of).unwrap_or_default();
        allowed.selector_values |= old.selector_values;
        allowed
    }
}

/// What a template takes the place of, where that may go on doing what it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before<'a> {
    template: Option<&'a PodTemplateSpec>,
    /// Whether the workload's own selector had values that no label can have.
    selector_values: bool,
}

impl<'a> Before<'a> {
    /// The template and the selector of a workload in which one goes by the other.
    pub(crate) fn of(template: &'a PodTemplateSpec, selector: Option<&LabelSelector>) -> Self {
        Before {
            template: Some(template),
            selector_values: selector.is_some_and(has_bad_values),
        }
    }

    /// The values that the workload's selector may have.
    pub(crate) fn values(self) -> Values {
        let spec = self.template.and_then(|template| template.spec.as_ref());
        let any = self.selector_values || spec.is_some_and(scheduling::has_bad_affinity_selectors);
        Values::labels_unless(any)
    }
}

impl<'a> From<Option<&'a PodTemplateSpec>> for Before<'a> {
    fn from(template: Option<&'a PodTemplateSpec>) -> Self {
        Before {
            template,
            selector_values: false,
        }
    }
}

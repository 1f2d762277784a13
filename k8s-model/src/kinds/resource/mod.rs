//! The group `resource.k8s.io`: devices, and who claims them.

mod allocation;
mod alpha;
mod attributes;
mod capacity;
mod claim;
mod class;
mod config;
mod counters;
mod device;
mod lists;
mod names;
mod network;
mod places;
mod requests;
mod selectors;
mod slice;
mod status;
mod taints;
mod template;

k8s_openapi::k8s_if_ge_1_37! {
    mod taint_rule;
    pub(crate) use self::taint_rule::DeviceTaintRuleRules;
}

pub(crate) use self::{
    claim::ResourceClaimRules, class::DeviceClassRules, slice::ResourceSliceRules,
    template::ResourceClaimTemplateRules,
};

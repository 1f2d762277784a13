//! The group `admissionregistration.k8s.io`: webhooks and policies that have a say in writes.

mod expressions;
mod matching;
#[cfg(test)]
mod tests;
mod validating;
mod webhooks;

k8s_openapi::k8s_if_ge_1_36! { mod mutating; }

pub(crate) use self::{
    validating::{ValidatingAdmissionPolicyBindingRules, ValidatingAdmissionPolicyRules},
    webhooks::{MutatingWebhookConfigurationRules, ValidatingWebhookConfigurationRules},
};

k8s_openapi::k8s_if_ge_1_36! {
    pub(crate) use self::mutating::{MutatingAdmissionPolicyBindingRules, MutatingAdmissionPolicyRules};
}

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];

//! The admission plugins that upstream's server has on by default, as far as they are here.

mod admin_access;
mod askable;
mod certificates;
mod claim_resize;
mod default_class;
mod device_status;
mod limit_ranger;
mod namespace_lifecycle;
mod node_certificates;
mod node_features;
mod node_restriction;
mod node_tokens;
mod object_in_use;
mod pod_resize;
pub mod pod_security;
mod policy_params;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod tolerations;
mod topology_labels;

use std::sync::Arc;

pub use self::{
    admin_access::DeviceAdminAccess,
    certificates::{
        CertificateApproval, CertificateSigning, CertificateSubjectRestriction,
        ClusterTrustBundleAttest, PodCertificateSigning,
    },
    claim_resize::PersistentVolumeClaimResize,
    default_class::{DefaultIngressClass, DefaultStorageClass},
    device_status::DeviceStatus,
    limit_ranger::LimitRanger,
    namespace_lifecycle::NamespaceLifecycle,
    node_features::NodeDeclaredFeatureValidator,
    node_restriction::NodeRestriction,
    object_in_use::StorageObjectInUseProtection,
    pod_resize::PodResizeValidator,
    pod_security::PodSecurity,
    policy_params::PolicyParams,
    priority::Priority,
    resource_quota::ResourceQuota,
    runtime_class::RuntimeClass,
    service_account::ServiceAccount,
    tolerations::{DefaultTolerationSeconds, TaintNodesByCondition},
    topology_labels::PodTopologyLabels,
};
use super::{
    AdmissionPlugin,
    policies::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy},
    reader::ObjectReader,
    webhooks::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook},
};
use crate::authz::Authorizer;

/// The annotation of a pod that stands for one of a node's own.
pub(crate) const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// The plugins of this module, and those that go by policies and ask webhooks, in upstream's order. The authorizer is asked who may
/// approve and sign certificates, and by expressions. Starts tasks that follow policies and the configurations of webhooks until
/// the plugins are dropped.
pub fn default_plugins(
    reader: &Arc<dyn ObjectReader>,
    authorizer: &Arc<dyn Authorizer>,
) -> Vec<Arc<dyn AdmissionPlugin>> {
    vec![
        Arc::new(NamespaceLifecycle::new(reader.clone())),
        Arc::new(LimitRanger::new(reader.clone())),
        Arc::new(ServiceAccount::new(reader.clone())),
        Arc::new(NodeRestriction::new(reader.clone()).with_authorizer(authorizer.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(PodSecurity::new(reader.clone())),
        Arc::new(Priority::new(reader.clone())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultStorageClass::new(reader.clone())),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize::new(reader.clone())),
        Arc::new(RuntimeClass::new(reader.clone())),
        Arc::new(DeviceAdminAccess::new(reader.clone())),
        Arc::new(DeviceStatus::new(authorizer.clone())),
        Arc::new(CertificateApproval::new(authorizer.clone())),
        Arc::new(CertificateSigning::new(authorizer.clone())),
        Arc::new(ClusterTrustBundleAttest::new(authorizer.clone())),
        Arc::new(PodCertificateSigning::new(authorizer.clone())),
        Arc::new(CertificateSubjectRestriction),
        Arc::new(DefaultIngressClass::new(reader.clone())),
        Arc::new(PodTopologyLabels::new(reader.clone())),
        Arc::new(NodeDeclaredFeatureValidator::new(reader.clone())),
        Arc::new(PodResizeValidator::new(reader.clone())),
        Arc::new(PolicyParams::new(reader.clone(), authorizer.clone())),
        Arc::new(MutatingAdmissionPolicy::new(reader, authorizer)),
        Arc::new(MutatingAdmissionWebhook::new(reader, authorizer)),
        Arc::new(ValidatingAdmissionPolicy::new(reader, authorizer)),
        Arc::new(ValidatingAdmissionWebhook::new(reader, authorizer)),
        Arc::new(ResourceQuota::new(reader.clone())),
    ]
}

#[cfg(test)]
mod tests;

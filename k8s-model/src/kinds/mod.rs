//! The rules of each built-in kind, by group.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
pub(crate) mod checks;
mod coordination;
pub(crate) mod core;
mod declared;
pub(crate) mod difference;
mod discovery;
mod flowcontrol;
pub(crate) mod ip_fields;
mod networking;
mod node;
mod node_labels;
mod policy;
pub(crate) mod quantities;
mod rbac;
mod reserved_names;
mod scheduling;
pub(crate) mod selectors;
mod storage;
mod typed;

k8s_if_ge_1_34! {
    mod resource;
}
k8s_if_ge_1_37! {
    mod storage_migration;
    mod pod_certificates;
    mod trust;
}

use k8s_openapi::{k8s_if_ge_1_34, k8s_if_ge_1_37};

pub(crate) use self::apiextensions::{approval_state, ca_fault};
use self::typed::{Either, Typed};
use crate::{NoRules, Strategy};

/// The rules of a kind. All versions of a kind share them.
pub(crate) fn strategy(group: &str, kind: &str) -> &'static dyn Strategy {
    match group {
        "" => core_group(kind),
        "admissionregistration.k8s.io" => admission_group(kind),
        "apiextensions.k8s.io" if kind == "CustomResourceDefinition" => {
            &Typed(apiextensions::CustomResourceDefinitionRules)
        }
        "apiregistration.k8s.io" if kind == "APIService" => {
            &Typed(apiregistration::ApiServiceRules)
        }
        "apps" => match kind {
            "ControllerRevision" => &Typed(apps::controller_revision::ControllerRevisionRules),
            "DaemonSet" => &Typed(apps::daemon_set::DaemonSetRules),
            "Deployment" => &Typed(apps::deployment::DeploymentRules),
            "ReplicaSet" => &Typed(apps::replica_set::ReplicaSetRules),
            "StatefulSet" => &Typed(apps::stateful_set::StatefulSetRules),
            _ => &NoRules,
        },
        "autoscaling" if kind == "HorizontalPodAutoscaler" => {
            &Either(Typed(autoscaling::V2Rules), Typed(autoscaling::V1Rules))
        }
        "batch" => match kind {
            "CronJob" => &Typed(batch::cron_job::CronJobRules),
            "Job" => &Typed(batch::job::JobRules),
            _ => &NoRules,
        },
        "certificates.k8s.io" if kind == "CertificateSigningRequest" => {
            &Typed(certificates::CertificateSigningRequestRules)
        }
        "coordination.k8s.io" if kind == "Lease" => &Typed(coordination::LeaseRules),
        "discovery.k8s.io" if kind == "EndpointSlice" => &Typed(discovery::EndpointSliceRules),
        "events.k8s.io" => core_group(kind),
        "flowcontrol.apiserver.k8s.io" => match kind {
            "FlowSchema" => &Typed(flowcontrol::FlowSchemaRules),
            "PriorityLevelConfiguration" => &Typed(flowcontrol::PriorityLevelConfigurationRules),
            _ => &NoRules,
        },
        "networking.k8s.io" => match kind {
            "IPAddress" => &Typed(networking::addresses::IpAddressRules),
            "Ingress" => &Typed(networking::ingress::IngressRules),
            "IngressClass" => &Typed(networking::ingress_class::IngressClassRules),
            "NetworkPolicy" => &Typed(networking::network_policy::NetworkPolicyRules),
            "ServiceCIDR" => &Typed(networking::addresses::ServiceCidrRules),
            _ => &NoRules,
        },
        "node.k8s.io" if kind == "RuntimeClass" => &Typed(node::RuntimeClassRules),
        "policy" if kind == "PodDisruptionBudget" => &Typed(policy::PodDisruptionBudgetRules),
        "rbac.authorization.k8s.io" => match kind {
            "ClusterRole" => &Typed(rbac::role::ClusterRoleRules),
            "ClusterRoleBinding" => &Typed(rbac::binding::ClusterRoleBindingRules),
            "Role" => &Typed(rbac::role::RoleRules),
            "RoleBinding" => &Typed(rbac::binding::RoleBindingRules),
            _ => &NoRules,
        },
        "scheduling.k8s.io" if kind == "PriorityClass" => &Typed(scheduling::PriorityClassRules),
        "storage.k8s.io" => match kind {
            "CSIDriver" => &Typed(storage::csi::CsiDriverRules),
            "CSINode" => &Typed(storage::csi::CsiNodeRules),
            "CSIStorageCapacity" => &Typed(storage::csi::CsiStorageCapacityRules),
            "StorageClass" => &Typed(storage::storage_class::StorageClassRules),
            "VolumeAttachment" => &Typed(storage::volume_attachment::VolumeAttachmentRules),
            _ => newer(group, kind),
        },
        _ => newer(group, kind),
    }
}

/// The rules of kinds that the oldest supported version of Kubernetes does not have.
fn newer(group: &str, kind: &str) -> &'static dyn Strategy {
    let _ = (group, kind);
    k8s_if_ge_1_34! {
        match (group, kind) {
            ("resource.k8s.io", "DeviceClass") => return &Typed(resource::DeviceClassRules),
            ("resource.k8s.io", "ResourceClaim") => return &Typed(resource::ResourceClaimRules),
            ("resource.k8s.io", "ResourceClaimTemplate") => {
                return &Typed(resource::ResourceClaimTemplateRules);
            }
            ("resource.k8s.io", "ResourceSlice") => return &Typed(resource::ResourceSliceRules),
            ("storage.k8s.io", "VolumeAttributesClass") => {
                return &Typed(storage::volume_attributes_class::VolumeAttributesClassRules);
            }
            _ => {}
        }
    }
    k8s_if_ge_1_37! {
        match (group, kind) {
            ("certificates.k8s.io", "ClusterTrustBundle") => {
                return &Typed(trust::ClusterTrustBundleRules);
            }
            ("certificates.k8s.io", "PodCertificateRequest") => {
                return &Typed(pod_certificates::PodCertificateRequestRules);
            }
            ("resource.k8s.io", "DeviceTaintRule") => {
                return &Typed(resource::DeviceTaintRuleRules);
            }
            ("storagemigration.k8s.io", "StorageVersionMigration") => {
                return &Typed(storage_migration::StorageVersionMigrationRules);
            }
            _ => {}
        }
    }
    &NoRules
}

fn admission_group(kind: &str) -> &'static dyn Strategy {
    use admissionregistration as kinds;
    match kind {
        "MutatingWebhookConfiguration" => &Typed(kinds::MutatingWebhookConfigurationRules),
        "ValidatingAdmissionPolicy" => &Typed(kinds::ValidatingAdmissionPolicyRules),
        "ValidatingAdmissionPolicyBinding" => &Typed(kinds::ValidatingAdmissionPolicyBindingRules),
        "ValidatingWebhookConfiguration" => &Typed(kinds::ValidatingWebhookConfigurationRules),
        _ => mutating_policies(kind),
    }
}

k8s_openapi::k8s_if_ge_1_36! {
    fn mutating_policies(kind: &str) -> &'static dyn Strategy {
        match kind {
            "MutatingAdmissionPolicy" => {
                &Typed(admissionregistration::MutatingAdmissionPolicyRules)
            }
            "MutatingAdmissionPolicyBinding" => {
                &Typed(admissionregistration::MutatingAdmissionPolicyBindingRules)
            }
            _ => &NoRules,
        }
    }
}

k8s_openapi::k8s_if_le_1_35! {
    fn mutating_policies(_kind: &str) -> &'static dyn Strategy {
        &NoRules
    }
}

fn core_group(kind: &str) -> &'static dyn Strategy {
    match kind {
        "ConfigMap" => &Typed(core::config_map::ConfigMapRules),
        "Endpoints" => &Typed(core::endpoints::EndpointsRules),
        "Event" => &Either(
            Typed(core::event::CoreEventRules),
            Typed(core::event::NewEventRules),
        ),
        "LimitRange" => &Typed(core::limit_range::LimitRangeRules),
        "Namespace" => &Typed(core::namespace::NamespaceRules),
        "Node" => &Typed(core::node::NodeRules),
        "PersistentVolume" => &Typed(core::persistent_volume::PersistentVolumeRules),
        "PersistentVolumeClaim" => {
            &Typed(core::persistent_volume_claim::PersistentVolumeClaimRules)
        }
        "Pod" => &Typed(core::pod::PodRules),
        "PodTemplate" => &Typed(core::pod_template::PodTemplateRules),
        "ReplicationController" => &Typed(core::replication_controller::ReplicationControllerRules),
        "ResourceQuota" => &Typed(core::resource_quota::ResourceQuotaRules),
        "Secret" => &Typed(core::secret::SecretRules),
        "Service" => &Typed(core::service::ServiceRules),
        "ServiceAccount" => &Typed(core::service_account::ServiceAccountRules),
        _ => &NoRules,
    }
}

//! Which texts a field may hold, where those are all there are: upstream's types with `+enum`.

use crate::schema::{Field, Type};

/// The texts that a field of a type may hold, sorted; nothing if it may hold others.
pub(super) fn values(ty: Type, field: &Field) -> Option<&'static [&'static str]> {
    let (kind, name) = (ty.base_name(), field.name());
    let at = VALUES.binary_search_by(|row| (row.0, row.1).cmp(&(kind, name)));
    at.ok().map(|at| VALUES[at].2)
}

/// Type, field and texts, sorted by the first two. Types of one name in several groups have the same.
const VALUES: &[(&str, &str, &[&str])] = &[
    (
        "AppArmorProfile",
        "type",
        &["Localhost", "RuntimeDefault", "Unconfined"],
    ),
    (
        "AzureDiskVolumeSource",
        "cachingMode",
        &["None", "ReadOnly", "ReadWrite"],
    ),
    (
        "AzureDiskVolumeSource",
        "kind",
        &["Dedicated", "Managed", "Shared"],
    ),
    (
        "Container",
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
    ),
    (
        "Container",
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
    ),
    ("ContainerPort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "CronJobSpec",
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
    ),
    (
        "DaemonSetUpdateStrategy",
        "type",
        &["OnDelete", "RollingUpdate"],
    ),
    ("DeploymentStrategy", "type", &["Recreate", "RollingUpdate"]),
    ("EndpointPort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "EphemeralContainer",
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
    ),
    (
        "EphemeralContainer",
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
    ),
    ("HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    (
        "HostPathVolumeSource",
        "type",
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    ),
    ("IngressPortStatus", "protocol", &["SCTP", "TCP", "UDP"]),
    ("JobSpec", "completionMode", &["Indexed", "NonIndexed"]),
    (
        "JobSpec",
        "podReplacementPolicy",
        &["Failed", "TerminatingOrFailed"],
    ),
    ("MutatingWebhook", "failurePolicy", &["Fail", "Ignore"]),
    ("MutatingWebhook", "matchPolicy", &["Equivalent", "Exact"]),
    (
        "MutatingWebhook",
        "reinvocationPolicy",
        &["IfNeeded", "Never"],
    ),
    (
        "MutatingWebhook",
        "sideEffects",
        &["None", "NoneOnDryRun", "Some", "Unknown"],
    ),
    ("NamespaceStatus", "phase", &["Active", "Terminating"]),
    ("NetworkPolicyPort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "NodeSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    ),
    ("NodeStatus", "phase", &["Pending", "Running", "Terminated"]),
    (
        "PersistentVolumeClaimSpec",
        "volumeMode",
        &["Block", "Filesystem"],
    ),
    (
        "PersistentVolumeClaimStatus",
        "phase",
        &["Bound", "Lost", "Pending"],
    ),
    (
        "PersistentVolumeSpec",
        "persistentVolumeReclaimPolicy",
        &["Delete", "Recycle", "Retain"],
    ),
    (
        "PersistentVolumeSpec",
        "volumeMode",
        &["Block", "Filesystem"],
    ),
    (
        "PersistentVolumeStatus",
        "phase",
        &["Available", "Bound", "Failed", "Pending", "Released"],
    ),
    (
        "PodDisruptionBudgetSpec",
        "unhealthyPodEvictionPolicy",
        &["AlwaysAllow", "IfHealthyBudget"],
    ),
    (
        "PodFailurePolicyOnExitCodesRequirement",
        "operator",
        &["In", "NotIn"],
    ),
    (
        "PodFailurePolicyRule",
        "action",
        &["Count", "FailIndex", "FailJob", "Ignore"],
    ),
    (
        "PodSecurityContext",
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
    ),
    (
        "PodSecurityContext",
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
    ),
    (
        "PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    (
        "PodSpec",
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
    ),
    (
        "PodSpec",
        "restartPolicy",
        &["Always", "Never", "OnFailure"],
    ),
    (
        "PodStatus",
        "phase",
        &["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    ),
    (
        "PodStatus",
        "qosClass",
        &["BestEffort", "Burstable", "Guaranteed"],
    ),
    ("PortStatus", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "PriorityClass",
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
    ),
    (
        "RuleWithOperations",
        "scope",
        &["*", "Cluster", "Namespaced"],
    ),
    (
        "ScopedResourceSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "In", "NotIn"],
    ),
    (
        "ScopedResourceSelectorRequirement",
        "scopeName",
        &[
            "BestEffort",
            "CrossNamespacePodAffinity",
            "NotBestEffort",
            "NotTerminating",
            "PriorityClass",
            "Terminating",
            "VolumeAttributesClass",
        ],
    ),
    (
        "SeccompProfile",
        "type",
        &["Localhost", "RuntimeDefault", "Unconfined"],
    ),
    ("SecurityContext", "procMount", &["Default", "Unmasked"]),
    ("ServicePort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "ServiceSpec",
        "externalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "ServiceSpec",
        "internalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    ("ServiceSpec", "sessionAffinity", &["ClientIP", "None"]),
    (
        "ServiceSpec",
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    ),
    (
        "StatefulSetSpec",
        "podManagementPolicy",
        &["OrderedReady", "Parallel"],
    ),
    (
        "StatefulSetUpdateStrategy",
        "type",
        &["OnDelete", "RollingUpdate"],
    ),
    (
        "StorageClass",
        "reclaimPolicy",
        &["Delete", "Recycle", "Retain"],
    ),
    (
        "StorageClass",
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
    ),
    (
        "Taint",
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
    ),
    (
        "Toleration",
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
    ),
    ("Toleration", "operator", &["Equal", "Exists"]),
    (
        "TopologySpreadConstraint",
        "nodeAffinityPolicy",
        &["Honor", "Ignore"],
    ),
    (
        "TopologySpreadConstraint",
        "nodeTaintsPolicy",
        &["Honor", "Ignore"],
    ),
    (
        "TopologySpreadConstraint",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
    ("ValidatingWebhook", "failurePolicy", &["Fail", "Ignore"]),
    ("ValidatingWebhook", "matchPolicy", &["Equivalent", "Exact"]),
    (
        "ValidatingWebhook",
        "sideEffects",
        &["None", "NoneOnDryRun", "Some", "Unknown"],
    ),
    (
        "VolumeMount",
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ResourceTable, schema::Shape};

    #[test]
    fn the_table_is_sorted() {
        assert!(VALUES.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        assert!(VALUES.iter().all(|row| row.2.is_sorted()));
    }

    #[test]
    fn every_row_is_met_on_the_way_through_the_kinds() {
        let mut met = std::collections::BTreeSet::new();
        let rows = ResourceTable::builtin().rows();
        let mut ahead: Vec<Type> = (rows.iter())
            .filter_map(|row| Type::of_kind(row.group, row.version, row.kind))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(ty) = ahead.pop() {
            if !seen.insert(ty.name()) {
                continue;
            }
            for field in ty.fields() {
                if values(ty, &field).is_some() {
                    assert_eq!(
                        field.shape(),
                        Shape::String(""),
                        "{} {}",
                        ty.name(),
                        field.name()
                    );
                    met.insert((ty.base_name(), field.name()));
                }
                let mut shape = field.shape();
                while let Shape::List(elements) | Shape::Map(elements) = shape {
                    shape = elements.shape();
                }
                if let Shape::Type(ty) = shape {
                    ahead.push(ty);
                }
            }
        }
        let all = VALUES.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(met, all);
    }
}

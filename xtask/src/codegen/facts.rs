//! What the sources of `k8s-openapi` do not say. Each table names upstream's place for it.

/// Where a resource differs from the rule: served with all verbs, singular name in lower case,
/// `status` where the type has that field, no short names, no categories.
#[derive(Default)]
pub(super) struct ResourceFacts {
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) short_names: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    /// Empty for all.
    pub(super) verbs: &'static [&'static str],
    /// Beside `status`.
    pub(super) subresources: &'static [Subresource],
    /// Group and version under which the objects are stored, if not their own.
    pub(super) storage: Option<(&'static str, &'static str)>,
}

/// Name, group and version of its kind (empty where they are the parent's), kind, verbs.
pub(super) type Subresource = (
    &'static str,
    (&'static str, &'static str),
    &'static str,
    &'static [&'static str],
);

pub(super) const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const CREATE: &[&str] = &["create"];
const UPDATE: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const WITHOUT_COLLECTION: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];
const SCALE: Subresource = ("scale", ("autoscaling", "v1"), "Scale", UPDATE);
const SAME: (&str, &str) = ("", "");

const fn named(
    group: &'static str,
    resource: &'static str,
    short_names: &'static [&'static str],
) -> ResourceFacts {
    ResourceFacts {
        short_names,
        ..plain(group, resource)
    }
}

const fn plain(group: &'static str, resource: &'static str) -> ResourceFacts {
    ResourceFacts {
        group,
        resource,
        short_names: &[],
        categories: &[],
        verbs: &[],
        subresources: &[],
        storage: None,
    }
}

const fn in_all(facts: ResourceFacts) -> ResourceFacts {
    ResourceFacts {
        categories: &["all"],
        ..facts
    }
}

const fn api_extension(facts: ResourceFacts) -> ResourceFacts {
    ResourceFacts {
        categories: &["api-extensions"],
        ..facts
    }
}

const fn create_only(group: &'static str, resource: &'static str) -> ResourceFacts {
    ResourceFacts {
        verbs: CREATE,
        ..plain(group, resource)
    }
}

const fn with(facts: ResourceFacts, subresources: &'static [Subresource]) -> ResourceFacts {
    ResourceFacts {
        subresources,
        ..facts
    }
}

/// From the `pkg/registry/*/*/storage` packages (`ShortNames`, `Categories`, which verbs a REST
/// storage implements) and `pkg/registry/*/rest` (subresources).
pub(super) const RESOURCES: &[ResourceFacts] = &[
    create_only("", "bindings"),
    ResourceFacts {
        verbs: &["get", "list"],
        ..named("", "componentstatuses", &["cs"])
    },
    named("", "configmaps", &["cm"]),
    named("", "endpoints", &["ep"]),
    named("", "events", &["ev"]),
    named("", "limitranges", &["limits"]),
    ResourceFacts {
        verbs: WITHOUT_COLLECTION,
        ..with(
            named("", "namespaces", &["ns"]),
            &[("finalize", SAME, "Namespace", &["update"])],
        )
    },
    with(
        named("", "nodes", &["no"]),
        &[("proxy", SAME, "NodeProxyOptions", PROXY)],
    ),
    named("", "persistentvolumeclaims", &["pvc"]),
    named("", "persistentvolumes", &["pv"]),
    with(
        in_all(named("", "pods", &["po"])),
        &[
            ("attach", SAME, "PodAttachOptions", CONNECT),
            ("binding", SAME, "Binding", CREATE),
            ("ephemeralcontainers", SAME, "Pod", UPDATE),
            ("eviction", ("policy", "v1"), "Eviction", CREATE),
            ("exec", SAME, "PodExecOptions", CONNECT),
            ("log", SAME, "Pod", &["get"]),
            ("portforward", SAME, "PodPortForwardOptions", CONNECT),
            ("proxy", SAME, "PodProxyOptions", PROXY),
            ("resize", SAME, "Pod", UPDATE),
        ],
    ),
    with(
        in_all(named("", "replicationcontrollers", &["rc"])),
        &[SCALE],
    ),
    named("", "resourcequotas", &["quota"]),
    with(
        named("", "serviceaccounts", &["sa"]),
        &[(
            "token",
            ("authentication.k8s.io", "v1"),
            "TokenRequest",
            CREATE,
        )],
    ),
    with(
        in_all(named("", "services", &["svc"])),
        &[("proxy", SAME, "ServiceProxyOptions", PROXY)],
    ),
    api_extension(plain(
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies",
    )),
    api_extension(plain(
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
    )),
    api_extension(plain(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    )),
    api_extension(plain(
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
    )),
    api_extension(plain(
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    )),
    api_extension(plain(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    )),
    api_extension(named(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &["crd", "crds"],
    )),
    api_extension(plain("apiregistration.k8s.io", "apiservices")),
    in_all(named("apps", "daemonsets", &["ds"])),
    with(in_all(named("apps", "deployments", &["deploy"])), &[SCALE]),
    with(in_all(named("apps", "replicasets", &["rs"])), &[SCALE]),
    with(in_all(named("apps", "statefulsets", &["sts"])), &[SCALE]),
    create_only("authentication.k8s.io", "selfsubjectreviews"),
    create_only("authentication.k8s.io", "tokenreviews"),
    create_only("authorization.k8s.io", "localsubjectaccessreviews"),
    create_only("authorization.k8s.io", "selfsubjectaccessreviews"),
    create_only("authorization.k8s.io", "selfsubjectrulesreviews"),
    create_only("authorization.k8s.io", "subjectaccessreviews"),
    ResourceFacts {
        storage: Some(("autoscaling", "v2")),
        ..in_all(named("autoscaling", "horizontalpodautoscalers", &["hpa"]))
    },
    in_all(named("batch", "cronjobs", &["cj"])),
    in_all(plain("batch", "jobs")),
    with(
        named(
            "certificates.k8s.io",
            "certificatesigningrequests",
            &["csr"],
        ),
        &[("approval", SAME, "CertificateSigningRequest", UPDATE)],
    ),
    ResourceFacts {
        storage: Some(("", "v1")),
        ..named("events.k8s.io", "events", &["ev"])
    },
    named("networking.k8s.io", "ingresses", &["ing"]),
    named("networking.k8s.io", "ipaddresses", &["ip"]),
    named("networking.k8s.io", "networkpolicies", &["netpol"]),
    named("policy", "poddisruptionbudgets", &["pdb"]),
    named("scheduling.k8s.io", "priorityclasses", &["pc"]),
    named("storage.k8s.io", "storageclasses", &["sc"]),
    named("storage.k8s.io", "volumeattributesclasses", &["vac"]),
];

/// Types that are resources by their traits, but only ever the body of a subresource.
pub(super) const SUBRESOURCE_KINDS: &[(&str, &str)] = &[
    ("autoscaling", "Scale"),
    ("authentication.k8s.io", "TokenRequest"),
    ("policy", "Eviction"),
];

/// The order of the groups in discovery: the priorities in
/// `cmd/kube-apiserver/app/aggregator.go`, `apiregistration.k8s.io` first.
pub(super) const GROUPS: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// Fields with a `patchStrategy` or `patchMergeKey` tag in upstream's Go types, which is what a
/// strategic merge patch goes by: definition (without `io.k8s.`), field, strategies, key.
pub(super) const PATCHES: &[(&str, &str, &str, &str)] = &[
    (
        "api.admissionregistration.v1.MutatingAdmissionPolicySpec",
        "matchConditions",
        "merge",
        "name",
    ),
    (
        "api.admissionregistration.v1.MutatingWebhook",
        "matchConditions",
        "merge",
        "name",
    ),
    (
        "api.admissionregistration.v1.MutatingWebhookConfiguration",
        "webhooks",
        "merge",
        "name",
    ),
    (
        "api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "matchConditions",
        "merge",
        "name",
    ),
    (
        "api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "variables",
        "merge",
        "name",
    ),
    (
        "api.admissionregistration.v1.ValidatingWebhook",
        "matchConditions",
        "merge",
        "name",
    ),
    (
        "api.admissionregistration.v1.ValidatingWebhookConfiguration",
        "webhooks",
        "merge",
        "name",
    ),
    ("api.apps.v1.DaemonSetStatus", "conditions", "merge", "type"),
    ("api.apps.v1.DeploymentSpec", "strategy", "retainKeys", ""),
    (
        "api.apps.v1.DeploymentStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.apps.v1.ReplicaSetStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.apps.v1.StatefulSetStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.autoscaling.v2.HorizontalPodAutoscalerStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.batch.v1.JobSchedulingConfiguration",
        "resourceClaims",
        "merge",
        "name",
    ),
    ("api.batch.v1.JobStatus", "conditions", "merge", "type"),
    (
        "api.certificates.v1.PodCertificateRequestStatus",
        "conditions",
        "merge",
        "type",
    ),
    ("api.core.v1.ComponentStatus", "conditions", "merge", "type"),
    ("api.core.v1.Container", "env", "merge", "name"),
    ("api.core.v1.Container", "ports", "merge", "containerPort"),
    (
        "api.core.v1.Container",
        "volumeDevices",
        "merge",
        "devicePath",
    ),
    (
        "api.core.v1.Container",
        "volumeMounts",
        "merge",
        "mountPath",
    ),
    (
        "api.core.v1.ContainerStatus",
        "allocatedResourcesStatus",
        "merge",
        "name",
    ),
    (
        "api.core.v1.ContainerStatus",
        "volumeMounts",
        "merge",
        "mountPath",
    ),
    ("api.core.v1.EphemeralContainer", "env", "merge", "name"),
    (
        "api.core.v1.EphemeralContainer",
        "ports",
        "merge",
        "containerPort",
    ),
    (
        "api.core.v1.EphemeralContainer",
        "volumeDevices",
        "merge",
        "devicePath",
    ),
    (
        "api.core.v1.EphemeralContainer",
        "volumeMounts",
        "merge",
        "mountPath",
    ),
    ("api.core.v1.NamespaceStatus", "conditions", "merge", "type"),
    (
        "api.core.v1.NodeAllocatableResourceClaimStatus",
        "mapping",
        "merge",
        "name",
    ),
    (
        "api.core.v1.NodeAllocatableResourceClaimStatus",
        "overhead",
        "merge",
        "name",
    ),
    ("api.core.v1.NodeSpec", "podCIDRs", "merge", ""),
    ("api.core.v1.NodeStatus", "addresses", "merge", "type"),
    ("api.core.v1.NodeStatus", "conditions", "merge", "type"),
    (
        "api.core.v1.PersistentVolumeClaimStatus",
        "conditions",
        "merge",
        "type",
    ),
    ("api.core.v1.PodSpec", "containers", "merge", "name"),
    (
        "api.core.v1.PodSpec",
        "ephemeralContainers",
        "merge",
        "name",
    ),
    ("api.core.v1.PodSpec", "evictionResponders", "merge", "name"),
    ("api.core.v1.PodSpec", "hostAliases", "merge", "ip"),
    ("api.core.v1.PodSpec", "imagePullSecrets", "merge", "name"),
    ("api.core.v1.PodSpec", "initContainers", "merge", "name"),
    (
        "api.core.v1.PodSpec",
        "resourceClaims",
        "merge,retainKeys",
        "name",
    ),
    ("api.core.v1.PodSpec", "schedulingGates", "merge", "name"),
    (
        "api.core.v1.PodSpec",
        "topologySpreadConstraints",
        "merge",
        "topologyKey",
    ),
    ("api.core.v1.PodSpec", "volumes", "merge,retainKeys", "name"),
    ("api.core.v1.PodStatus", "conditions", "merge", "type"),
    ("api.core.v1.PodStatus", "hostIPs", "merge", "ip"),
    (
        "api.core.v1.PodStatus",
        "nodeAllocatableResourceClaimStatuses",
        "merge",
        "resourceClaimName",
    ),
    ("api.core.v1.PodStatus", "podIPs", "merge", "ip"),
    (
        "api.core.v1.PodStatus",
        "resourceClaimStatuses",
        "merge,retainKeys",
        "name",
    ),
    (
        "api.core.v1.PodVolumeHealth",
        "healthConditions",
        "merge",
        "status",
    ),
    (
        "api.core.v1.ReplicationControllerStatus",
        "conditions",
        "merge",
        "type",
    ),
    ("api.core.v1.ServiceAccount", "secrets", "merge", "name"),
    ("api.core.v1.ServiceSpec", "ports", "merge", "port"),
    ("api.core.v1.ServiceStatus", "conditions", "merge", "type"),
    (
        "api.core.v1.VolumeHealthStatus",
        "healthConditions",
        "merge",
        "status",
    ),
    (
        "api.flowcontrol.v1.FlowSchemaStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.flowcontrol.v1.PriorityLevelConfigurationStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.networking.v1.ServiceCIDRStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.policy.v1.PodDisruptionBudgetSpec",
        "selector",
        "replace",
        "",
    ),
    (
        "api.policy.v1.PodDisruptionBudgetStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.resource.v1.DeviceTaintRuleStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "api.resource.v1.ResourceClaimStatus",
        "reservedFor",
        "merge",
        "uid",
    ),
    ("api.storage.v1.CSINodeSpec", "drivers", "merge", "name"),
    (
        "api.storage.v1.CSINodeStatus",
        "storageHealth",
        "merge",
        "name",
    ),
    (
        "api.storagemigration.v1.StorageVersionMigrationStatus",
        "conditions",
        "merge",
        "type",
    ),
    (
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "finalizers",
        "merge",
        "",
    ),
    (
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "ownerReferences",
        "merge",
        "uid",
    ),
    (
        "kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus",
        "conditions",
        "merge",
        "type",
    ),
];

/// Lists with several keys, of which `k8s-openapi` keeps only the one for patches.
pub(super) const LIST_KEYS: &[(&str, &str, &[&str])] = &[
    (
        "api.core.v1.Container",
        "ports",
        &["containerPort", "protocol"],
    ),
    (
        "api.core.v1.EphemeralContainer",
        "ports",
        &["containerPort", "protocol"],
    ),
    (
        "api.core.v1.PodSpec",
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    (
        "api.core.v1.PodVolumeHealth",
        "healthConditions",
        &["status", "reason"],
    ),
    ("api.core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    (
        "api.core.v1.VolumeHealthStatus",
        "healthConditions",
        &["status", "reason"],
    ),
];

/// Types that apply treats as one value (`+structType=atomic`).
pub(super) const ATOMIC: &[&str] = &[
    "api.admissionregistration.v1.MatchResources",
    "api.admissionregistration.v1.NamedRuleWithOperations",
    "api.admissionregistration.v1.ParamKind",
    "api.admissionregistration.v1.ParamRef",
    "api.admissionregistration.v1.Variable",
    "api.autoscaling.v1.CrossVersionObjectReference",
    "api.core.v1.ConfigMapKeySelector",
    "api.core.v1.EndpointAddress",
    "api.core.v1.EndpointPort",
    "api.core.v1.EvictionResponder",
    "api.core.v1.FileKeySelector",
    "api.core.v1.LocalObjectReference",
    "api.core.v1.NodeSelector",
    "api.core.v1.NodeSelectorTerm",
    "api.core.v1.ObjectFieldSelector",
    "api.core.v1.ObjectReference",
    "api.core.v1.ResourceFieldSelector",
    "api.core.v1.ScopeSelector",
    "api.core.v1.SecretKeySelector",
    "api.core.v1.SecretReference",
    "api.core.v1.TopologySelectorTerm",
    "api.core.v1.TypedLocalObjectReference",
    "api.discovery.v1.EndpointPort",
    "api.networking.v1.ServiceBackendPort",
    "api.rbac.v1.RoleRef",
    "api.rbac.v1.Subject",
    "apimachinery.pkg.apis.meta.v1.LabelSelector",
    "apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Fields that upstream writes even where nobody set them, besides the metadata, spec and status of
/// kinds: structs that are no pointers, which its OpenAPI documents give the default `{}`.
pub(super) const VALUES: &[(&str, &str)] = &[
    (
        "api.admissionregistration.v1.MutatingWebhook",
        "clientConfig",
    ),
    (
        "api.admissionregistration.v1.ValidatingWebhook",
        "clientConfig",
    ),
    ("api.apps.v1.DaemonSetSpec", "template"),
    ("api.apps.v1.DaemonSetSpec", "updateStrategy"),
    ("api.apps.v1.DeploymentSpec", "strategy"),
    ("api.apps.v1.DeploymentSpec", "template"),
    ("api.apps.v1.ReplicaSetSpec", "template"),
    ("api.apps.v1.StatefulSetSpec", "template"),
    ("api.apps.v1.StatefulSetSpec", "updateStrategy"),
    ("api.authentication.v1.TokenReviewStatus", "user"),
    (
        "api.autoscaling.v1.HorizontalPodAutoscalerSpec",
        "scaleTargetRef",
    ),
    ("api.autoscaling.v2.ContainerResourceMetricSource", "target"),
    (
        "api.autoscaling.v2.ContainerResourceMetricStatus",
        "current",
    ),
    ("api.autoscaling.v2.ExternalMetricSource", "metric"),
    ("api.autoscaling.v2.ExternalMetricSource", "target"),
    ("api.autoscaling.v2.ExternalMetricStatus", "current"),
    ("api.autoscaling.v2.ExternalMetricStatus", "metric"),
    (
        "api.autoscaling.v2.HorizontalPodAutoscalerSpec",
        "scaleTargetRef",
    ),
    ("api.autoscaling.v2.ObjectMetricSource", "describedObject"),
    ("api.autoscaling.v2.ObjectMetricSource", "metric"),
    ("api.autoscaling.v2.ObjectMetricSource", "target"),
    ("api.autoscaling.v2.ObjectMetricStatus", "current"),
    ("api.autoscaling.v2.ObjectMetricStatus", "describedObject"),
    ("api.autoscaling.v2.ObjectMetricStatus", "metric"),
    ("api.autoscaling.v2.PodsMetricSource", "metric"),
    ("api.autoscaling.v2.PodsMetricSource", "target"),
    ("api.autoscaling.v2.PodsMetricStatus", "current"),
    ("api.autoscaling.v2.PodsMetricStatus", "metric"),
    ("api.autoscaling.v2.ResourceMetricSource", "target"),
    ("api.autoscaling.v2.ResourceMetricStatus", "current"),
    ("api.batch.v1.CronJobSpec", "jobTemplate"),
    ("api.batch.v1.JobSpec", "template"),
    ("api.core.v1.Binding", "target"),
    ("api.core.v1.Container", "resources"),
    ("api.core.v1.ContainerStatus", "lastState"),
    ("api.core.v1.ContainerStatus", "state"),
    ("api.core.v1.EphemeralContainer", "resources"),
    ("api.core.v1.Event", "involvedObject"),
    ("api.core.v1.Event", "source"),
    ("api.core.v1.NodeDaemonEndpoints", "kubeletEndpoint"),
    ("api.core.v1.NodeStatus", "daemonEndpoints"),
    ("api.core.v1.NodeStatus", "nodeInfo"),
    ("api.core.v1.PersistentVolumeClaimSpec", "resources"),
    ("api.core.v1.PodResourceClaim", "source"),
    ("api.core.v1.PreferredSchedulingTerm", "preference"),
    ("api.core.v1.ServiceStatus", "loadBalancer"),
    ("api.core.v1.WeightedPodAffinityTerm", "podAffinityTerm"),
    ("api.discovery.v1.Endpoint", "conditions"),
    ("api.events.v1.Event", "deprecatedSource"),
    ("api.events.v1.Event", "regarding"),
    ("api.networking.v1.HTTPIngressPath", "backend"),
    ("api.networking.v1.IngressServiceBackend", "port"),
    ("api.networking.v1.IngressStatus", "loadBalancer"),
    ("api.networking.v1.NetworkPolicySpec", "podSelector"),
    ("api.rbac.v1.ClusterRoleBinding", "roleRef"),
    ("api.rbac.v1.RoleBinding", "roleRef"),
    ("api.storage.v1.VolumeAttachmentSpec", "source"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec",
        "names",
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "acceptedNames",
    ),
];

/// Types of `k8s-openapi` that are generic or wrap any JSON: they have no table of fields.
pub(super) const SPECIAL: &[(&str, &str)] = &[
    ("api.resource.Quantity", "quantity"),
    ("apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("apimachinery.pkg.apis.meta.v1.FieldsV1", "object"),
    (
        "apimachinery.pkg.apis.meta.v1.MicroTime",
        "string/date-time",
    ),
    ("apimachinery.pkg.apis.meta.v1.Patch", "object"),
    ("apimachinery.pkg.apis.meta.v1.Time", "string/date-time"),
    ("apimachinery.pkg.runtime.RawExtension", "object"),
    ("apimachinery.pkg.util.intstr.IntOrString", "int-or-string"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        "any",
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "any",
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "any",
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "any",
    ),
];

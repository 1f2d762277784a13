//! Resources: how they are served, by which names, in which order.

/// Where a resource differs from the rule: served with all verbs, singular name in lower case,
/// `status` where the type has that field, no short names, no categories.
#[derive(Default)]
pub(in crate::codegen) struct ResourceFacts {
    pub(in crate::codegen) group: &'static str,
    pub(in crate::codegen) resource: &'static str,
    pub(in crate::codegen) short_names: &'static [&'static str],
    pub(in crate::codegen) categories: &'static [&'static str],
    /// Empty for all.
    pub(in crate::codegen) verbs: &'static [&'static str],
    /// Beside `status`.
    pub(in crate::codegen) subresources: &'static [Subresource],
    /// Group and version under which the objects are stored, if not their own.
    pub(in crate::codegen) storage: Option<(&'static str, &'static str)>,
}

/// Name, group and version of its kind (empty where they are the parent's), kind, verbs.
pub(in crate::codegen) type Subresource = (
    &'static str,
    (&'static str, &'static str),
    &'static str,
    &'static [&'static str],
);

pub(in crate::codegen) const ALL_VERBS: &[&str] = &[
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
pub(in crate::codegen) const RESOURCES: &[ResourceFacts] = &[
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
pub(in crate::codegen) const SUBRESOURCE_KINDS: &[(&str, &str)] = &[
    ("autoscaling", "Scale"),
    ("authentication.k8s.io", "TokenRequest"),
    ("policy", "Eviction"),
];

/// The order of the groups in discovery: the priorities in
/// `cmd/kube-apiserver/app/aggregator.go`, `apiregistration.k8s.io` first.
pub(in crate::codegen) const GROUPS: &[&str] = &[
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

//! What policies and webhooks know of requests and namespaces: the types that upstream declares for them
//! (apiserver's `pkg/admission/plugin/cel/compile.go`).

use std::sync::{Arc, LazyLock};

use super::types::{Fields, Type};

/// The type of `authorizer`, and of `authorizer.requestResource`.
pub(super) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(super) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";

type Made = Type<'static>;

pub(super) fn fields<const N: usize>(name: &'static str, all: [(&str, Made); N]) -> Made {
    let all = all.map(|(name, ty)| (name.to_owned(), ty));
    Type::Fields(Arc::new(Fields {
        all: all.into(),
        ..Fields::new(name)
    }))
}

fn texts() -> Made {
    Type::list(Type::String)
}

/// The type of `request`.
pub(super) static REQUEST: LazyLock<Made> = LazyLock::new(|| {
    let parts = |name, last| {
        let text = |name| (name, Type::String);
        fields(name, [text("group"), text("version"), text(last)])
    };
    let kind = parts("kubernetes.GroupVersionKind", "kind");
    let resource = parts("kubernetes.GroupVersionResource", "resource");
    let user = [
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", texts()),
        ("extra", Type::map(Type::String, texts())),
    ];
    let all = [
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Type::String),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", fields("kubernetes.UserInfo", user)),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ];
    fields("kubernetes.AdmissionRequest", all)
});

/// The type of `request` where a webhook authorizes (apiserver's `pkg/authorization/cel/compile.go`).
pub(super) static ACCESS_REVIEW: LazyLock<Made> = LazyLock::new(|| {
    let text = |name| (name, Type::String);
    let selector = |name, requirement| {
        let all = [text("key"), text("operator"), ("values", texts())];
        let requirements = Type::list(fields(requirement, all));
        let all = [text("rawSelector"), ("requirements", requirements)];
        fields(name, all)
    };
    let resource = [
        text("namespace"),
        text("verb"),
        text("group"),
        text("version"),
        text("resource"),
        text("subresource"),
        text("name"),
        (
            "fieldSelector",
            selector(
                "kubernetes.FieldSelectorAttributes",
                "kubernetes.FieldSelectorRequirement",
            ),
        ),
        (
            "labelSelector",
            selector(
                "kubernetes.LabelSelectorAttributes",
                "kubernetes.LabelSelectorRequirement",
            ),
        ),
    ];
    let path = [text("path"), text("verb")];
    let all = [
        (
            "resourceAttributes",
            fields("kubernetes.ResourceAttributes", resource),
        ),
        (
            "nonResourceAttributes",
            fields("kubernetes.NonResourceAttributes", path),
        ),
        text("user"),
        ("groups", texts()),
        ("extra", Type::map(Type::String, texts())),
        text("uid"),
    ];
    fields("kubernetes.SubjectAccessReviewSpec", all)
});

/// The type of `namespaceObject`: not all that a namespace has.
pub(super) static NAMESPACE: LazyLock<Made> = LazyLock::new(|| {
    let labels = Type::map(Type::String, Type::String);
    let metadata = [
        ("name", Type::String),
        ("generateName", Type::String),
        ("namespace", Type::String),
        ("labels", labels.clone()),
        ("annotations", labels),
        // So does upstream spell it.
        ("UID", Type::String),
        ("creationTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("deletionTimestamp", Type::Timestamp),
        ("generation", Type::Int),
        ("resourceVersion", Type::String),
        ("finalizers", texts()),
    ];
    let condition = [
        ("status", Type::String),
        ("type", Type::String),
        ("lastTransitionTime", Type::Timestamp),
        ("message", Type::String),
        ("reason", Type::String),
    ];
    let conditions = Type::list(fields("kubernetes.NamespaceCondition", condition));
    let status = [("conditions", conditions), ("phase", Type::String)];
    let spec = [("finalizers", texts())];
    let all = [
        ("metadata", fields("kubernetes.NamespaceMetadata", metadata)),
        ("spec", fields("kubernetes.NamespaceSpec", spec)),
        ("status", fields("kubernetes.NamespaceStatus", status)),
    ];
    fields("kubernetes.Namespace", all)
});

/// What makes a step of a patch.
pub(super) static STEP: LazyLock<Made> = LazyLock::new(|| {
    let all = [
        ("op", Type::String),
        ("path", Type::String),
        ("from", Type::String),
        ("value", Type::Dyn),
    ];
    fields("JSONPatch", all)
});

/// What makes an object, or a part of one: it may have any fields.
pub(super) fn object(name: &str) -> Made {
    Type::Fields(Arc::new(Fields {
        is_open: true,
        ..Fields::new(name.to_owned())
    }))
}

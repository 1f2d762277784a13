//! Groups of the Kubernetes community need its approval (KEP-1111).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::field::{self, ErrorList, Path};

const ANNOTATION: &str = "api-approved.kubernetes.io";

const MISSING: &str = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
const INVALID: &str = "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111";

enum State {
    Missing,
    Invalid(String),
    Approved(String),
    /// Somebody says that there is no approval.
    Bypassed(String),
}

fn is_protected(group: &str) -> bool {
    group == "k8s.io"
        || group.ends_with(".k8s.io")
        || group == "kubernetes.io"
        || group.ends_with(".kubernetes.io")
}

fn state(definition: &CustomResourceDefinition) -> State {
    let annotations = definition.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(ANNOTATION));
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return State::Missing;
    };
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.split('/').next().unwrap_or("").is_empty()
    });
    if text.starts_with("unapproved") {
        State::Bypassed(text.clone())
    } else if is_url {
        State::Approved(text.clone())
    } else {
        State::Invalid(text.clone())
    }
}

/// Whether a definition has the approval that its group needs, with the reason and message of the condition that says so.
/// `None` for groups that need none.
pub(crate) fn approval_state(
    definition: &CustomResourceDefinition,
) -> Option<(bool, &'static str, String)> {
    if !is_protected(&definition.spec.group) {
        return None;
    }
    Some(match state(definition) {
        State::Missing => (false, "MissingAnnotation", MISSING.to_owned()),
        State::Invalid(_) => (false, "InvalidAnnotation", INVALID.to_owned()),
        State::Approved(text) => (true, "ApprovedAnnotation", format!("approved in {text}")),
        State::Bypassed(text) => (
            false,
            "UnapprovedAnnotation",
            format!("not approved: {text:?}"),
        ),
    })
}

pub(super) fn validate(
    new: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) -> ErrorList {
    if !is_protected(&new.spec.group) {
        return ErrorList::new();
    }
    let now = state(new);
    let same =
        old.is_some_and(|old| std::mem::discriminant(&state(old)) == std::mem::discriminant(&now));
    if same {
        return ErrorList::new();
    }
    let path = Path::new("metadata").child("annotations").key(ANNOTATION);
    match now {
        State::Approved(_) | State::Bypassed(_) => ErrorList::new(),
        State::Missing => vec![field::required(path, MISSING)],
        State::Invalid(text) => vec![field::invalid(path, text.as_str(), INVALID)],
    }
}

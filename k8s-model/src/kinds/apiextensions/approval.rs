//! Groups of the Kubernetes community need its approval (KEP-1111).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::field::{self, ErrorList, Path};

const ANNOTATION: &str = "api-approved.kubernetes.io";

#[derive(PartialEq, Eq)]
enum State {
    Missing,
    Invalid(String),
    Approved,
}

fn is_protected(group: &str) -> bool {
    group == "k8s.io"
        || group.ends_with(".k8s.io")
        || group == "kubernetes.io"
        || group.ends_with(".kubernetes.io")
}

fn state(definition: &CustomResourceDefinition) -> State {
    let annotations = definition.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(ANNOTATION)) else {
        return State::Missing;
    };
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.split('/').next().unwrap_or("").is_empty()
    });
    if text.starts_with("unapproved") || is_url {
        State::Approved
    } else {
        State::Invalid(text.clone())
    }
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
        State::Approved => ErrorList::new(),
        State::Missing => vec![field::required(
            path,
            format!(
                "protected groups must have approval annotation {ANNOTATION:?}, see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        )],
        State::Invalid(text) => vec![field::invalid(
            path,
            text.as_str(),
            format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        )],
    }
}

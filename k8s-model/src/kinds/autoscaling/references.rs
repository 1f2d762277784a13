//! References to objects of any kind: what is scaled, and what is measured for it.

use k8s_openapi::api::autoscaling::{
    v1::CrossVersionObjectReference as V1, v2::CrossVersionObjectReference as V2,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{messages, text},
    names,
};

/// A reference of either version.
#[derive(Clone, Copy, Default)]
pub(super) struct Reference<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
}

impl<'a> From<&'a V1> for Reference<'a> {
    fn from(reference: &'a V1) -> Self {
        Reference {
            api_version: text(&reference.api_version),
            kind: &reference.kind,
            name: &reference.name,
        }
    }
}

impl<'a> From<&'a V2> for Reference<'a> {
    fn from(reference: &'a V2) -> Self {
        Reference {
            api_version: text(&reference.api_version),
            kind: &reference.kind,
            name: &reference.name,
        }
    }
}

/// What `apiVersion` a reference may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// One with a group.
    Grouped,
    /// One of the core group too, or none.
    WellFormed,
    /// Any text: it was there before there were rules for it.
    Any,
}

impl Versions {
    /// Those of what is scaled, where the old object scales something else or nothing. The core group has one kind that
    /// scales.
    pub(super) fn of_target(new: Reference<'_>, old: Option<Reference<'_>>) -> Self {
        let same = |old: Reference<'_>| (old.api_version, old.kind) == (new.api_version, new.kind);
        if old.is_some_and(same) {
            Versions::Any
        } else if new.kind == "ReplicationController" {
            Versions::WellFormed
        } else {
            Versions::Grouped
        }
    }

    /// Those of what is measured, where the old object measures such things.
    pub(super) fn of_measured<'a>(old: impl IntoIterator<Item = Reference<'a>>) -> Self {
        let mut old = old.into_iter();
        match old.any(|old| Versions::WellFormed.fault(old.api_version).is_some()) {
            true => Versions::Any,
            false => Versions::WellFormed,
        }
    }

    fn fault(self, api_version: &str) -> Option<String> {
        let group = match (api_version, api_version.split_once('/')) {
            ("" | "/", _) | (_, None) => "",
            (_, Some((group, version))) if !version.contains('/') => group,
            _ if self == Versions::Any => return None,
            _ => return Some(format!("unexpected GroupVersion string: {api_version}")),
        };
        let is_missing = self == Versions::Grouped && group.is_empty();
        is_missing.then(|| "apiVersion must specify API group".to_owned())
    }
}

/// Checks that a reference has a kind, a name and such a version.
pub(super) fn validate(reference: Reference<'_>, versions: Versions, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (value, name) in [(reference.kind, "kind"), (reference.name, "name")] {
        let path = path.child(name);
        if value.is_empty() {
            errors.push(field::required(path, ""));
        } else {
            errors.extend(messages(&path, value, names::path_segment(value, false)));
        }
    }
    let version = reference.api_version;
    let fault = versions.fault(version);
    errors.extend(fault.map(|text| field::invalid(path.child("apiVersion"), version, text)));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(api_version: &str, versions: Versions) -> Vec<String> {
        let reference = Reference {
            api_version,
            kind: "K",
            name: "n",
        };
        let errors = validate(reference, versions, &Path::new("r"));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_version_has_a_group_unless_it_need_not() {
        let told = |version: &str, text: &str| {
            [format!("r.apiVersion: Invalid value: {version:?}: {text}")]
        };
        for version in ["", "/", "v1", "/v1"] {
            let text = "apiVersion must specify API group";
            assert_eq!(found(version, Versions::Grouped), told(version, text));
            assert_eq!(found(version, Versions::WellFormed), [""; 0]);
        }
        for versions in [Versions::Grouped, Versions::WellFormed] {
            let text = "unexpected GroupVersion string: a/b/c";
            assert_eq!(found("a/b/c", versions), told("a/b/c", text));
            assert_eq!(found("a/b", versions), [""; 0]);
        }
        assert_eq!(found("a/b/c", Versions::Any), [""; 0]);
    }

    #[test]
    fn what_was_there_may_stay() {
        let of = |api_version, kind| Reference {
            api_version,
            kind,
            name: "",
        };
        let target = |new, old| Versions::of_target(new, old);
        let bad = of("v1", "Deployment");
        assert_eq!(target(bad, None), Versions::Grouped);
        assert_eq!(target(bad, Some(bad)), Versions::Any);
        assert_eq!(target(bad, Some(of("v1", "K"))), Versions::Grouped);
        let core = of("v1", "ReplicationController");
        assert_eq!(target(core, None), Versions::WellFormed);
        let measured = |version| Versions::of_measured([of("a/b", "K"), of(version, "K")]);
        assert_eq!(measured("v1"), Versions::WellFormed);
        assert_eq!(measured("a/b/c"), Versions::Any);
    }
}

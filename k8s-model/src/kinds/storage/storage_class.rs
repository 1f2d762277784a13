//! The rules of StorageClasses.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{core::v1::TopologySelectorTerm, storage::v1::StorageClass};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{fill_absent, list, one_of_or_empty, qualified_name, supported, text},
        declared::Declared,
        node_labels,
        typed::KindRules,
    },
};

/// How many parameters there may be.
const MOST_PARAMETERS: usize = 512;
/// How large all of them may be.
const LARGEST_PARAMETERS: usize = 256 * 1024;

/// The rules of StorageClasses.
pub(crate) struct StorageClassRules;

impl KindRules for StorageClassRules {
    type Kind = StorageClass;

    fn default(&self, class: &mut StorageClass) {
        fill_absent(&mut class.reclaim_policy, "Delete");
        fill_absent(&mut class.volume_binding_mode, "Immediate");
    }

    fn warnings(&self, class: &StorageClass) -> Vec<String> {
        let mut out = Vec::new();
        for (at, topology) in class.allowed_topologies.iter().flatten().enumerate() {
            let path = Path::new("allowedTopologies").index(at);
            let path = path.child("matchLabelExpressions");
            for (at, expression) in topology
                .match_label_expressions
                .iter()
                .flatten()
                .enumerate()
            {
                let path = path.index(at).child("key");
                out.extend(
                    node_labels::advice(&expression.key).map(|told| format!("{path}: {told}")),
                );
            }
        }
        out
    }

    fn validate(&self, class: &StorageClass) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("provisioner");
        if class.provisioner.is_empty() {
            errors.push(field::required(path, class.provisioner.as_str()));
        } else {
            errors.extend(qualified_name(&class.provisioner.to_lowercase(), path));
        }
        for key in class
            .parameters
            .iter()
            .flat_map(|parameters| parameters.keys())
        {
            if key.is_empty() {
                errors.push(field::invalid(
                    Path::new("parameters"),
                    key.as_str(),
                    "field can not be empty.",
                ));
            }
        }
        let parameters = class.parameters.iter().flatten();
        let size: usize = parameters.map(|(key, value)| key.len() + value.len()).sum();
        if class
            .parameters
            .as_ref()
            .is_some_and(|p| p.len() > MOST_PARAMETERS)
        {
            let path = Path::new("parameters");
            errors.push(field::too_long(path, MOST_PARAMETERS));
        } else if size > LARGEST_PARAMETERS {
            let path = Path::new("parameters");
            errors.push(field::too_long(path, LARGEST_PARAMETERS));
        }
        errors.extend(one_of_or_empty(
            text(&class.reclaim_policy),
            &["Delete", "Retain"],
            Path::new("reclaimPolicy"),
        ));
        errors.extend(supported(
            text(&class.volume_binding_mode),
            &["Immediate", "WaitForFirstConsumer"],
            Path::new("volumeBindingMode"),
        ));
        errors.extend(topologies(list(&class.allowed_topologies)));
        errors
    }

    fn declared(&self, new: &StorageClass, old: Option<&StorageClass>) -> ErrorList {
        let before = old.map(|old| &old.provisioner);
        let mut errors = Declared::of(&new.provisioner, before, Path::new("provisioner"))
            .required(String::is_empty)
            .immutable()
            .found();
        let before = old.map(|old| &old.parameters);
        let parameters = Declared::of(&new.parameters, before, Path::new("parameters"));
        errors.extend(parameters.immutable().found());
        let before = old.map(|old| &old.reclaim_policy);
        let policy = Declared::of(&new.reclaim_policy, before, Path::new("reclaimPolicy"));
        errors.extend(policy.immutable().found());
        let before = old.map(|old| &old.volume_binding_mode);
        let path = Path::new("volumeBindingMode");
        let mode = Declared::of(&new.volume_binding_mode, before, path);
        errors.extend(mode.immutable().found());
        errors
    }
}

/// Where volumes may be: each term says something else, and of each label only once.
fn topologies(terms: &[TopologySelectorTerm]) -> ErrorList {
    let mut errors = ErrorList::new();
    // Upstream compares with as many empty ones to begin with as there are terms.
    let mut before: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let path = Path::new("allowedTopologies")
            .index(index)
            .child("matchLabelExpressions");
        let mut said = BTreeMap::new();
        for (index, requirement) in list(&term.match_label_expressions).iter().enumerate() {
            let path = path.index(index);
            if requirement.values.is_empty() {
                errors.push(field::required(path.child("values"), ""));
            }
            let mut values = BTreeSet::new();
            for (index, value) in requirement.values.iter().enumerate() {
                if !values.insert(value.as_str()) {
                    let path = path.child("values").index(index);
                    errors.push(field::duplicate(path, value.as_str()));
                }
            }
            errors.extend(qualified_name(&requirement.key, path.child("key")));
            if said.insert(requirement.key.as_str(), values).is_some() {
                let key = requirement.key.as_str();
                errors.push(field::duplicate(path.child("key"), key));
            }
        }
        let times = before.iter().filter(|other| **other == said).count();
        for _ in 0..times {
            errors.push(field::duplicate(path.clone(), ""));
        }
        before.push(said);
    }
    errors
}

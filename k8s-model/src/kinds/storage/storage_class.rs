//! The rules of StorageClasses.

use k8s_openapi::api::storage::v1::StorageClass;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{fill, qualified_name, same, supported, text},
        typed::KindRules,
    },
};

/// The rules of StorageClasses.
pub(crate) struct StorageClassRules;

impl KindRules for StorageClassRules {
    type Kind = StorageClass;

    fn default(&self, class: &mut StorageClass) {
        fill(&mut class.reclaim_policy, "Delete");
        fill(&mut class.volume_binding_mode, "Immediate");
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
                    "field must not be empty.",
                ));
            }
        }
        errors.extend(supported(
            text(&class.reclaim_policy),
            &["Delete", "Retain"],
            Path::new("reclaimPolicy"),
        ));
        errors.extend(supported(
            text(&class.volume_binding_mode),
            &["Immediate", "WaitForFirstConsumer"],
            Path::new("volumeBindingMode"),
        ));
        errors
    }

    fn validate_update(&self, new: &StorageClass, old: &StorageClass) -> ErrorList {
        let mut errors = ErrorList::new();
        for (same, name) in [
            (same(&new.parameters, &old.parameters), "parameters"),
            (new.provisioner == old.provisioner, "provisioner"),
            (
                same(&new.reclaim_policy, &old.reclaim_policy),
                "reclaimPolicy",
            ),
        ] {
            if !same {
                errors.push(field::forbidden(
                    Path::new(name),
                    format!("updates to {name} are forbidden."),
                ));
            }
        }
        if !same(&new.volume_binding_mode, &old.volume_binding_mode) {
            errors.push(field::invalid(
                Path::new("volumeBindingMode"),
                text(&new.volume_binding_mode),
                "field is immutable",
            ));
        }
        errors
    }
}

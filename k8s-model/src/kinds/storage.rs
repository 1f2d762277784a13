//! The group `storage.k8s.io`: StorageClasses and CSIDrivers.

use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};

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

/// The rules of CSIDrivers.
pub(crate) struct CsiDriverRules;

impl KindRules for CsiDriverRules {
    type Kind = CSIDriver;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        fill(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
        if spec
            .volume_lifecycle_modes
            .as_ref()
            .is_none_or(Vec::is_empty)
        {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn spec_changed(&self, new: &CSIDriver, old: &CSIDriver) -> bool {
        !same(&new.spec, &old.spec)
    }
}

//! The rules of PersistentVolumeClaims.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, dns_subdomain, fill, label_selector, list, same, supported, text},
        quantities,
        typed::KindRules,
    },
};

/// The ways in which a volume can be mounted.
pub(crate) const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// Defaults a claim's spec, or that of a template.
pub(crate) fn default_spec(spec: &mut PersistentVolumeClaimSpec) {
    fill(&mut spec.volume_mode, "Filesystem");
    let resources = spec.resources.get_or_insert_default();
    quantities::normalize(&mut resources.limits);
    quantities::normalize(&mut resources.requests);
}

/// Checks a claim's spec, or that of a template.
pub(crate) fn validate_spec(spec: &PersistentVolumeClaimSpec, path: &Path) -> ErrorList {
    let mut errors = access_modes(list(&spec.access_modes), &path.child("accessModes"));
    if let Some(selector) = &spec.selector {
        errors.extend(label_selector(selector, &path.child("selector")));
    }
    let resources = path.child("resources");
    let storage = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
        .and_then(|requests| requests.get("storage"));
    match storage {
        None => errors.push(field::required(
            resources.child("requests").key("storage"),
            "",
        )),
        Some(quantity) => {
            let path = resources.child("requests").key("storage");
            errors.extend(quantities::positive(quantity, path));
        }
    }
    if let Some(class) = &spec.storage_class_name
        && !class.is_empty()
    {
        errors.extend(dns_subdomain(class, path.child("storageClassName")));
    }
    if let Some(mode) = &spec.volume_mode {
        errors.extend(supported(
            mode,
            &["Block", "Filesystem"],
            path.child("volumeMode"),
        ));
    }
    errors
}

/// At least one access mode, each known, the exclusive one alone.
pub(crate) fn access_modes(modes: &[String], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if modes.is_empty() {
        errors.push(field::required(
            path.clone(),
            "at least 1 access mode is required",
        ));
    }
    for mode in modes {
        errors.extend(supported(mode, ACCESS_MODES, path.clone()));
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.push(field::forbidden(
            path.clone(),
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
    errors
}

/// The rules of PersistentVolumeClaims.
pub(crate) struct PersistentVolumeClaimRules;

impl KindRules for PersistentVolumeClaimRules {
    type Kind = PersistentVolumeClaim;

    const CREATE_ON_UPDATE: bool = false;

    fn default(&self, claim: &mut PersistentVolumeClaim) {
        default_spec(claim.spec.get_or_insert_default());
        fill(&mut claim.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_for_create(&self, claim: &mut PersistentVolumeClaim) {
        claim.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
    }

    fn validate(&self, claim: &PersistentVolumeClaim) -> ErrorList {
        let empty = PersistentVolumeClaimSpec::default();
        validate_spec(claim.spec.as_ref().unwrap_or(&empty), &Path::new("spec"))
    }

    fn prepare_for_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(
        &self,
        new: &PersistentVolumeClaim,
        old: &PersistentVolumeClaim,
    ) -> ErrorList {
        let mut errors = self.validate(new);
        let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else {
            return errors;
        };
        let path = Path::new("spec");
        let bound = text(&old.status.clone().unwrap_or_default().phase) == "Bound";
        let mut copy = new_spec.clone();
        if blank(&old_spec.volume_name) {
            copy.volume_name.clone_from(&old_spec.volume_name);
        }
        if old_spec.storage_class_name.is_none() {
            copy.storage_class_name
                .clone_from(&old_spec.storage_class_name);
        }
        let size = |spec: &PersistentVolumeClaimSpec| {
            let requests = spec.resources.as_ref().and_then(|r| r.requests.clone());
            quantities::amount(requests.as_ref(), "storage")
        };
        if bound {
            if size(new_spec) < size(old_spec) {
                errors.push(field::forbidden(
                    path.child("resources").child("requests").child("storage"),
                    "field can not be less than status.capacity",
                ));
            }
            copy.resources.clone_from(&old_spec.resources);
        }
        copy.volume_attributes_class_name
            .clone_from(&old_spec.volume_attributes_class_name);
        if !same(&copy, old_spec) {
            errors.push(field::forbidden(
                path,
                "spec is immutable after creation except resources.requests and \
                 volumeAttributesClassName for bound claims",
            ));
        }
        errors
    }

    fn prepare_for_status_update(
        &self,
        new: &mut PersistentVolumeClaim,
        old: &PersistentVolumeClaim,
    ) {
        new.spec.clone_from(&old.spec);
    }
}

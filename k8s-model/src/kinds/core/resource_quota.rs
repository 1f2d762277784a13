//! The rules of ResourceQuotas.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{IMMUTABLE, list, supported},
        quantities::{self, ResourceList},
        typed::KindRules,
    },
};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// The rules of ResourceQuotas.
pub(crate) struct ResourceQuotaRules;

fn amounts(amounts: &Option<ResourceList>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, quantity) in amounts.iter().flatten() {
        let path = path.key(name);
        errors.extend(quantities::resource_name(name, &path));
        if !name.contains('/') && !quantities::is_standard_for_quota(name) {
            errors.push(field::invalid(
                path.clone(),
                name.as_str(),
                "must be a standard resource for quota",
            ));
        }
        errors.extend(quantities::resource_value(name, quantity, path));
    }
    errors
}

fn status(status: &Option<ResourceQuotaStatus>) -> ErrorList {
    let path = Path::new("status");
    let status = status.clone().unwrap_or_default();
    let mut errors = amounts(&status.hard, &path.child("hard"));
    errors.extend(amounts(&status.used, &path.child("used")));
    errors
}

impl KindRules for ResourceQuotaRules {
    type Kind = ResourceQuota;

    fn default(&self, quota: &mut ResourceQuota) {
        if let Some(spec) = &mut quota.spec {
            quantities::normalize(&mut spec.hard);
        }
        if let Some(status) = &mut quota.status {
            quantities::normalize(&mut status.hard);
            quantities::normalize(&mut status.used);
        }
    }

    fn prepare_for_create(&self, quota: &mut ResourceQuota) {
        quota.status = Some(ResourceQuotaStatus::default());
    }

    fn validate(&self, quota: &ResourceQuota) -> ErrorList {
        let path = Path::new("spec");
        let spec = quota.spec.clone().unwrap_or_default();
        let mut errors = amounts(&spec.hard, &path.child("hard"));
        let scopes = list(&spec.scopes);
        let mut seen = BTreeSet::new();
        for (index, scope) in scopes.iter().enumerate() {
            let path = path.child("scopes").index(index);
            if SCOPES.contains(&scope.as_str()) {
                if !seen.insert(scope.as_str()) {
                    errors.push(field::duplicate(path, scope.as_str()));
                }
            } else {
                errors.extend(supported(scope, SCOPES, path));
            }
        }
        for [one, other] in [
            ["BestEffort", "NotBestEffort"],
            ["Terminating", "NotTerminating"],
        ] {
            if seen.contains(one) && seen.contains(other) {
                errors.push(field::invalid(
                    path.child("scopes"),
                    scopes.to_vec(),
                    "conflicting scopes",
                ));
            }
        }
        errors.extend(status(&quota.status));
        errors
    }

    fn prepare_for_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota) -> ErrorList {
        let mut errors = self.validate(new);
        let scopes = |quota: &ResourceQuota| -> BTreeSet<String> {
            let spec = quota.spec.as_ref();
            spec.map(|spec| list(&spec.scopes).iter().cloned().collect())
                .unwrap_or_default()
        };
        if scopes(new) != scopes(old) {
            errors.push(field::invalid(
                Path::new("spec").child("scopes"),
                scopes(new).into_iter().collect::<Vec<_>>(),
                IMMUTABLE,
            ));
        }
        errors
    }

    fn prepare_for_status_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &ResourceQuota, _old: &ResourceQuota) -> ErrorList {
        status(&new.status)
    }
}

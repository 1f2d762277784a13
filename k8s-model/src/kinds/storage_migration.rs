//! The group `storagemigration.k8s.io`: StorageVersionMigrations (KEP-4192).

use k8s_openapi::api::storagemigration::v1::{
    StorageVersionMigration, StorageVersionMigrationStatus,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{conditions, immutable, list, text},
        typed::KindRules,
    },
    metadata, names,
};

/// The rules of StorageVersionMigrations.
pub(crate) struct StorageVersionMigrationRules;

/// Whether a condition of this type is true.
fn is(status: Option<&StorageVersionMigrationStatus>, sort: &str) -> bool {
    let conditions = status.map(|status| list(&status.conditions));
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == sort && condition.status == "True")
}

impl KindRules for StorageVersionMigrationRules {
    type Kind = StorageVersionMigration;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn spec_changed(&self, new: &Self::Kind, old: &Self::Kind) -> bool {
        new.spec != old.spec
    }

    fn prepare_for_create(&self, migration: &mut Self::Kind) {
        migration.status = None;
    }

    fn validate(&self, migration: &Self::Kind) -> ErrorList {
        let path = Path::new("spec").child("resource");
        let spec = migration.spec.as_ref();
        let (resource, group) = spec.map_or(("", ""), |spec| {
            (&spec.resource.resource, &spec.resource.group)
        });
        let at = path.child("resource");
        let mut errors = ErrorList::new();
        // All that is wrong with a name is one finding here.
        let mut wrong = |at: Path, name: &str, texts: Vec<String>| {
            if !texts.is_empty() {
                errors.push(field::invalid(at, name, texts.join(",")));
            }
        };
        match resource {
            "" => return vec![field::required(at, "resource is required to be set")],
            _ => wrong(at, resource, names::dns1035(resource, false)),
        }
        if !group.is_empty() {
            wrong(path.child("group"), group, names::dns_subdomain(group, false));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut Self::Kind, old: &Self::Kind) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Self::Kind, old: &Self::Kind) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(immutable(&new.spec, &old.spec, Path::new("spec")));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut Self::Kind, old: &Self::Kind) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(&self, new: &Self::Kind, old: &Self::Kind) -> ErrorList {
        let path = Path::new("status");
        let (new, old) = (new.status.as_ref(), old.status.as_ref());
        let mut errors = ErrorList::new();
        let revision = |status: Option<&StorageVersionMigrationStatus>| {
            status
                .map(|status| text(&status.resource_version).to_owned())
                .unwrap_or_default()
        };
        let (now, before) = (revision(new), revision(old));
        let said = path.child("conditions");
        if let Some(status) = new {
            errors.extend(conditions(list(&status.conditions), &said));
        }
        if !before.is_empty() {
            errors.extend(immutable(&now, &before, path.child("resourceVersion")));
        }
        let mut wrong = |is_wrong: bool, why: &str| {
            if is_wrong {
                let conditions = new.map(|status| list(&status.conditions).to_vec());
                let value = serde_json::to_value(conditions.unwrap_or_default());
                errors.push(field::invalid(said.clone(), value.unwrap_or_default(), why));
            }
        };
        let (running, succeeded, failed) =
            (is(new, "Running"), is(new, "Succeeded"), is(new, "Failed"));
        wrong(
            succeeded && failed,
            "Both success and failed conditions cannot be true at the same time",
        );
        wrong(
            succeeded && running,
            "Running condition cannot be true when success condition is true",
        );
        wrong(
            failed && running,
            "Running condition cannot be true when failed condition is true",
        );
        wrong(
            is(old, "Succeeded") && !succeeded,
            "Success condition cannot be set to false once it is true",
        );
        wrong(
            is(old, "Failed") && !failed,
            "Failed condition cannot be set to false once it is true",
        );
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn migration(revision: &str, conditions: &[(&str, &str)]) -> StorageVersionMigration {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(sort, status)| {
                json!({"type": sort, "status": status, "reason": "R", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "m"},
            "spec": {"resource": {"group": "", "resource": "secrets"}},
            "status": {"resourceVersion": revision, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_migrated_is_named_and_stays() {
        let rules = StorageVersionMigrationRules;
        let old = migration("", &[]);
        assert_eq!(rules.validate(&old), []);
        let mut new = old.clone();
        new.spec.as_mut().unwrap().resource.resource = "pods".into();
        let errors = rules.validate_update(&new, &old);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field.to_string(), "spec");
        new.spec.as_mut().unwrap().resource.resource = "Pods/x".into();
        new.spec.as_mut().unwrap().resource.group = "-".into();
        let errors = rules.validate(&new);
        let fields: Vec<String> = errors.iter().map(|e| e.field.to_string()).collect();
        assert_eq!(fields, ["spec.resource.resource", "spec.resource.group"]);
        new.spec.as_mut().unwrap().resource.resource.clear();
        let error = &rules.validate(&new)[0];
        assert_eq!(
            error.to_string(),
            "spec.resource.resource: Required value: resource is required to be set"
        );
    }

    #[test]
    fn a_status_brings_no_labels() {
        let old = migration("", &[]);
        let mut new = old.clone();
        new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        StorageVersionMigrationRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn an_end_is_one_end_and_for_good() {
        let rules = StorageVersionMigrationRules;
        let count = |old: &StorageVersionMigration, new: &StorageVersionMigration| {
            rules.validate_status_update(new, old).len()
        };
        let running = migration("7", &[("Running", "True")]);
        let done = migration("7", &[("Running", "False"), ("Succeeded", "True")]);
        let failed = migration("7", &[("Running", "False"), ("Failed", "True")]);
        assert_eq!(count(&running, &done), 0);
        assert_eq!(count(&running, &failed), 0);
        assert_eq!(count(&done, &running), 1);
        assert_eq!(count(&done, &failed), 1);
        assert_eq!(count(&running, &migration("8", &[("Running", "True")])), 1);
        let all = [
            ("Running", "True"),
            ("Succeeded", "True"),
            ("Failed", "True"),
        ];
        assert_eq!(count(&running, &migration("7", &all)), 3);
    }
}

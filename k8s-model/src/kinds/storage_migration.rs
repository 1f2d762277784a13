//! The group `storagemigration.k8s.io`.

use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;

use super::{checks::immutable, typed::KindRules};
use crate::field::{self, ErrorList, Path};

/// The rules of StorageVersionMigrations.
pub(crate) struct StorageVersionMigrationRules;

impl KindRules for StorageVersionMigrationRules {
    type Kind = StorageVersionMigration;

    fn prepare_for_create(&self, migration: &mut StorageVersionMigration) {
        migration.status = None;
    }

    fn validate(&self, migration: &StorageVersionMigration) -> ErrorList {
        let resource = migration
            .spec
            .as_ref()
            .map(|spec| spec.resource.resource.as_str());
        if resource.is_none_or(str::is_empty) {
            let path = Path::new("spec").child("resource").child("resource");
            return vec![field::required(path, "resource is required")];
        }
        ErrorList::new()
    }

    fn prepare_for_update(&self, new: &mut StorageVersionMigration, old: &StorageVersionMigration) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(
        &self,
        new: &StorageVersionMigration,
        old: &StorageVersionMigration,
    ) -> ErrorList {
        immutable(&new.spec, &old.spec, Path::new("spec"))
    }

    fn prepare_for_status_update(
        &self,
        new: &mut StorageVersionMigration,
        old: &StorageVersionMigration,
    ) {
        new.spec.clone_from(&old.spec);
    }
}

//! What is next for a migration, and what its status says: the pure core.

use k8s_openapi::{
    api::storagemigration::v1::{StorageVersionMigration, StorageVersionMigrationStatus},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has come to an end.
    Nothing,
    /// Nobody has seen it yet.
    Start,
    /// The objects are to be written.
    Run,
}

fn is_true(status: &StorageVersionMigrationStatus, sort: &str) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions
        .into_iter()
        .any(|c| c.type_ == sort && c.status == "True")
}

pub(super) fn next(migration: &StorageVersionMigration) -> Step {
    let Some(status) = &migration.status else {
        return Step::Start;
    };
    if is_true(status, SUCCEEDED) || is_true(status, FAILED) {
        return Step::Nothing;
    }
    match status.resource_version.as_deref() {
        None | Some("") => Step::Start,
        Some(_) => Step::Run,
    }
}

fn set(
    migration: &mut StorageVersionMigration,
    sort: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let generation = migration.metadata.generation;
    let conditions = &mut migration.status.get_or_insert_default().conditions;
    let conditions = conditions.get_or_insert_default();
    let same = conditions
        .iter()
        .find(|c| c.type_ == sort && c.status == status);
    let since = same.map_or(Time(now), |c| c.last_transition_time.clone());
    conditions.retain(|c| c.type_ != sort);
    conditions.push(Condition {
        type_: sort.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: generation,
    });
}

/// It runs, from this revision.
pub(super) fn note_start(migration: &mut StorageVersionMigration, revision: &str, now: Timestamp) {
    migration.status.get_or_insert_default().resource_version = Some(revision.to_owned());
    set(
        migration,
        RUNNING,
        "True",
        "StorageVersionMigrationInProgress",
        "",
        now,
    );
}

/// It is over, well or for this reason.
pub(super) fn note_end(
    migration: &mut StorageVersionMigration,
    failure: Option<&str>,
    now: Timestamp,
) {
    set(
        migration,
        RUNNING,
        "False",
        "StorageVersionMigrationInProgress",
        "",
        now,
    );
    match failure {
        None => set(
            migration,
            SUCCEEDED,
            "True",
            "StorageVersionMigrationSucceeded",
            "",
            now,
        ),
        Some(why) => set(
            migration,
            FAILED,
            "True",
            "StorageVersionMigrationFailed",
            why,
            now,
        ),
    }
}

/// Leaves the storage version alone among the stored ones. Whether that changes anything.
pub(super) fn only_stored(definition: &mut CustomResourceDefinition) -> bool {
    let Some(version) = definition.spec.versions.iter().find(|v| v.storage) else {
        return false;
    };
    let stored = Some(vec![version.name.clone()]);
    let status = definition.status.get_or_insert_default();
    if status.stored_versions == stored {
        return false;
    }
    status.stored_versions = stored;
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_migration_starts_runs_and_ends_once() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut migration: StorageVersionMigration = serde_json::from_value(json!({
            "metadata": {"name": "m", "generation": 1},
            "spec": {"resource": {"resource": "secrets"}},
        }))
        .unwrap();
        assert_eq!(next(&migration), Step::Start);
        note_start(&mut migration, "7", now);
        assert_eq!(next(&migration), Step::Run);
        let mut failed = migration.clone();
        note_end(&mut migration, None, now);
        assert_eq!(next(&migration), Step::Nothing);
        note_end(&mut failed, Some("no"), now);
        assert_eq!(next(&failed), Step::Nothing);
        let said = |migration: StorageVersionMigration| -> Vec<String> {
            let conditions = migration.status.unwrap().conditions.unwrap();
            let text =
                |c: Condition| format!("{}={} {} {}", c.type_, c.status, c.reason, c.message);
            conditions.into_iter().map(text).collect()
        };
        assert_eq!(
            said(migration),
            [
                "Running=False StorageVersionMigrationInProgress ",
                "Succeeded=True StorageVersionMigrationSucceeded ",
            ]
        );
        assert_eq!(
            said(failed)[1],
            "Failed=True StorageVersionMigrationFailed no"
        );
    }

    #[test]
    fn a_definition_forgets_the_versions_in_which_nothing_is_stored() {
        let version =
            |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage});
        let mut definition: CustomResourceDefinition = serde_json::from_value(json!({
            "metadata": {"name": "as.b.c"},
            "spec": {"group": "b.c", "scope": "Cluster", "names": {"kind": "A", "plural": "as"},
                "versions": [version("v1", false), version("v2", true)]},
            "status": {"storedVersions": ["v1", "v2"]},
        }))
        .unwrap();
        assert!(only_stored(&mut definition));
        assert_eq!(
            definition.status.as_ref().unwrap().stored_versions,
            Some(vec!["v2".into()])
        );
        assert!(!only_stored(&mut definition));
    }
}

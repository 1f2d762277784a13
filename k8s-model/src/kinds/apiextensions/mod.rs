//! The rules of `apiextensions.k8s.io`: custom resource definitions.
//!
//! As upstream's `apiextensions-apiserver/pkg/apis/apiextensions/validation` and
//! `registry/customresourcedefinition`.

mod approval;
mod conversion;
mod defaults;
mod expressions;
mod schema;
mod spec;
mod structure;
mod subresources;
mod warnings;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionStatus,
};

pub(crate) use self::{
    approval::approval_state,
    conversion::{ca_fault, webhook_service, webhook_url},
};
use super::typed::KindRules;
use crate::{
    custom,
    field::{self, ErrorList, Path},
    kinds::checks,
    metadata,
};

/// The rules of a custom resource definition.
#[derive(Debug)]
pub(crate) struct CustomResourceDefinitionRules;

impl KindRules for CustomResourceDefinitionRules {
    type Kind = CustomResourceDefinition;

    const METADATA: (usize, usize) = (0, 1);

    const QUALIFIED_FINALIZERS: bool = false;
    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, definition: &mut CustomResourceDefinition) {
        defaults::fill(definition);
    }

    fn spec_changed(&self, new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> bool {
        new.spec != old.spec
    }

    fn prepare_for_create(&self, definition: &mut CustomResourceDefinition) {
        definition.status = None;
        store_storage_version(definition);
    }

    fn validate_new_name(
        &self,
        definition: &CustomResourceDefinition,
        name: &str,
        prefix: bool,
    ) -> Vec<String> {
        let spec = &definition.spec;
        let mut out = self.validate_name(name, prefix);
        if name != format!("{}.{}", spec.names.plural, spec.group) {
            out.push(r#"must be spec.names.plural+"."+spec.group"#.to_owned());
        }
        out
    }

    fn validate(&self, definition: &CustomResourceDefinition) -> ErrorList {
        let spec = &definition.spec;
        let mut out = spec::validate(spec, None, true);
        out.extend(status(definition));
        out.extend(approval::validate(definition, None));
        out
    }

    fn prepare_for_update(
        &self,
        new: &mut CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) {
        new.status.clone_from(&old.status);
        store_storage_version(new);
    }

    fn validate_update(
        &self,
        new: &CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) -> ErrorList {
        let mut out = spec::validate(&new.spec, Some(&old.spec), !custom::is_established(old));
        let path = Path::new("spec");
        let (spec, before) = (&new.spec, &old.spec);
        let names = path.child("names");
        if custom::is_established(old) {
            out.extend(checks::immutable(
                &spec.scope,
                &before.scope,
                path.child("scope"),
            ));
            out.extend(checks::immutable(
                &spec.names.kind,
                &before.names.kind,
                names.child("kind"),
            ));
        }
        out.extend(checks::immutable(
            &spec.group,
            &before.group,
            path.child("group"),
        ));
        out.extend(checks::immutable(
            &spec.names.plural,
            &before.names.plural,
            names.child("plural"),
        ));
        out.extend(status(new));
        out.extend(approval::validate(new, Some(old)));
        out
    }

    fn warnings(&self, definition: &CustomResourceDefinition) -> Vec<String> {
        warnings::of(&definition.spec)
    }

    fn update_warnings(
        &self,
        new: &CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) -> Vec<String> {
        let known = warnings::of(&old.spec);
        let mut found = warnings::of(&new.spec);
        found.retain(|warning| !known.contains(warning));
        found
    }

    fn prepare_for_status_update(
        &self,
        new: &mut CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) {
        // Upstream means to keep the metadata, and takes it from the new definition.
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(
        &self,
        new: &CustomResourceDefinition,
        _old: &CustomResourceDefinition,
    ) -> ErrorList {
        let mut out = metadata::validate(
            &new.metadata,
            false,
            &crate::names::dns_subdomain,
            &Path::new("metadata"),
        );
        if let Some(status) = &new.status {
            out.extend(accepted_names(status));
        }
        out
    }
}

/// Says that objects may be stored in the storage version from now on.
fn store_storage_version(definition: &mut CustomResourceDefinition) {
    let storage = definition
        .spec
        .versions
        .iter()
        .find(|version| version.storage);
    let Some(storage) = storage.map(|version| version.name.clone()) else {
        return;
    };
    let stored = definition
        .status
        .get_or_insert_default()
        .stored_versions
        .get_or_insert_default();
    if !stored.contains(&storage) {
        stored.push(storage);
    }
}

fn status(definition: &CustomResourceDefinition) -> ErrorList {
    // Without a status it is not prepared yet, or there is no version to store.
    if definition.status.is_none() && definition.spec.versions.iter().any(|v| v.storage) {
        return ErrorList::new();
    }
    let none = CustomResourceDefinitionStatus::default();
    let status = definition.status.as_ref().unwrap_or(&none);
    let mut out = accepted_names(status);
    let path = Path::new("status").child("storedVersions");
    let stored = checks::list(&status.stored_versions);
    if stored.is_empty() {
        let text = "must have at least one stored version";
        out.push(field::invalid(
            path,
            checks::json(&status.stored_versions),
            text,
        ));
        return out;
    }
    let versions = &definition.spec.versions;
    for version in versions.iter().filter(|version| version.storage) {
        if !stored.contains(&version.name) {
            let text = format!("must have the storage version {}", version.name);
            out.push(field::invalid(path.clone(), stored.to_vec(), text));
        }
    }
    for (at, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.name == *name) {
            let text = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            out.push(field::invalid(path.index(at), name.as_str(), text));
        }
    }
    out
}

fn accepted_names(status: &CustomResourceDefinitionStatus) -> ErrorList {
    let path = Path::new("status").child("acceptedNames");
    status
        .accepted_names
        .as_ref()
        .map(|names| spec::names(names, &path))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

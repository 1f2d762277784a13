//! What versions of a definition know of each other.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use sha2::Digest;

use super::Version;
use crate::{intern, structural::Schema};

/// A version, served or not, as far as the others must know of it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) api_version: &'static str,
    /// Versions that are alike have one.
    pub(super) schema: Arc<Schema>,
    pub(super) fingerprint: u64,
}

impl Known {
    /// All versions of a definition.
    pub(super) fn all(definition: &CustomResourceDefinition, group: &str) -> Arc<[Known]> {
        let uid = definition.metadata.uid.as_deref().unwrap_or_default();
        let mut read: Vec<(Option<&JSONSchemaProps>, Arc<Schema>)> = Vec::new();
        let versions = definition.spec.versions.iter();
        versions
            .map(|version| {
                let props = props(version).filter(|_| !preserves(definition, version));
                let schema = match read.iter().find(|(known, _)| *known == props) {
                    Some((_, schema)) => schema.clone(),
                    None => Arc::new(props.map_or_else(Schema::anything, Schema::new)),
                };
                read.push((props, schema.clone()));
                Known {
                    api_version: intern(&format!("{group}/{}", version.name)),
                    schema,
                    fingerprint: fingerprint(uid, definition, version),
                }
            })
            .collect()
    }
}

pub(super) fn props(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    let schema = version.schema.as_ref();
    schema.and_then(|schema| schema.open_api_v3_schema.as_ref())
}

/// Whether a version takes all fields as they are.
pub(super) fn preserves(
    definition: &CustomResourceDefinition,
    version: &CustomResourceDefinitionVersion,
) -> bool {
    definition.spec.preserve_unknown_fields == Some(true) || props(version).is_none()
}

fn fingerprint(
    uid: &str,
    definition: &CustomResourceDefinition,
    version: &CustomResourceDefinitionVersion,
) -> u64 {
    let preserve = preserves(definition, version);
    let bytes = serde_json::to_vec(&(uid, &version.name, preserve, props(version)));
    let digest = sha2::Sha256::digest(bytes.unwrap_or_default());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(head)
}

impl Version {
    pub(super) fn known(&self, api_version: &str) -> Option<&Known> {
        (self.all.iter()).find(|known| known.api_version == api_version)
    }

    /// The `apiVersion` of a version of the definition, served or not.
    pub(super) fn named(&self, api_version: &str) -> Option<&'static str> {
        self.known(api_version).map(|known| known.api_version)
    }

    /// The schema of any version of the definition.
    pub(super) fn schema_of(&self, api_version: &str) -> &Schema {
        let known = self.known(api_version);
        known.map_or(&self.schema, |known| &known.schema)
    }

    /// Whether a stored object with that mark is as the schema of its version has it, so that [`Version::settle`] would
    /// change nothing.
    pub fn is_settled(&self, api_version: &str, mark: u64) -> bool {
        (self.known(api_version)).is_some_and(|known| known.fingerprint == mark)
    }

    /// The mark of an object that was [converted](Version::converted) to be stored: it has no defaults of that version yet.
    pub fn mark_of_converted(&self) -> u64 {
        match self.known(self.storage_api_version) {
            Some(known) if !known.schema.has_defaults() => known.fingerprint,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::custom::{CustomObject, rows};

    /// A definition whose objects are stored in `v2`, which has no `old`.
    fn definition() -> CustomResourceDefinition {
        let version = |name: &str, storage: bool, properties: Value| {
            json!({"name": name, "served": true, "storage": storage,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
        };
        let text = json!({"type": "string"});
        let other = json!({"type": "string", "default": "x"});
        let v1 = json!({"old": text, "both": text, "first": other});
        let v2 = json!({"both": text, "second": other});
        serde_json::from_value(json!({"metadata": {"name": "lamps.example.com", "uid": "u"},
            "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "lamps", "kind": "Lamp"},
                "versions": [version("v1", false, v1.clone()), version("v2", true, v2), version("v3", false, v1)]}}))
        .unwrap()
    }

    fn stored(version: &Version, fields: Value) -> CustomObject {
        let mut object = json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {}});
        for (name, value) in fields.as_object().unwrap() {
            object[name] = value.clone();
        }
        version
            .decode_stored(object.to_string().as_bytes())
            .unwrap()
    }

    #[test]
    fn what_is_converted_has_what_its_new_version_knows_and_none_of_its_defaults() {
        let rows = rows(&definition());
        let of = |name: &str| {
            let row = rows.iter().find(|row| row.version == name).unwrap();
            row.strategy.custom().unwrap()
        };
        let (v1, v2) = (of("v1"), of("v2"));
        let object = stored(v1, json!({"old": "a", "both": "b"}));
        let kept = v1.converted(object.clone(), "example.com/v2").unwrap();
        assert_eq!(kept.fields, *json!({"both": "b"}).as_object().unwrap());
        // What is stored settles by the version that it is stored in, whoever reads it.
        let mut settled = kept;
        v1.settle(&mut settled);
        let expected = json!({"both": "b", "second": "x"});
        assert_eq!(settled.fields, *expected.as_object().unwrap());
        let read = v1.converted(settled, "example.com/v1").unwrap();
        assert_eq!(read.fields, *json!({"both": "b"}).as_object().unwrap());
        // Versions that are alike take everything from each other.
        let same = v2.converted(object, "example.com/v3").unwrap();
        assert_eq!(same.api_version, "example.com/v3");
        assert_eq!(same.fields.len(), 2);
    }

    #[test]
    fn a_mark_tells_by_which_schema_an_object_was_settled() {
        let rows = rows(&definition());
        let marks: Vec<u64> = (rows.iter())
            .map(|row| row.strategy.custom().unwrap().fingerprint())
            .collect();
        assert_ne!(marks[0], marks[1]);
        for row in &rows {
            let custom = row.strategy.custom().unwrap();
            assert!(custom.is_settled(custom.api_version(), custom.fingerprint()));
            assert!(!custom.is_settled("example.com/v1", 0));
            assert!(!custom.is_settled("example.com/v9", custom.fingerprint()));
            // The stored version has a default that is filled in when it is read.
            assert_eq!(custom.mark_of_converted(), 0);
        }
    }
}

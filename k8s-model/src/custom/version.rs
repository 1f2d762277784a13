//! [`Version`]: one version of a custom resource, and [`rows`].

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, WebhookConversion,
};
use serde_json::Value;

use super::{
    Column, CustomObject, Functions, ScalePaths,
    known::{Known, preserves, props},
    publish,
};
use crate::{
    AnyStrategy, Codec, Object, Resource, Scope, Subresource,
    apply::Shape,
    intern, intern_all,
    json_path::JsonPath,
    structural::{Rules, Schema},
};

/// How objects become those of another version.
#[derive(Clone, Debug, Default)]
pub enum Conversion {
    /// Nothing changes but `apiVersion`.
    #[default]
    None,
    /// A webhook is asked.
    Webhook(Arc<WebhookConversion>),
    /// Functions of this program do it.
    Functions(Arc<Functions>),
}

/// One version of a custom resource: its schema, and what is said beside it.
#[derive(Debug)]
pub struct Version {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    /// All versions of the definition, served or not.
    pub(super) all: Arc<[Known]>,
    /// Those that are not served, with what apply must know of them.
    unserved: Arc<[(&'static str, Shape)]>,
    /// The stored version, as an `apiVersion`.
    pub(super) storage_api_version: &'static str,
    pub(super) schema: Arc<Schema>,
    pub(super) rules: Rules,
    pub(super) status: bool,
    pub(super) scale: Option<ScalePaths>,
    pub(super) columns: Vec<Column>,
    /// Names and paths of the fields that any version may be selected by: what an index of stored
    /// objects holds.
    pub(super) all_selectable: Vec<(&'static str, JsonPath)>,
    /// The names of those that this version may be selected by.
    pub(super) selectable_names: &'static [&'static str],
    pub(super) deprecation: Option<String>,
    pub(super) conversion: Conversion,
    terminating: bool,
    published: Value,
    /// What apply must know of it.
    pub(super) shape: Shape,
    fingerprint: u64,
}

impl Version {
    /// The kind of its objects.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The `apiVersion` of its objects.
    pub fn api_version(&self) -> &'static str {
        self.api_version
    }

    /// The `apiVersion` in which objects are stored.
    pub fn storage_api_version(&self) -> &'static str {
        self.storage_api_version
    }

    /// Its schema. List and map types for apply are in here.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Where its `scale` subresource finds its numbers, if it has one.
    pub fn scale(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }

    /// How its objects become those of other versions.
    pub fn conversion(&self) -> &Conversion {
        &self.conversion
    }

    /// What whoever asks for it is told, if it is deprecated.
    pub fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    /// Whether no more objects may be made, since the definition is going.
    pub fn is_terminating(&self) -> bool {
        self.terminating
    }

    /// Whether the definition has a version, served or not.
    pub fn has_version(&self, api_version: &str) -> bool {
        self.known(api_version).is_some()
    }

    /// What apply must know of a version of the definition that is not served. Fields are owned in those too.
    pub fn unserved_shape(&self, api_version: &str) -> Option<&Shape> {
        let found = self.unserved.iter().find(|(name, _)| *name == api_version);
        found.map(|(_, shape)| shape)
    }

    /// A number that changes when the bytes of a stored object may have to: with the schema.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Its schema as OpenAPI v3 publishes it.
    pub fn published(&self) -> &Value {
        &self.published
    }

    /// Its name in OpenAPI: `com.example.v1.Widget`.
    pub fn published_name(&self) -> String {
        publish::name(self.group, self.version, self.kind)
    }

    /// The `TableColumnDefinition`s of its table.
    pub fn column_definitions(&self) -> Vec<Value> {
        let name = serde_json::json!({
            "name": "Name",
            "type": "string",
            "format": "name",
            "description": "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
            "priority": 0,
        });
        std::iter::once(name)
            .chain(self.columns.iter().map(Column::definition))
            .collect()
    }

    /// An object's cells, one per column. `now` is what ages are counted to.
    pub fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        let name = object.metadata().name.clone().unwrap_or_default();
        let value = object.to_value();
        std::iter::once(name.into())
            .chain(self.columns.iter().map(|column| column.cell(&value, now)))
            .collect()
    }

    /// An object in another version of the definition, without what the schema of that version does not know. A webhook is
    /// nobody whom this can ask.
    ///
    /// # Errors
    /// Says why it cannot be had in that version.
    pub fn converted(
        &self,
        mut object: CustomObject,
        api_version: &str,
    ) -> Result<CustomObject, String> {
        let known = self.known(api_version);
        let known = known.ok_or_else(|| format!("there is no version {api_version}"))?;
        match &self.conversion {
            Conversion::None => {
                let before = self.known(object.api_version);
                let is_alike = before.is_some_and(|v| Arc::ptr_eq(&v.schema, &known.schema));
                object.relabel(known.api_version);
                if !is_alike {
                    self.prune(&mut object);
                }
                Ok(object)
            }
            Conversion::Functions(functions) => {
                let value = functions.convert(&object.to_value(), known.api_version)?;
                let json = value.to_string();
                let object = self.decode_stored(json.as_bytes());
                let mut object = object.map_err(|error| error.to_string())?;
                self.prune(&mut object);
                Ok(object)
            }
            Conversion::Webhook(_) => Err(format!(
                "conversion webhook for {}, Kind={} failed: it was not asked",
                object.api_version(),
                self.kind
            )),
        }
    }
}

const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// The rows of the served versions of a definition, the preferred one first: by age and
/// stability of their names, as upstream orders them.
pub fn rows(definition: &CustomResourceDefinition) -> Vec<Resource> {
    rows_with(definition, &|version| {
        let version = Arc::new(version);
        (version.clone(), AnyStrategy::Shared(version))
    })
}

/// The same, with strategies of another make.
pub(super) fn rows_with(
    definition: &CustomResourceDefinition,
    make: &dyn Fn(Version) -> (Arc<Version>, AnyStrategy),
) -> Vec<Resource> {
    let spec = &definition.spec;
    let accepted = definition
        .status
        .as_ref()
        .and_then(|status| status.accepted_names.as_ref())
        .filter(|names| !names.plural.is_empty());
    let names = accepted.unwrap_or(&spec.names);
    let group = intern(&spec.group);
    let kind = intern(&names.kind);
    let storage = spec.versions.iter().find(|version| version.storage);
    let Some(storage) = storage else {
        return Vec::new();
    };
    let storage_version = intern(&storage.name);
    let api_version = |version: &str| intern(&format!("{group}/{version}"));
    let all = Known::all(definition, group);
    let unserved: Arc<[_]> = (spec.versions.iter())
        .filter(|version| !version.served)
        .map(|version| {
            let (props, preserve) = (props(version), preserves(definition, version));
            let published = publish::schema(props, preserve, (group, &version.name, kind));
            (
                api_version(&version.name),
                Shape::from_structural(&published),
            )
        })
        .collect();
    let all_selectable = selectable(&spec.versions);
    let conversion = match &spec.conversion {
        Some(conversion) if conversion.strategy == "Webhook" => match &conversion.webhook {
            Some(webhook) => Conversion::Webhook(Arc::new(webhook.clone())),
            None => Conversion::None,
        },
        _ => Conversion::None,
    };
    let terminating = definition.metadata.deletion_timestamp.is_some();

    let mut served: Vec<&CustomResourceDefinitionVersion> = spec
        .versions
        .iter()
        .filter(|version| version.served)
        .collect();
    served.sort_by(|a, b| compare_versions(&b.name, &a.name));
    served
        .into_iter()
        .filter_map(|version| {
            let mut known = all.iter().zip(&spec.versions);
            let (known, _) = known.find(|(_, other)| std::ptr::eq(*other, version))?;
            let (props, preserve) = (props(version), preserves(definition, version));
            let status = version
                .subresources
                .as_ref()
                .is_some_and(|s| s.status.is_some());
            let scale = version.subresources.as_ref().and_then(|s| s.scale.as_ref());
            let own = selectable(std::slice::from_ref(version));
            let published = publish::schema(props, preserve, (group, &version.name, kind));
            let compiled = Version {
                group,
                version: intern(&version.name),
                api_version: known.api_version,
                kind,
                all: all.clone(),
                unserved: unserved.clone(),
                storage_api_version: api_version(storage_version),
                rules: Rules::new(&known.schema, true),
                schema: known.schema.clone(),
                status,
                scale: scale.map(ScalePaths::new),
                columns: Column::all(version.additional_printer_columns.as_deref()),
                selectable_names: intern_all(own.iter().map(|(name, _)| *name)),
                all_selectable: all_selectable.clone(),
                deprecation: deprecation(version, &spec.versions, group, kind),
                conversion: conversion.clone(),
                terminating,
                shape: Shape::from_structural(&published),
                published,
                fingerprint: known.fingerprint,
            };
            let (compiled, strategy) = make(compiled);
            let (for_json, for_values) = (compiled.clone(), compiled.clone());
            let or = |names: &Option<Vec<String>>| {
                intern_all(names.iter().flatten().map(String::as_str))
            };
            Some(Resource {
                group,
                version: compiled.version,
                kind,
                list_kind: intern(names.list_kind.as_deref().unwrap_or(&format!("{kind}List"))),
                resource: intern(&spec.names.plural),
                singular: intern(names.singular.as_deref().unwrap_or(&kind.to_lowercase())),
                short_names: or(&names.short_names),
                categories: or(&names.categories),
                scope: if spec.scope == "Namespaced" {
                    Scope::Namespaced
                } else {
                    Scope::Cluster
                },
                verbs: VERBS,
                subresources: subresources(kind, status, scale.is_some()),
                storage_group: group,
                storage_version,
                codec: Codec {
                    from_json: Arc::new(move |bytes, unknown| for_json.decode(bytes, unknown)),
                    from_value: Arc::new(move |value, unknown| {
                        for_values.decode_value(value, unknown)
                    }),
                },
                strategy,
            })
        })
        .collect()
}

/// Which of two versions is preferred, by their names: the greater one.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    priority(a).cmp(&priority(b))
}

/// `v2` before `v1`, those before `v1beta2`, that before `v1alpha1`, and all others by name.
fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<&str>) {
    let other = (0, 0, 0, std::cmp::Reverse(version));
    let Some(rest) = version.strip_prefix('v') else {
        return other;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (Ok(major), tail) = (rest[..digits].parse::<u64>(), &rest[digits..]) else {
        return other;
    };
    let minor = |text: &str| text.parse::<u64>().ok();
    match tail {
        "" => (3, major, 0, std::cmp::Reverse("")),
        _ => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
            (Some(n), _) if minor(n).is_some() => {
                (2, major, minor(n).unwrap_or(0), std::cmp::Reverse(""))
            }
            (_, Some(n)) if minor(n).is_some() => {
                (1, major, minor(n).unwrap_or(0), std::cmp::Reverse(""))
            }
            _ => other,
        },
    }
}

fn deprecation(
    version: &CustomResourceDefinitionVersion,
    all: &[CustomResourceDefinitionVersion],
    group: &str,
    kind: &str,
) -> Option<String> {
    if version.deprecated != Some(true) {
        return None;
    }
    if let Some(text) = &version.deprecation_warning {
        return Some(text.clone());
    }
    let better = (all.iter())
        .filter(|other| other.served && other.deprecated != Some(true))
        .map(|other| other.name.as_str())
        .filter(|other| compare_versions(&version.name, other).is_lt())
        .max_by(|a, b| compare_versions(a, b));
    let instead = better.map_or_else(String::new, |name| format!("; use {group}/{name} {kind}"));
    Some(format!(
        "{group}/{} {kind} is deprecated{instead}",
        version.name
    ))
}

fn selectable(versions: &[CustomResourceDefinitionVersion]) -> Vec<(&'static str, JsonPath)> {
    let mut out: Vec<(&'static str, JsonPath)> = Vec::new();
    let fields = versions
        .iter()
        .flat_map(|v| v.selectable_fields.iter().flatten());
    for field in fields {
        let name = intern(field.json_path.trim_start_matches('.'));
        if let Ok(path) = field.json_path.parse()
            && !out.iter().any(|(known, _)| *known == name)
        {
            out.push((name, path));
        }
    }
    out
}

fn subresources(kind: &'static str, status: bool, scale: bool) -> &'static [Subresource] {
    type Known = HashMap<(&'static str, bool, bool), &'static [Subresource]>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    const VERBS: &[&str] = &["get", "patch", "update"];
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((kind, status, scale)).or_insert_with(|| {
        let mut list = Vec::new();
        if status {
            list.push(Subresource {
                name: "status",
                group: "",
                version: "",
                kind,
                verbs: VERBS,
            });
        }
        if scale {
            list.push(Subresource {
                name: "scale",
                group: "autoscaling",
                version: "v1",
                kind: "Scale",
                verbs: VERBS,
            });
        }
        Vec::leak(list)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first_and_newer_ones_before_older() {
        let mut names = [
            "foo10", "v1alpha1", "v1", "v11beta2", "v10", "v2", "v10beta3", "foo1", "v3beta1",
        ];
        names.sort_by(|a, b| priority(b).cmp(&priority(a)));
        assert_eq!(
            names,
            [
                "v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v1alpha1", "foo1", "foo10"
            ]
        );
    }
}

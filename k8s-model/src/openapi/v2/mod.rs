//! The OpenAPI v2 document of all group versions, as `/openapi/v2` serves it to older clients.
//!
//! It says what the [v3 documents](super::v3()) say, in the words of v2, so it has the facts
//! about built-in kinds and custom resources from one place. What v2 has no word for (`oneOf`, `nullable`) is
//! left out, as upstream does. It is written one group version at a time, as JSON or in the
//! [protobuf form](https://github.com/google/gnostic) that `kubectl` and client-go ask for.

mod convert;
mod merge;
mod proto;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::convert::{custom_definition, definition, path_item};
pub use self::merge::Foreign;
use crate::{ResourceTable, openapi, schema};

/// In which form the document is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Json,
    /// The messages of gnostic's `OpenAPIv2.proto`.
    Protobuf,
}

/// A value that changes when the document does.
pub fn hash(table: &ResourceTable) -> String {
    let mut hasher = DefaultHasher::new();
    for group in table.groups() {
        for version in group.versions {
            openapi::hash(table, group.name, version).hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

/// The document of all group versions. It is some megabytes long, and takes a while to write.
pub fn document(table: &ResourceTable, form: Form) -> Bytes {
    merged(table, form, Vec::new())
}

/// The document of all group versions, and of those that other servers have, the most important first: of paths that two
/// have the first counts, and definitions of one name that say something else get another, as upstream does it.
pub fn merged(table: &ResourceTable, form: Form, others: Vec<Foreign>) -> Bytes {
    let mut paths = Section::new(form);
    let mut definitions = Section::new(form);
    let mut seen = BTreeSet::new();
    let contested: BTreeSet<String> = others.iter().flat_map(Foreign::names).cloned().collect();
    let mut kept = Map::new();
    let mut known = BTreeSet::new();
    let versions = table.groups().into_iter().flat_map(|group| {
        let versions = group.versions.into_iter();
        versions.map(move |version| (group.name, version))
    });
    let nothing = BTreeSet::new;
    let places = openapi::places(table)
        .into_iter()
        .map(|path| (openapi::place(table, &path), nothing()));
    let versions = versions.map(|(group, version)| {
        let custom = table.of_version(group, version);
        let custom = custom.filter_map(|row| row.strategy.custom());
        let names: BTreeSet<String> = custom.map(|custom| custom.published_name()).collect();
        (openapi::v3(table, group, version), names)
    });
    for (v3, custom) in places.chain(versions) {
        let Ok(Value::Object(mut v3)) = serde_json::from_slice(&v3.unwrap_or_default()) else {
            continue;
        };
        for (path, value) in members(v3.get_mut("paths")) {
            paths.add(&path, &path_item(value), proto::path_item);
            if !others.is_empty() {
                known.insert(path);
            }
        }
        let components = v3.get_mut("components").and_then(|c| c.get_mut("schemas"));
        for (name, value) in members(components) {
            if seen.insert(name.clone()) {
                let value = match custom.contains(&name) {
                    true => custom_definition(value),
                    false => definition(value),
                };
                if contested.contains(&name) {
                    kept.insert(name, value);
                } else {
                    definitions.add(&name, &value, proto::schema);
                }
            }
        }
    }
    for other in others {
        for (path, value) in other.beside(&mut known, &mut seen, &mut kept) {
            paths.add(&path, &value, proto::path_item);
        }
    }
    for (name, value) in &kept {
        definitions.add(name, value, proto::schema);
    }
    let info = json!({"title": "Kubernetes", "version": format!("v1.{}.0", schema::MINOR)});
    Bytes::from(match form {
        Form::Json => {
            let start = format!("{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{{");
            let end = json!({"BearerToken": {
                "description": "Bearer Token authentication",
                "in": "header", "name": "authorization", "type": "apiKey",
            }});
            let end =
                format!("}},\"securityDefinitions\":{end},\"security\":[{{\"BearerToken\":[]}}]}}");
            let parts = [
                start.as_bytes(),
                &paths.out,
                b"},\"definitions\":{",
                &definitions.out,
                end.as_bytes(),
            ];
            parts.concat()
        }
        Form::Protobuf => proto::document(&info, &paths.out, &definitions.out),
    })
}

/// Named values, written one after the other.
struct Section {
    form: Form,
    out: Vec<u8>,
}

impl Section {
    fn new(form: Form) -> Self {
        Section {
            form,
            out: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, value: &Value, write: fn(&Value, &mut Vec<u8>)) {
        match self.form {
            Form::Json => {
                if !self.out.is_empty() {
                    self.out.push(b',');
                }
                let entry = format!("{}:{value}", Value::from(name));
                self.out.extend_from_slice(entry.as_bytes());
            }
            Form::Protobuf => {
                // `path` is field 2 of `Paths`, whose first are extensions; definitions are field 1.
                let number = if name.starts_with('/') { 2 } else { 1 };
                proto::named(number, name, value, write, &mut self.out);
            }
        }
    }
}

/// The members of an object, taken out of it.
fn members(value: Option<&mut Value>) -> Map<String, Value> {
    match value.map(Value::take) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

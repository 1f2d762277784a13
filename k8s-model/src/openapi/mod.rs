//! OpenAPI documents: [v3](v3()) by group version, as `/openapi/v3` serves them, and [v2], which says the same in one
//! document for older clients.
//!
//! They have what clients go by (KEP-2896): the schemas of all kinds with
//! `x-kubernetes-group-version-kind`, list types and patch strategies, for `kubectl explain` and
//! `kubectl apply`; the paths with their parameters, in which clients look for `fieldValidation`.
//! What is outside of group versions (`/api/`, `/apis/apps/`, `/version/`) has [documents of its own](place()).
//!
//! A document is written from the generated facts when it is asked for, straight into its bytes.

mod components;
mod operations;
mod parameters;
mod places;
#[cfg(test)]
mod tests;
pub mod v2;
mod values;

use std::{
    collections::BTreeSet,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use self::places::{place, place_hash, places};
use self::{
    components::{component, list_component, list_name},
    operations::{paths, resource_list, tag},
};
use crate::{
    Resource, ResourceTable, Subresource,
    schema::{self, Shape, Type},
};

const META: &str = "apimachinery.pkg.apis.meta.v1";
const SCHEMAS: &str = "#/components/schemas/io.k8s.";

/// The path of a group version below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// A value that changes when the document of a group version does, for the `hash` parameter of its
/// address.
pub fn hash(table: &ResourceTable, group: &str, version: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (
        env!("CARGO_PKG_VERSION"),
        schema::MINOR,
        schema::fingerprint(),
    )
        .hash(&mut hasher);
    for row in table.of_version(group, version) {
        (row.group, row.version, row.resource, row.verbs).hash(&mut hasher);
        if let Some(custom) = row.strategy.custom() {
            (custom.fingerprint(), row.subresources.len()).hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

/// The document of `/openapi/v3`: where the documents are.
pub fn index(table: &ResourceTable) -> Bytes {
    let mut paths = Map::new();
    let mut add = |path: String, hash: String| {
        let address = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({ "serverRelativeURL": address }));
    };
    for path in places(table) {
        let hash = place_hash(&path);
        add(path, hash);
    }
    for group in table.groups() {
        for version in group.versions {
            add(path(group.name, version), hash(table, group.name, version));
        }
    }
    Bytes::from(json!({ "paths": paths }).to_string())
}

/// The document of a group version, or nothing if the table has no such rows.
pub fn v3(table: &ResourceTable, group: &str, version: &str) -> Option<Bytes> {
    let rows: Vec<&Resource> = table.of_version(group, version).map(|row| &**row).collect();
    if rows.is_empty() {
        return None;
    }
    let mut types = BTreeSet::new();
    let meta = |name: &str| Type::named(&format!("{META}.{name}"));
    for name in [
        "Status",
        "DeleteOptions",
        "Patch",
        "ListMeta",
        "APIResourceList",
    ] {
        collect(meta(name), &mut types);
    }
    for row in &rows {
        if row.strategy.custom().is_some() {
            collect(meta("ObjectMeta"), &mut types);
        } else if row.verbs.contains(&"watch") {
            collect(meta("WatchEvent"), &mut types);
        }
        collect(type_of(row), &mut types);
        for subresource in row.subresources {
            let (group, version) = subresource_version(row, subresource);
            if row.strategy.custom().is_none() || !subresource.version.is_empty() {
                collect(Type::of_kind(group, version, subresource.kind), &mut types);
            }
        }
    }
    let base = path(group, version);
    let tag = tag(group, version);
    let first = (format!("/{base}/"), resource_list(&tag, group, version));
    let paths = rows.iter().flat_map(|row| paths(row, &base, &tag));
    Some(document(
        table,
        std::iter::once(first).chain(paths),
        &types,
        &rows,
    ))
}

/// Writes a document: of those paths, with those types and those that the rows have of their own.
fn document(
    table: &ResourceTable,
    paths: impl Iterator<Item = (String, Value)>,
    types: &BTreeSet<Type>,
    rows: &[&Resource],
) -> Bytes {
    let mut out = String::with_capacity(if rows.is_empty() { 8 } else { 256 } * 1024);
    out.push_str(r#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"v1."#);
    let _ = write!(out, "{}", schema::MINOR);
    out.push_str(r#".0"},"paths":{"#);
    for (path, item) in paths {
        entry(&mut out, &path, &item);
    }
    end(&mut out);
    out.push_str(r#"},"components":{"#);
    if !types.is_empty() {
        out.push_str(r#""schemas":{"#);
        for ty in types {
            component(&mut out, *ty, table);
        }
        for row in rows {
            if let Some(custom) = row.strategy.custom() {
                entry(&mut out, &custom.published_name(), custom.published());
            }
        }
        for row in rows.iter().filter(|row| row.verbs.contains(&"list")) {
            list_component(&mut out, row);
        }
        end(&mut out);
        out.push_str("},");
    }
    out.push_str(
        r#""securitySchemes":{"BearerToken":{"type":"apiKey","description":"Bearer Token authentication","name":"authorization","in":"header"}}}}"#,
    );
    Bytes::from(out)
}

fn subresource_version(row: &Resource, subresource: &Subresource) -> (&'static str, &'static str) {
    if subresource.version.is_empty() {
        (row.group, row.version)
    } else {
        (subresource.group, subresource.version)
    }
}

/// The type of a built-in row's objects.
fn type_of(row: &Resource) -> Option<Type> {
    match row.strategy.custom() {
        Some(_) => None,
        None => Type::of_kind(row.group, row.version, row.kind),
    }
}

/// Where the schema of a row's objects is, and that of their lists.
fn names_of(row: &Resource) -> Option<(String, String)> {
    if let Some(custom) = row.strategy.custom() {
        let name = custom.published_name();
        let package = name.strip_suffix(row.kind).unwrap_or_default();
        return Some((name.clone(), format!("{package}{}", row.list_kind)));
    }
    let ty = type_of(row)?;
    Some((ty.name(), list_name(ty, row)))
}

/// A type and all that it refers to.
fn collect(ty: Option<Type>, out: &mut BTreeSet<Type>) {
    let Some(ty) = ty else { return };
    if !out.insert(ty) {
        return;
    }
    for field in ty.fields() {
        let mut shape = field.shape();
        while let Shape::List(elements) | Shape::Map(elements) = shape {
            shape = elements.shape();
        }
        if let Shape::Type(ty) = shape {
            collect(Some(ty), out);
        }
    }
}

/// Writes `"key":value,`.
fn entry(out: &mut String, key: &str, value: &Value) {
    let _ = write!(out, "{}:{value},", Value::from(key));
}

/// Takes the last comma away.
fn end(out: &mut String) {
    if out.ends_with(',') {
        out.pop();
    }
}

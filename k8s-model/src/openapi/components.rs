//! The schemas of a document.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{META, SCHEMAS, entry, names_of, values::values};
use crate::{
    Resource, ResourceTable,
    schema::{Field, Merge, Shape, Type},
};

/// Writes the schema of a built-in type.
pub(super) fn component(out: &mut String, ty: Type, table: &ResourceTable) {
    let mut object = Map::new();
    object.insert("description".into(), ty.description().into());
    match ty.special() {
        Some(Shape::IntOrString) => {
            object.insert("format".into(), "int-or-string".into());
            object.insert(
                "oneOf".into(),
                json!([{"type": "integer"}, {"type": "string"}]),
            );
        }
        Some(Shape::Quantity) => {
            object.insert(
                "oneOf".into(),
                json!([{"type": "string"}, {"type": "number"}]),
            );
        }
        Some(shape) => scalar(&mut object, shape),
        None => {
            object.insert("type".into(), "object".into());
            let required: Vec<_> = ty
                .fields()
                .filter(Field::is_required)
                .map(|f| f.name())
                .collect();
            if !required.is_empty() {
                object.insert("required".into(), required.into());
            }
            let properties: Map<_, _> = ty
                .fields()
                .map(|f| (f.name().to_owned(), Value::Object(property(ty, &f))))
                .collect();
            if !properties.is_empty() {
                object.insert("properties".into(), properties.into());
            }
        }
    }
    if ty.is_atomic() {
        object.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let kinds = kinds_of(ty, table);
    if !kinds.is_empty() {
        object.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    entry(out, &ty.name(), &Value::Object(object));
}

fn kinds_of(ty: Type, table: &ResourceTable) -> Vec<Value> {
    let kind = ty.base_name();
    let of_row =
        |row: &Resource| row.kind == kind || row.subresources.iter().any(|s| s.kind == kind);
    let is_meta = ty.short_name().starts_with(META);
    // References have an `apiVersion` and a `kind` too.
    if !is_meta && !table.rows().iter().any(|row| of_row(row)) {
        return Vec::new();
    }
    let is = |group: &str, version: &str| Type::of_kind(group, version, kind) == Some(ty);
    if is_meta {
        return match kind {
            "Status" | "APIResourceList" | "APIGroup" | "APIGroupList" | "APIVersions" => {
                vec![gvk("", "v1", kind)]
            }
            // They are known in any group and version.
            "DeleteOptions" | "WatchEvent" => {
                let groups = ResourceTable::builtin().groups();
                let versions = groups.iter().flat_map(|group| {
                    group
                        .versions
                        .iter()
                        .map(|version| gvk(group.name, version, kind))
                });
                versions.collect()
            }
            _ => Vec::new(),
        };
    }
    let mut groups: Vec<(&str, &str)> = table
        .rows()
        .iter()
        .map(|row| (row.group, row.version))
        .collect();
    groups.dedup();
    groups.extend([
        ("policy", "v1"),
        ("authentication.k8s.io", "v1"),
        ("autoscaling", "v1"),
    ]);
    let found = groups
        .into_iter()
        .find(|(group, version)| is(group, version));
    found
        .map(|(group, version)| gvk(group, version, kind))
        .into_iter()
        .collect()
}

pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn property(ty: Type, field: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("description".into(), field.description().into());
    fill(&mut out, field.shape());
    if let Some(values) = values(ty, field) {
        let mut description = format!("{}\n\nPossible enum values:", field.description());
        for (value, meaning) in &values {
            let space = if meaning.is_empty() { "" } else { " " };
            let _ = write!(description, "\n - `{value:?}`{space}{meaning}");
        }
        out.insert("description".into(), description.into());
        let values = values.into_iter().map(|(value, _)| value);
        out.insert("enum".into(), values.collect());
    }
    match (field.merge(), field.shape()) {
        (Merge::Map(keys), _) => {
            out.insert("x-kubernetes-list-type".into(), "map".into());
            let keys: Vec<&str> = keys.split(',').collect();
            out.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
        (Merge::Set, _) => {
            out.insert("x-kubernetes-list-type".into(), "set".into());
        }
        (Merge::Atomic, Shape::List(_)) => {
            out.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        (Merge::Atomic, Shape::Map(_)) => {
            out.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        (Merge::Granular, Shape::Type(ty)) if ty.is_atomic() => {
            out.insert("x-kubernetes-map-type".into(), "granular".into());
        }
        _ => {}
    }
    if let Some(strategy) = field.patch_strategy() {
        out.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
    if let Some(key) = field.patch_merge_key() {
        out.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
    out
}

fn fill(out: &mut Map<String, Value>, shape: Shape) {
    match shape {
        Shape::Type(ty) => {
            out.insert(
                "allOf".into(),
                json!([{"$ref": format!("{SCHEMAS}{}", ty.short_name())}]),
            );
            if ty.special().is_none() {
                out.insert("default".into(), json!({}));
            }
        }
        Shape::List(elements) => {
            let mut items = Map::new();
            fill(&mut items, elements.shape());
            out.insert("type".into(), "array".into());
            out.insert("items".into(), items.into());
        }
        Shape::Map(elements) => {
            let mut values = Map::new();
            fill(&mut values, elements.shape());
            out.insert("type".into(), "object".into());
            out.insert("additionalProperties".into(), values.into());
        }
        shape => scalar(out, shape),
    }
}

fn scalar(out: &mut Map<String, Value>, shape: Shape) {
    let (name, format) = match shape {
        Shape::String(format) => ("string", format),
        Shape::Integer(format) => ("integer", format),
        Shape::Number => ("number", "double"),
        Shape::Boolean => ("boolean", ""),
        Shape::Object => ("object", ""),
        _ => return,
    };
    out.insert("type".into(), name.into());
    if !format.is_empty() {
        out.insert("format".into(), format.into());
    }
}

const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// Writes the schema of a row's lists.
pub(super) fn list_component(out: &mut String, row: &Resource) {
    let (Some((item, list)), Some(like)) = (names_of(row), list_like()) else {
        return;
    };
    let text = |name: &str| {
        let field = like.field(name);
        json!({"type": "string", "description": field.map(|f| f.description()).unwrap_or_default()})
    };
    let refers = |name: &str| json!([{"$ref": format!("#/components/schemas/{name}")}]);
    let mut component = json!({
        "description": format!("{} is a list of {}", row.list_kind, row.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"),
            "kind": text("kind"),
            "metadata": {
                "description": format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds"),
                "allOf": refers(&format!("io.k8s.{META}.ListMeta")),
            },
            "items": {
                "description": format!("List of {}. More info: {CONVENTIONS}", row.resource),
                "type": "array",
                "items": {"$ref": format!("#/components/schemas/{item}")},
            },
        },
        "x-kubernetes-group-version-kind": [gvk(row.group, row.version, row.list_kind)],
    });
    if row.strategy.custom().is_none() {
        component["type"] = "object".into();
        let properties = &mut component["properties"];
        properties["metadata"]["default"] = json!({});
        properties["items"]["items"] = json!({"default": {}, "allOf": refers(&item)});
    }
    entry(out, &list, &component);
}

/// A type with the fields that every kind has.
fn list_like() -> Option<Type> {
    Type::of_kind("", "v1", "ConfigMap")
}

pub(super) fn list_name(ty: Type, row: &Resource) -> String {
    let name = ty.name();
    let package = name.strip_suffix(ty.base_name()).unwrap_or_default();
    format!("{package}{}", row.list_kind)
}

//! What a version has beside its schema: subresources, printer columns, selectable fields.

use std::collections::HashSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion, CustomResourceSubresources,
};

use crate::{
    field::{self, ErrorList, Path},
    json_path::JsonPath,
    kinds::checks,
    structural::{Kind, Schema},
};

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// Upstream's `MaxSelectableFields`.
const MAX_SELECTABLE: usize = 8;

pub(super) fn scale(subresources: &CustomResourceSubresources, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let Some(scale) = &subresources.scale else {
        return out;
    };
    let mut replicas = |name: &str, value: &str, root: &str| {
        let path = path.child(&format!("scale.{name}"));
        if value.is_empty() {
            out.push(field::required(path, ""));
            return;
        }
        let found = simple_path(value, &path);
        if !found.is_empty() {
            out.extend(found);
        } else if !value.starts_with(&format!(".{root}.")) {
            let text = format!("should be a json path under .{root}");
            out.push(field::invalid(path, value, text));
        }
    };
    replicas("specReplicasPath", &scale.spec_replicas_path, "spec");
    replicas("statusReplicasPath", &scale.status_replicas_path, "status");
    let selector = checks::text(&scale.label_selector_path);
    if !selector.is_empty() {
        let path = path.child("scale.labelSelectorPath");
        let found = simple_path(selector, &path);
        if !found.is_empty() {
            out.extend(found);
        } else if !selector.starts_with(".spec.") && !selector.starts_with(".status.") {
            let text = "should be a json path under either .spec or .status";
            out.push(field::invalid(path, selector, text));
        }
    }
    out
}

pub(super) fn column(column: &CustomResourceColumnDefinition, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if column.name.is_empty() {
        out.push(field::required(path.child("name"), ""));
    }
    let one_of = |values: &[&str]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        format!("must be one of {}", values.join(","))
    };
    if column.type_.is_empty() {
        out.push(field::required(path.child("type"), one_of(&TYPES)));
    } else if !TYPES.contains(&column.type_.as_str()) {
        out.push(field::invalid(
            path.child("type"),
            column.type_.as_str(),
            one_of(&TYPES),
        ));
    }
    let format = checks::text(&column.format);
    if !format.is_empty() && !FORMATS.contains(&format) {
        out.push(field::invalid(
            path.child("format"),
            format,
            one_of(&FORMATS),
        ));
    }
    let path = path.child("JSONPath");
    if column.json_path.is_empty() {
        out.push(field::required(path, ""));
    } else {
        let found = simple_path(&column.json_path, &path);
        if found.is_empty()
            && let Err(error) = column.json_path.parse::<JsonPath>()
        {
            out.push(field::invalid(
                path,
                column.json_path.as_str(),
                error.to_string(),
            ));
        } else {
            out.extend(found);
        }
    }
    out
}

fn simple_path(text: &str, path: &Path) -> ErrorList {
    if text.starts_with('.') {
        return ErrorList::new();
    }
    let why = if text.is_empty() {
        "must not be empty"
    } else {
        "must be a simple json path starting with ."
    };
    vec![field::invalid(path.clone(), text, why)]
}

pub(super) fn selectable(version: &CustomResourceDefinitionVersion, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let fields = checks::list(&version.selectable_fields);
    if fields.is_empty() {
        return out;
    }
    if fields.len() > MAX_SELECTABLE {
        out.push(field::too_many(path.clone(), fields.len(), MAX_SELECTABLE));
    }
    let schema = version
        .schema
        .as_ref()
        .and_then(|s| s.open_api_v3_schema.as_ref());
    let schema = schema.map(Schema::new);
    let mut seen = HashSet::new();
    for (at, selectable) in fields.iter().enumerate() {
        let path = path.index(at).child("jsonPath");
        let text = selectable.json_path.as_str();
        if text.is_empty() {
            out.push(field::required(path, ""));
            continue;
        }
        if !seen.insert(text) {
            out.push(field::duplicate(path, text));
            continue;
        }
        let parsed = text.parse::<JsonPath>();
        let names = parsed.as_ref().ok().and_then(JsonPath::names);
        let Some(names) = names.filter(|_| text.starts_with('.')) else {
            let why = "is an invalid path: must be a simple path of field names";
            out.push(field::invalid(path, text, why));
            continue;
        };
        if names.first() == Some(&"metadata") {
            let why = "must not point to fields in metadata";
            out.push(field::invalid(path, text, why));
            continue;
        }
        let found = schema.as_ref().and_then(|schema| {
            names
                .iter()
                .try_fold(schema, |schema, name| schema.properties.get(*name))
        });
        match found.map(|schema| schema.kind) {
            None => {
                let why = "is an invalid path: does not refer to a valid field";
                out.push(field::invalid(path, text, why));
            }
            Some(Some(Kind::String | Kind::Boolean | Kind::Integer)) => {}
            Some(_) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                out.push(field::invalid(path, text, why));
            }
        }
    }
    out
}

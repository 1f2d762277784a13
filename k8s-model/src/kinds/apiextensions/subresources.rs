//! What a version has beside its schema: subresources, printer columns, selectable fields.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion, CustomResourceSubresources,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks,
    structural::{Kind, Schema, field_path},
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
        // Whether it can be read is not judged, as upstream: what cannot has no column.
        out.extend(simple_path(&column.json_path, &path));
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

pub(super) fn selectable(
    version: &CustomResourceDefinitionVersion,
    old: Option<&CustomResourceDefinitionVersion>,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    let fields = checks::list(&version.selectable_fields);
    if fields.is_empty() {
        return out;
    }
    let schema = version.schema.as_ref();
    let Some(schema) = schema.and_then(|s| s.open_api_v3_schema.as_ref()) else {
        // So does upstream have it.
        let text = "may only be set when `version.schema.openAPIV3Schema` is not included";
        return vec![field::invalid(path.clone(), "", text)];
    };
    let schema = Schema::new(schema);
    let mut known = BTreeSet::new();
    for (at, selectable) in fields.iter().enumerate() {
        let path = path.index(at).child("jsonPath");
        let text = selectable.json_path.as_str();
        if text.is_empty() {
            out.push(field::required(path, ""));
            continue;
        }
        let mut wrong = |why: &str| out.push(field::invalid(path.clone(), text, why));
        let (found, names) = match field_path::resolve(text, &schema, false) {
            Ok(found) => found,
            Err(fault) => {
                wrong(&format!("is an invalid path: {fault}"));
                continue;
            }
        };
        if names
            .strip_prefix("metadata")
            .is_some_and(|rest| !rest.starts_with(|c| c != '.' && c != '['))
        {
            wrong("must not point to fields in metadata");
        }
        if !matches!(
            found.and_then(|schema| schema.kind),
            Some(Kind::String | Kind::Boolean | Kind::Integer)
        ) {
            wrong(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if !known.insert(names) {
            out.push(field::duplicate(path, text));
        }
    }
    let before = old.map_or(&[][..], |old| checks::list(&old.selectable_fields));
    let excused = before.len() > MAX_SELECTABLE && before == fields;
    if known.len() > MAX_SELECTABLE && !excused {
        out.push(field::too_many(path.clone(), known.len(), MAX_SELECTABLE));
    }
    out
}

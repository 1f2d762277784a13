//! Whether a schema is structural: types and fields are said once, outside `allOf`, `anyOf`,
//! `oneOf` and `not` (upstream's `apiserver/schema/validation.go`).

use std::collections::HashMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks,
    patterns,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is wrong with the patterns that were looked at: a definition has the same one in many places, and in all of its
/// versions.
#[derive(Debug, Default)]
pub(super) struct Patterns<'d>(HashMap<&'d str, Option<String>>);

impl<'d> Patterns<'d> {
    fn fault(&mut self, pattern: &'d str) -> Option<&str> {
        let known = self.0.entry(pattern);
        let fault = known.or_insert_with(|| patterns::compile(pattern).err());
        fault.as_deref()
    }
}

/// What is wrong, and what is known of patterns.
struct Found<'c, 'd> {
    patterns: &'c mut Patterns<'d>,
    errors: ErrorList,
}

impl Found<'_, '_> {
    fn push(&mut self, error: field::Error) {
        self.errors.push(error);
    }
}

/// What keeps a schema from being structural, in the order of the texts.
pub(super) fn validate<'d>(
    schema: &'d JSONSchemaProps,
    path: &Path,
    patterns: &mut Patterns<'d>,
) -> ErrorList {
    let mut found = Found {
        patterns,
        errors: ErrorList::new(),
    };
    invariants(schema, Level::Root, path, &mut found);
    let mut out = found.errors;
    for (name, list) in junctors(schema) {
        complete_all(list, name, Some(schema), path, path, &mut out);
    }
    if let Some(not) = &schema.not {
        complete(not, Some(schema), path, &path.child("not"), &mut out);
    }
    out.sort_by_cached_key(ToString::to_string);
    out
}

/// Why a schema cannot be read as a structural one at all, wherever in it the cause is. Upstream's `NewStructural`.
pub(super) fn unread(schema: &JSONSchemaProps) -> Option<String> {
    let entries = |map: &Option<std::collections::BTreeMap<String, JSONSchemaProps>>| {
        map.as_ref().is_some_and(|map| !map.is_empty())
    };
    let dependencies = schema.dependencies.as_ref();
    for (name, there) in [
        ("id", !checks::blank(&schema.id)),
        ("schema", !checks::blank(&schema.schema)),
        ("$ref", !checks::blank(&schema.ref_path)),
        ("patternProperties", entries(&schema.pattern_properties)),
        (
            "dependencies",
            dependencies.is_some_and(|map| !map.is_empty()),
        ),
        ("additionalItems", schema.additional_items.is_some()),
        ("definitions", entries(&schema.definitions)),
    ] {
        if there {
            return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
        }
    }
    let junctors = junctors(schema).into_iter().flat_map(|(_, list)| list);
    if let Some(why) = junctors.chain(schema.not.as_deref()).find_map(unread) {
        return Some(why);
    }
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        let text =
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
        return Some(text.to_owned());
    }
    if matches!(&schema.items, Some(JSONSchemaPropsOrArray::Schemas(all)) if !all.is_empty()) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let additional = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(inner)) => Some(&**inner),
        _ => None,
    };
    let below = items(schema).into_iter().chain(additional);
    let properties = schema.properties.iter().flatten().map(|(_, inner)| inner);
    below.chain(properties).find_map(unread)
}

fn junctors(schema: &JSONSchemaProps) -> [(&'static str, &[JSONSchemaProps]); 3] {
    [
        ("allOf", checks::list(&schema.all_of)),
        ("anyOf", checks::list(&schema.any_of)),
        ("oneOf", checks::list(&schema.one_of)),
    ]
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// `anyOf` an integer and a string: what int-or-string may say of itself.
fn is_int_or_string(list: &[JSONSchemaProps]) -> bool {
    let only = |kind: &str| JSONSchemaProps {
        type_: Some(kind.to_owned()),
        ..JSONSchemaProps::default()
    };
    matches!(list, [a, b] if *a == only("integer") && *b == only("string"))
}

fn invariants<'d>(schema: &'d JSONSchemaProps, level: Level, path: &Path, out: &mut Found<'_, 'd>) {
    let kind = checks::text(&schema.type_);
    let embedded = schema.x_kubernetes_embedded_resource == Some(true);
    let int_or_string = schema.x_kubernetes_int_or_string == Some(true);
    let preserve = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    if kind == "array" && items(schema).is_none() {
        out.push(field::required(path.child("items"), "must be specified"));
    }
    if let Some(items) = items(schema) {
        invariants(items, Level::Item, &path.child("items"), out);
    }
    let properties = path.child("properties");
    for (name, inner) in schema.properties.iter().flatten() {
        invariants(inner, Level::Field, &properties.key(name), out);
    }
    if let Some(additional) = &schema.additional_properties {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            out.push(field::forbidden(
                path.clone(),
                "must not be used at the root",
            ));
        }
        if let JSONSchemaPropsOrBool::Schema(inner) = additional {
            invariants(inner, Level::Field, &path, out);
        }
        if embedded {
            let text = "must not be used if x-kubernetes-embedded-resource is set";
            out.push(field::forbidden(path, text));
        }
    }
    if int_or_string {
        let text = "must be false if x-kubernetes-int-or-string is true";
        for (name, set) in [
            ("x-kubernetes-preserve-unknown-fields", preserve),
            ("x-kubernetes-embedded-resource", embedded),
        ] {
            if set {
                out.push(field::invalid(path.child(name), true, text));
            }
        }
    }
    values(schema, false, path, out);

    let type_path = path.child("type");
    if embedded && kind != "object" {
        let text = "must be object if x-kubernetes-embedded-resource is true";
        out.push(if kind.is_empty() {
            field::required(type_path.clone(), text)
        } else {
            field::invalid(type_path.clone(), kind, text)
        });
    } else if kind.is_empty() && !int_or_string && !preserve {
        let text = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        out.push(field::required(type_path.clone(), text));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        out.push(field::invalid(
            type_path,
            kind,
            "must be object at the root",
        ));
    }
    metadata(schema, level, embedded, &properties, &mut out.errors);
    let has_properties = schema.properties.iter().flatten().next().is_some();
    if embedded && !preserve && !has_properties {
        let text = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        out.push(field::required(properties, text));
    }
}

/// Schemas say nothing of metadata but of names.
fn metadata(
    schema: &JSONSchemaProps,
    level: Level,
    embedded: bool,
    path: &Path,
    out: &mut ErrorList,
) {
    let is_resource = level == Level::Root || embedded;
    let property = |name: &str| schema.properties.as_ref().and_then(|all| all.get(name));
    for name in ["kind", "apiVersion"] {
        if let Some(found) = property(name).filter(|_| is_resource) {
            let kind = checks::text(&found.type_);
            if kind != "string" {
                let path = path.key(name).child("type");
                out.push(field::invalid(path, kind, "must be string"));
            }
        }
    }
    let Some(found) = property("metadata") else {
        return;
    };
    let path = path.key("metadata");
    let kind = checks::text(&found.type_);
    if is_resource && kind != "object" {
        out.push(field::invalid(path.child("type"), kind, "must be object"));
    }
    if level != Level::Root {
        return;
    }
    let mut rest = found.clone();
    let names = ["name", "generateName"];
    if let Some(properties) = &mut rest.properties {
        properties.retain(|name, _| !names.contains(&name.as_str()));
    }
    rest.properties = rest.properties.filter(|properties| !properties.is_empty());
    rest.type_ = None;
    rest.default = None;
    if rest != JSONSchemaProps::default() {
        let text = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        out.push(field::forbidden(path, text));
    }
}

/// `excused` is one whose `anyOf` says that it is an integer or a string.
fn values<'d>(schema: &'d JSONSchemaProps, excused: bool, path: &Path, out: &mut Found<'_, 'd>) {
    let first = schema.all_of.iter().flatten().next();
    let excuses_first = first.is_some_and(|first| is_int_or_string(checks::list(&first.any_of)));
    for (name, list) in junctors(schema) {
        if name == "anyOf" && (excused || is_int_or_string(list)) {
            continue;
        }
        for (at, inner) in list.iter().enumerate() {
            let excused = name == "allOf" && at == 0 && excuses_first;
            nested(inner, excused, &path.child(name).index(at), out);
        }
    }
    if let Some(inner) = &schema.not {
        nested(inner, false, &path.child("not"), out);
    }
    if let Some(pattern) = schema.pattern.as_deref().filter(|p| !p.is_empty())
        && let Some(fault) = out.patterns.fault(pattern)
    {
        let text = format!("must be a valid regular expression, but isn't: {fault}");
        out.push(field::invalid(path.child("pattern"), pattern, text));
    }
}

/// A schema below a junctor may only judge values.
fn nested<'d>(schema: &'d JSONSchemaProps, excused: bool, path: &Path, out: &mut Found<'_, 'd>) {
    values(schema, excused, path, out);
    if let Some(items) = items(schema) {
        nested(items, false, &path.child("items"), out);
    }
    for (name, inner) in schema.properties.iter().flatten() {
        nested(inner, false, &path.child("properties").key(name), out);
    }
    let is = |flag: Option<bool>| flag == Some(true);
    for (name, there, text) in [
        (
            "type",
            !checks::blank(&schema.type_),
            "must be empty to be structural",
        ),
        (
            "additionalProperties",
            schema.additional_properties.is_some(),
            "must be undefined to be structural",
        ),
        (
            "default",
            schema.default.is_some(),
            "must be undefined to be structural",
        ),
        (
            "title",
            !checks::blank(&schema.title),
            "must be empty to be structural",
        ),
        (
            "description",
            !checks::blank(&schema.description),
            "must be empty to be structural",
        ),
        (
            "nullable",
            is(schema.nullable),
            "must be false to be structural",
        ),
        (
            "x-kubernetes-preserve-unknown-fields",
            is(schema.x_kubernetes_preserve_unknown_fields),
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            is(schema.x_kubernetes_embedded_resource),
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            is(schema.x_kubernetes_int_or_string),
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            !checks::list(&schema.x_kubernetes_list_map_keys).is_empty(),
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            schema.x_kubernetes_list_type.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            schema.x_kubernetes_map_type.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-validations",
            !checks::list(&schema.x_kubernetes_validations).is_empty(),
            "must be empty to be structural",
        ),
    ] {
        if there {
            out.push(field::forbidden(path.child(name), text));
        }
    }
    if schema
        .properties
        .as_ref()
        .is_some_and(|all| all.contains_key("metadata"))
    {
        let path = path.child("properties").key("metadata");
        out.push(field::forbidden(
            path,
            "must not be specified in a nested context",
        ));
    }
}

fn complete_all(
    list: &[JSONSchemaProps],
    name: &str,
    said: Option<&JSONSchemaProps>,
    at: &Path,
    path: &Path,
    out: &mut ErrorList,
) {
    for (i, inner) in list.iter().enumerate() {
        complete(inner, said, at, &path.child(name).index(i), out);
    }
}

/// What a schema below a junctor speaks of must also be said outside: `said`, at `at`.
fn complete(
    schema: &JSONSchemaProps,
    said: Option<&JSONSchemaProps>,
    at: &Path,
    path: &Path,
    out: &mut ErrorList,
) {
    let Some(said) = said else {
        out.push(field::required(
            at.clone(),
            format!("because it is defined in {path}"),
        ));
        return;
    };
    for (name, list) in junctors(schema) {
        complete_all(list, name, Some(said), at, path, out);
    }
    if let Some(inner) = &schema.not {
        complete(inner, Some(said), at, &path.child("not"), out);
    }
    if let Some(inner) = items(schema) {
        complete(
            inner,
            items(said),
            &at.child("items"),
            &path.child("items"),
            out,
        );
    }
    for (name, inner) in schema.properties.iter().flatten() {
        let at = at.child("properties").key(name);
        let path = path.child("properties").key(name);
        match said.properties.as_ref().and_then(|all| all.get(name)) {
            None => {
                out.push(field::required(
                    at,
                    format!("because it is defined in {path}"),
                ));
            }
            Some(said) => complete(inner, Some(said), &at, &path, out),
        }
    }
}

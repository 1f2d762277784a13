//! The schema of a version, as it was written.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceValidation, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::{
    expressions::{self, Faulty, Known},
    structure,
};
use crate::{
    cel::OBJECT_LIMIT,
    field::{self, ErrorList, Path},
    kinds::checks,
    structural::{Rules, Schema, field_path},
};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What may stand at the root beside a status subresource.
const AT_ROOT: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
const AT_ROOT_TEXT: &str = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled";

/// What holds for a part of a schema because of where it is.
#[derive(Clone, Debug, Default)]
struct Place {
    root: bool,
    /// Why there can be no defaults.
    no_defaults: Option<String>,
    in_metadata: bool,
}

pub(super) fn validate<'d>(
    validation: &'d CustomResourceValidation,
    old: Option<&'d CustomResourceValidation>,
    known: &mut Known<'d>,
    has_status: bool,
    path: &Path,
) -> ErrorList {
    known.is_unchanged = old == Some(validation);
    let mut out = ErrorList::new();
    let Some(schema) = &validation.open_api_v3_schema else {
        return out;
    };
    let path = path.child("openAPIV3Schema");
    if has_status {
        out.extend(root(schema, &path));
    }
    if schema.nullable == Some(true) {
        let path = path.child("nullable");
        out.push(field::forbidden(
            path,
            "nullable cannot be true at the root",
        ));
    }
    // What is stored already is not judged more strictly than it was.
    let before = old.and_then(|old| old.open_api_v3_schema.as_ref());
    let was_structural = before.is_none_or(|old| {
        structure::unread(old).is_none()
            && structure::validate(old, &path, &mut known.patterns).is_empty()
    });
    let unread = structure::unread(schema).filter(|_| was_structural);
    let mut is_sound = was_structural && unread.is_none();
    if is_sound {
        let found = structure::validate(schema, &path, &mut known.patterns);
        let before = out.len();
        if found.is_empty() {
            let mut budget = OBJECT_LIMIT;
            let mut read = Schema::new(schema);
            // Its default is judged as a resource is.
            read.embedded = true;
            defaults(schema, &read, &path, true, &mut budget, &mut out);
        }
        out.extend(found);
        is_sound = out.len() == before;
    }
    let place = Place {
        root: true,
        ..Place::default()
    };
    let mut nodes = Nodes::default();
    node(schema, &path, &place, &mut nodes);
    out.extend(nodes.errors);
    if is_sound {
        expressions::check_all(schema, known, &nodes.faulty, &path, &mut out);
    }
    // Nearly always something else is found in such a schema.
    if let Some(why) = unread.filter(|_| out.is_empty()) {
        out.push(field::invalid(path, "", why));
    }
    out
}

fn root(schema: &JSONSchemaProps, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let kind = checks::text(&schema.type_);
    if !kind.is_empty() && kind != "object" {
        let text = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        out.push(field::invalid(path.child("type"), kind, text));
    }
    if let Ok(Value::Object(fields)) = serde_json::to_value(schema) {
        let other = fields.keys().any(|name| !AT_ROOT.contains(&name.as_str()));
        if other {
            out.push(field::invalid(
                path.clone(),
                Value::Object(fields),
                AT_ROOT_TEXT,
            ));
        }
    }
    out
}

/// What is wrong with the nodes of a schema, and with which.
#[derive(Default)]
struct Nodes {
    errors: ErrorList,
    faulty: Faulty,
}

/// Upstream's `ValidateCustomResourceDefinitionOpenAPISchema`.
fn node(schema: &JSONSchemaProps, path: &Path, place: &Place, out: &mut Nodes) {
    let before = out.errors.len();
    itself_and_below(schema, path, place, out);
    if out.errors.len() > before {
        out.faulty.insert(std::ptr::from_ref(schema));
    }
}

fn itself_and_below(schema: &JSONSchemaProps, path: &Path, place: &Place, out: &mut Nodes) {
    unsupported(schema, path, place, &mut out.errors);
    if schema.unique_items == Some(true) {
        let text =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        out.errors
            .push(field::forbidden(path.child("uniqueItems"), text));
    }
    let below = Place {
        root: false,
        ..place.clone()
    };
    let properties = schema.properties.iter().flatten();
    if let Some(additional) = &schema.additional_properties {
        let is_true = matches!(additional, JSONSchemaPropsOrBool::Bool(true));
        if properties.clone().next().is_some() && !is_true {
            let text = "additionalProperties and properties are mutual exclusive";
            out.errors
                .push(field::forbidden(path.child("additionalProperties"), text));
        }
        if let JSONSchemaPropsOrBool::Schema(inner) = additional {
            let mut below = below.clone();
            if place.in_metadata {
                let why = "inside additionalProperties applying to object metadata";
                below.no_defaults = Some(why.to_owned());
            }
            node(inner, &path.child("additionalProperties"), &below, out);
        }
    }
    let is_resource = place.root || schema.x_kubernetes_embedded_resource == Some(true);
    for (name, inner) in properties {
        let mut below = below.clone();
        if is_resource && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            below.in_metadata = true;
            if place.root {
                below.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        node(inner, &path.child("properties").key(name), &below, out);
    }
    if let Some(inner) = &schema.not {
        node(inner, &path.child("not"), &below, out);
    }
    for (name, list) in [
        ("allOf", &schema.all_of),
        ("oneOf", &schema.one_of),
        ("anyOf", &schema.any_of),
    ] {
        for (at, inner) in checks::list(list).iter().enumerate() {
            node(inner, &path.child(name).index(at), &below, out);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(inner)) = &schema.items {
        node(inner, &path.child("items"), &below, out);
    }
    extensions(schema, path, &mut out.errors);
    rules(schema, path, &mut out.errors);
}

/// What upstream reads and does not have.
fn unsupported(schema: &JSONSchemaProps, path: &Path, place: &Place, out: &mut ErrorList) {
    let kind = checks::text(&schema.type_);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        out.push(field::not_supported(path.child("type"), kind, &TYPES));
    }
    if schema.default.is_some()
        && let Some(why) = &place.no_defaults
    {
        let text = format!("must not be set {why}");
        out.push(field::forbidden(path.child("default"), text));
    }
    let some = |list: usize| list > 0;
    for (name, there) in [
        ("id", !checks::blank(&schema.id)),
        ("additionalItems", schema.additional_items.is_some()),
        (
            "patternProperties",
            some(schema.pattern_properties.iter().flatten().count()),
        ),
        (
            "definitions",
            some(schema.definitions.iter().flatten().count()),
        ),
        ("dependencies", schema.dependencies.is_some()),
        ("$ref", schema.ref_path.is_some()),
    ] {
        if there {
            let text = format!("{name} is not supported");
            out.push(field::forbidden(path.child(name), text));
        }
    }
    if kind == "null" {
        let text = "type cannot be set to null, use nullable as an alternative";
        out.push(field::forbidden(path.child("type"), text));
    }
    if matches!(&schema.items, Some(JSONSchemaPropsOrArray::Schemas(all)) if !all.is_empty()) {
        let text = "items must be a schema object and not an array";
        out.push(field::forbidden(path.child("items"), text));
    }
    if place.in_metadata && schema.x_kubernetes_embedded_resource == Some(true) {
        let path = path.child("x-kubernetes-embedded-resource");
        out.push(field::forbidden(
            path,
            "must not be used inside of resource meta",
        ));
    }
}

fn extensions(schema: &JSONSchemaProps, path: &Path, out: &mut ErrorList) {
    let kind = checks::text(&schema.type_);
    let wrong_type = |wanted: &str, extension: &str| {
        let path = path.child("type");
        let text = format!("must be {wanted} if {extension} is specified");
        if kind.is_empty() {
            field::required(path, text)
        } else {
            field::invalid(path, kind, text)
        }
    };
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        out.push(field::invalid(path, false, "must be true or undefined"));
    }
    if let Some(map_type) = schema.x_kubernetes_map_type.as_deref() {
        if kind != "object" {
            out.push(wrong_type("object", "x-kubernetes-map-type"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            out.push(field::not_supported(
                path,
                map_type,
                &["atomic", "granular"],
            ));
        }
    }
    let items = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
        _ => None,
    };
    let list_type = schema.x_kubernetes_list_type.as_deref();
    if let Some(list_type) = list_type {
        if kind != "array" {
            out.push(wrong_type("array", "x-kubernetes-list-type"));
        } else if let Some(items) = items.filter(|_| list_type == "set") {
            set_of(items, path, out);
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            let path = path.child("x-kubernetes-list-type");
            out.push(field::not_supported(
                path,
                list_type,
                &["atomic", "set", "map"],
            ));
        }
        if matches!(list_type, "set" | "map") && items.is_some_and(|i| i.nullable == Some(true)) {
            let text = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            out.push(field::forbidden(
                path.child("items").child("nullable"),
                text,
            ));
        }
    }
    let keys = checks::list(&schema.x_kubernetes_list_map_keys);
    if !keys.is_empty() && list_type != Some("map") {
        let path = path.child("x-kubernetes-list-type");
        let text = "must be map if x-kubernetes-list-map-keys is non-empty";
        out.push(match list_type {
            None => field::required(path, text),
            Some(other) => field::invalid(path, other, text),
        });
    }
    if list_type == Some("map") {
        map_of(schema, items, keys, path, out);
    }
}

fn set_of(items: &JSONSchemaProps, path: &Path, out: &mut ErrorList) {
    let text = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let path = path.child("items");
    match checks::text(&items.type_) {
        "array" => {
            if let Some(list_type) = &items.x_kubernetes_list_type
                && list_type != "atomic"
            {
                let path = path.child("x-kubernetes-list-type");
                out.push(field::invalid(path, list_type.as_str(), text));
            }
        }
        "object" if items.x_kubernetes_map_type.as_deref() != Some("atomic") => {
            let path = path.child("x-kubernetes-map-type");
            // Upstream tells the type of the list.
            let found = items.x_kubernetes_list_type.clone();
            out.push(field::invalid(path, found, text));
        }
        _ => {}
    }
}

fn map_of(
    schema: &JSONSchemaProps,
    items: Option<&JSONSchemaProps>,
    keys: &[String],
    path: &Path,
    out: &mut ErrorList,
) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        let text = "must not be empty if x-kubernetes-list-type is map";
        out.push(field::required(keys_path.clone(), text));
    }
    let items_path = path.child("items");
    let Some(items) = items else {
        out.push(match &schema.items {
            Some(several) => {
                let several = checks::json(several);
                let shown = format!(r#"{{"Schema":null,"JSONSchemas":{several}}}"#);
                let text = "must only have a single schema if x-kubernetes-list-type is map";
                field::invalid_spelled(items_path, &shown, text)
            }
            None => {
                let text = "must have a schema if x-kubernetes-list-type is map";
                field::required(items_path, text)
            }
        });
        return;
    };
    let kind = checks::text(&items.type_);
    if kind != "object" {
        let text = "must be object if parent array's x-kubernetes-list-type is map";
        out.push(field::invalid(items_path.child("type"), kind, text));
        return;
    }
    let properties = items_path.child("properties");
    for key in keys {
        let property = items.properties.as_ref().and_then(|all| all.get(key));
        let path = properties.key(key);
        match property {
            None => {
                let text = "entries must all be names of item properties";
                out.push(field::invalid(keys_path.clone(), keys.to_vec(), text));
            }
            Some(property) => {
                if matches!(checks::text(&property.type_), "array" | "object") {
                    let text =
                        "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    out.push(field::invalid(path.child("type"), kind, text));
                }
                if !checks::list(&items.required).contains(key) && property.default.is_none() {
                    let text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    out.push(field::required(path.child("default"), text));
                }
                if property.nullable == Some(true) {
                    let text =
                        "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                    out.push(field::forbidden(path.child("nullable"), text));
                }
            }
        }
    }
    if checks::repeats(keys).contains(&true) {
        // Once, for it names them all.
        let text = "must not contain duplicate entries";
        out.push(field::invalid(keys_path.clone(), keys.to_vec(), text));
    }
}

fn rules(schema: &JSONSchemaProps, path: &Path, out: &mut ErrorList) {
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (at, rule) in checks::list(&schema.x_kubernetes_validations)
        .iter()
        .enumerate()
    {
        let path = path.child("x-kubernetes-validations").index(at);
        let (text, message) = (rule.rule.trim(), checks::text(&rule.message));
        let trimmed = message.trim();
        if text.is_empty() {
            out.push(field::required(path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && trimmed.is_empty() {
            let text = "must be non-empty if specified";
            out.push(field::invalid(path.child("message"), message, text));
        } else if breaks(trimmed) {
            let text = "must not contain line breaks";
            out.push(field::invalid(path.child("message"), message, text));
        } else if breaks(text) && trimmed.is_empty() {
            let text = "message must be specified if rule contains line breaks";
            out.push(field::required(path.child("message"), text));
        }
        let expression = checks::text(&rule.message_expression);
        if !expression.is_empty() && expression.trim().is_empty() {
            let text = "messageExpression must be non-empty if specified";
            out.push(field::required(path.child("messageExpression"), text));
        }
        let reasons = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        if let Some(reason) = rule.reason.as_deref()
            && !reasons.contains(&reason)
        {
            out.push(field::not_supported(path.child("reason"), reason, &reasons));
        }
        let blamed = checks::text(&rule.field_path);
        let path = path.child("fieldPath");
        let mut wrong = |text| out.push(field::invalid(path.clone(), blamed, text));
        if !blamed.is_empty() && blamed.trim().is_empty() {
            wrong("must be non-empty if specified");
        }
        if breaks(blamed) {
            wrong("must not contain line breaks");
        }
        if !blamed.is_empty() && field_path::read(blamed, &Schema::new(schema)).is_none() {
            wrong("must be a valid path");
        }
    }
}

/// Defaults must be what the schema takes, and nothing that it would drop. Upstream does not look below
/// `additionalProperties`.
fn defaults(
    props: &JSONSchemaProps,
    schema: &Schema,
    path: &Path,
    root: bool,
    budget: &mut u64,
    out: &mut ErrorList,
) -> bool {
    if let Some(default) = &schema.default
        && !one_default(default, schema, &path.child("default"), budget, out)
    {
        return false;
    }
    if let (Some(JSONSchemaPropsOrArray::Schema(inner)), Some(schema)) =
        (&props.items, &schema.items)
        && !defaults(inner, schema, &path.child("items"), false, budget, out)
    {
        return false;
    }
    props.properties.iter().flatten().all(|(name, inner)| {
        let is_head = root && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
        let path = path.child("properties").key(name);
        match schema.properties.get(name).filter(|_| !is_head) {
            Some(schema) => defaults(inner, schema, &path, false, budget, out),
            None => true,
        }
    })
}

/// Upstream does not ask whether defaults repeat what may be there once, nor whether those of an integer or a text are
/// one. False if no more may be spent on the rules for defaults.
fn one_default(
    default: &Value,
    schema: &Schema,
    path: &Path,
    budget: &mut u64,
    out: &mut ErrorList,
) -> bool {
    let mut pruned = default.clone();
    schema.prune(&mut pruned, false, &mut |_| {});
    if pruned != *default {
        let text = "must not have unknown fields";
        out.push(field::invalid(path.clone(), default.clone(), text));
    }
    let below = |found: ErrorList| {
        found.into_iter().map(|error| field::Error {
            field: error.field.below(path),
            ..error
        })
    };
    for found in [
        schema.validate_embedded(default),
        schema.without_int_or_string().validate(default),
    ] {
        if !found.is_empty() {
            out.extend(below(found));
            return true;
        }
    }
    let rules = Rules::new(schema, schema.embedded);
    if rules.is_empty() {
        return true;
    }
    let (found, goes_on) = rules.check_default(schema, default, path, budget);
    out.extend(found);
    goes_on
}

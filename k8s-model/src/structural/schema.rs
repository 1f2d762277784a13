//! [`Schema`]: one node of a structural schema.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::formats::is_known as is_format;
use crate::patterns::Pattern;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A map of fields.
    Object,
    /// A list.
    Array,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
}

impl Kind {
    /// The type of that name.
    pub fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => return None,
        })
    }

    /// As it is written in a schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

/// How a list merges: `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// As one value. The default.
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map, by the values of some fields of its elements.
    Map,
}

/// How a map or an object merges: `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// As one value.
    Atomic,
    /// Field by field. The default.
    Granular,
}

/// What an object may have besides its `properties`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Additional {
    /// Not said: what is unknown is dropped.
    #[default]
    Unspecified,
    /// Anything, or nothing.
    Allowed(bool),
    /// Values of a schema.
    Schema(Box<Schema>),
}

/// One of `x-kubernetes-validations`, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What to say when it is false.
    pub message: Option<String>,
    /// An expression for what to say.
    pub message_expression: Option<String>,
    /// The machine-readable reason: `FieldValueInvalid` and so on.
    pub reason: Option<String>,
    /// The field at fault, as a path below the node.
    pub field_path: Option<String>,
    /// Whether the rule runs without an old value too.
    pub optional_old_self: Option<bool>,
}

/// One node of a structural schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The type; none where anything goes, or in a nested validation.
    pub kind: Option<Kind>,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// Whether `null` is a value of it.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: an object with `apiVersion`, `kind` and `metadata`.
    pub embedded: bool,
    /// The fields of an object.
    pub properties: BTreeMap<String, Schema>,
    /// What else an object may have.
    pub additional: Additional,
    /// The elements of a list.
    pub items: Option<Box<Schema>>,
    /// What stands in where nothing is said.
    pub default: Option<Value>,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<MapType>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// The fields that must be there.
    pub required: Vec<String>,
    /// The format of a text or number, of those that values are held to.
    pub format: Option<String>,
    /// The values that are allowed.
    pub enumeration: Option<Vec<Value>>,
    /// The least number.
    pub minimum: Option<f64>,
    /// Whether `minimum` itself is too small.
    pub exclusive_minimum: bool,
    /// The greatest number.
    pub maximum: Option<f64>,
    /// Whether `maximum` itself is too great.
    pub exclusive_maximum: bool,
    /// What numbers are multiples of.
    pub multiple_of: Option<f64>,
    /// The least number of characters.
    pub min_length: Option<i64>,
    /// The greatest number of characters.
    pub max_length: Option<i64>,
    /// What a text matches. It is compiled when it is first asked.
    pub pattern: Option<Pattern>,
    /// The least number of elements.
    pub min_items: Option<i64>,
    /// The greatest number of elements.
    pub max_items: Option<i64>,
    /// Whether no two elements may be equal.
    pub unique_items: bool,
    /// The least number of fields.
    pub min_properties: Option<i64>,
    /// The greatest number of fields.
    pub max_properties: Option<i64>,
    /// Validations that must all hold.
    pub all_of: Vec<Schema>,
    /// Validations of which at least one must hold.
    pub any_of: Vec<Schema>,
    /// Validations of which exactly one must hold.
    pub one_of: Vec<Schema>,
    /// A validation that must not hold.
    pub not: Option<Box<Schema>>,
    /// The type, where there is none of that name.
    pub(super) other_kind: Option<Box<str>>,
    /// Whether a default is anywhere in it.
    pub(super) has_defaults: bool,
    /// Whether a list in it, or it itself, is a set or a map.
    pub(crate) merges: bool,
    /// Whether there is a resource within it.
    pub(super) embeds: bool,
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        // Regular expressions are equal if their texts are.
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Schema {
    /// Reads a schema. What is not structural is left out: whether there is any such thing is a
    /// question for the validation of custom resource definitions.
    pub fn new(props: &JSONSchemaProps) -> Self {
        let all = |list: &Option<Vec<JSONSchemaProps>>| {
            let list = list.as_deref().unwrap_or_default();
            list.iter().map(Schema::new).collect::<Vec<_>>()
        };
        let pattern = props.pattern.as_ref().filter(|p| !p.is_empty());
        let of = props.type_.as_deref().unwrap_or_default();
        let kind = Kind::named(of);
        let mut schema = Schema {
            kind,
            other_kind: (kind.is_none() && !of.is_empty()).then(|| of.into()),
            int_or_string: props.x_kubernetes_int_or_string == Some(true),
            nullable: props.nullable == Some(true),
            preserve_unknown: props.x_kubernetes_preserve_unknown_fields == Some(true),
            embedded: props.x_kubernetes_embedded_resource == Some(true),
            properties: props
                .properties
                .iter()
                .flatten()
                .map(|(name, props)| (name.clone(), Schema::new(props)))
                .collect(),
            additional: match &props.additional_properties {
                None => Additional::Unspecified,
                Some(JSONSchemaPropsOrBool::Bool(allowed)) => Additional::Allowed(*allowed),
                Some(JSONSchemaPropsOrBool::Schema(props)) => {
                    Additional::Schema(Box::new(Schema::new(props)))
                }
            },
            items: match &props.items {
                Some(JSONSchemaPropsOrArray::Schema(props)) => Some(Box::new(Schema::new(props))),
                _ => None,
            },
            default: props.default.as_ref().map(|json| json.0.clone()),
            list_type: match props.x_kubernetes_list_type.as_deref() {
                Some("set") => Some(ListType::Set),
                Some("map") => Some(ListType::Map),
                Some("atomic") => Some(ListType::Atomic),
                _ => None,
            },
            list_map_keys: props.x_kubernetes_list_map_keys.clone().unwrap_or_default(),
            map_type: match props.x_kubernetes_map_type.as_deref() {
                Some("atomic") => Some(MapType::Atomic),
                Some("granular") => Some(MapType::Granular),
                _ => None,
            },
            rules: props
                .x_kubernetes_validations
                .iter()
                .flatten()
                .map(|rule| Rule {
                    rule: rule.rule.clone(),
                    message: rule.message.clone(),
                    message_expression: rule.message_expression.clone(),
                    reason: rule.reason.clone(),
                    field_path: rule.field_path.clone(),
                    optional_old_self: rule.optional_old_self,
                })
                .collect(),
            required: props.required.clone().unwrap_or_default(),
            format: (props.format.clone())
                .filter(|format| is_format(kind.map_or("", Kind::as_str), format)),
            enumeration: props
                .enum_
                .as_ref()
                .filter(|values| !values.is_empty())
                .map(|values| values.iter().map(|json| json.0.clone()).collect()),
            minimum: props.minimum,
            exclusive_minimum: props.exclusive_minimum == Some(true),
            maximum: props.maximum,
            exclusive_maximum: props.exclusive_maximum == Some(true),
            multiple_of: props.multiple_of,
            min_length: props.min_length,
            max_length: props.max_length,
            pattern: pattern.map(Pattern::new),
            min_items: props.min_items,
            max_items: props.max_items,
            unique_items: props.unique_items == Some(true),
            min_properties: props.min_properties,
            max_properties: props.max_properties,
            all_of: all(&props.all_of),
            any_of: all(&props.any_of),
            one_of: all(&props.one_of),
            not: props
                .not
                .as_deref()
                .map(|props| Box::new(Schema::new(props))),
            has_defaults: false,
            merges: false,
            embeds: false,
        };
        schema.has_defaults =
            schema.default.is_some() || schema.children().any(|child| child.has_defaults);
        schema.embeds = schema.embedded || schema.children().any(|child| child.embeds);
        schema.merges = matches!(schema.list_type, Some(ListType::Set | ListType::Map))
            || schema.children().any(|child| child.merges);
        schema
    }

    /// Itself, where all goes for what is an integer or a text.
    pub(crate) fn without_int_or_string(&self) -> Self {
        let mut out = self.clone();
        out.forget_int_or_string();
        out
    }

    fn forget_int_or_string(&mut self) {
        self.int_or_string = false;
        let additional = match &mut self.additional {
            Additional::Schema(schema) => Some(&mut **schema),
            _ => None,
        };
        let inner = (self.properties.values_mut())
            .chain(additional)
            .chain(self.items.as_deref_mut());
        inner.for_each(Schema::forget_int_or_string);
    }

    /// A schema that takes any object as it is.
    pub fn anything() -> Self {
        Schema {
            kind: Some(Kind::Object),
            preserve_unknown: true,
            ..Schema::default()
        }
    }

    /// Whether there is a default anywhere in it.
    pub fn has_defaults(&self) -> bool {
        self.has_defaults
    }

    /// The schemas of what is in a value: of fields, of other fields and of elements.
    pub fn children(&self) -> impl Iterator<Item = &Schema> {
        let additional = match &self.additional {
            Additional::Schema(schema) => Some(&**schema),
            _ => None,
        };
        (self.properties.values())
            .chain(additional)
            .chain(self.items.as_deref())
    }

    /// The schema of a field, named or not.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }

    /// Whether `null` in its place stands for nothing at all.
    pub(crate) fn is_null_nothing(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }
}

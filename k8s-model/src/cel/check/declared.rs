//! What a schema declares: the type of its values, how small and how large they can be.
//!
//! As upstream's `SchemaDeclType` reads schemas for CEL (apiserver's `pkg/cel/common/schemas.go`).

use std::{collections::HashSet, sync::LazyLock};

use super::types::{Object, Type};
use crate::structural::{Additional, Kind, Schema};

/// The largest request, in bytes.
const REQUEST: u64 = 3 * 1024 * 1024;
/// How long a duration or a time is in JSON, at most.
const LONGEST_TIME: u64 = 32;
/// How long a date is in JSON.
const DATE: u64 = 12;

/// How long the name of an object is, at most.
const LONGEST_NAME: i64 = 253;

/// A text of any length.
static TEXT: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema::default();
    schema.kind = Some(Kind::String);
    schema
});

/// What rules are told of the metadata of objects.
static METADATA: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema::anything();
    for name in ["name", "generateName"] {
        let mut name_schema = TEXT.clone();
        name_schema.max_length = Some(LONGEST_NAME);
        schema.properties.insert(name.to_owned(), name_schema);
    }
    schema
});

/// The type of the values of a schema. Nothing if rules are not told of them, as nothing is known of what is in them.
pub(super) fn type_of(schema: &Schema, is_resource: bool) -> Option<Type<'_>> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    Some(match schema.kind {
        None if schema.preserve_unknown => return None,
        None => Type::Dyn,
        Some(Kind::Array) => {
            let items = schema.items.as_deref()?;
            Type::list(type_of(items, items.embedded)?)
        }
        Some(Kind::Object) => match &schema.additional {
            Additional::Schema(values) => {
                Type::map(Type::String, type_of(values, values.embedded)?)
            }
            _ => Type::Object(Object {
                schema,
                is_resource,
            }),
        },
        Some(Kind::String) => match schema.format.as_deref() {
            Some("byte") => Type::Bytes,
            Some("duration") => Type::Duration,
            Some("date" | "date-time") => Type::Timestamp,
            _ => Type::String,
        },
        Some(Kind::Integer) => Type::Int,
        Some(Kind::Number) => Type::Double,
        Some(Kind::Boolean) => Type::Bool,
    })
}

impl<'s> Object<'s> {
    /// The schema of a field, by the name that it has in expressions, and whether it is a resource's.
    pub(super) fn field(self, name: &str) -> Option<(&'s Schema, bool)> {
        if self.is_resource {
            match name {
                "apiVersion" | "kind" => return Some((&TEXT, false)),
                "metadata" => return Some((&METADATA, false)),
                _ => {}
            }
        }
        let properties = &self.schema.properties;
        let found = properties.get(name).or_else(|| {
            let plain = super::super::value::unescape(name)?;
            properties.get(&plain)
        })?;
        Some((found, found.embedded))
    }
}

/// How large the values of a schema are at most: characters of a text, elements of a list, entries of a map.
pub(super) fn max_size(schema: &Schema) -> u64 {
    let said = |bound: Option<i64>| bound.map(|n| u64::try_from(n).unwrap_or(0));
    if schema.int_or_string {
        return said(schema.max_length).map_or(REQUEST - 2, |n| n.saturating_mul(4));
    }
    match schema.kind {
        Some(Kind::Array) => said(schema.max_items).unwrap_or_else(|| {
            let items = schema.items.as_deref().map_or(0, min_bytes);
            (REQUEST - 2) / (items + 1)
        }),
        Some(Kind::Object) => match &schema.additional {
            Additional::Schema(values) => said(schema.max_properties)
                .unwrap_or_else(|| (REQUEST - 2) / (min_bytes(values) + 6)),
            _ => 0,
        },
        Some(Kind::String) => match schema.format.as_deref() {
            Some("byte") => said(schema.max_length).unwrap_or(REQUEST - 2),
            Some("duration" | "date-time") => LONGEST_TIME,
            Some("date") => DATE,
            // Characters are counted, and each may have four bytes.
            _ => match (said(schema.max_length), &schema.enumeration) {
                (Some(bound), _) => bound.saturating_mul(4),
                (None, Some(values)) => {
                    let lengths = values.iter().map(|v| v.as_str().map_or(0, str::len));
                    lengths.max().unwrap_or(0) as u64
                }
                (None, None) => REQUEST - 2,
            },
        },
        _ => 0,
    }
}

/// How many bytes of JSON a value of a schema has at least.
fn min_bytes(schema: &Schema) -> u64 {
    if schema.int_or_string {
        return 1;
    }
    match schema.kind {
        Some(Kind::Object) if !matches!(schema.additional, Additional::Schema(_)) => {
            let names: HashSet<&str> = schema.required.iter().map(String::as_str).collect();
            let required = schema.properties.iter().filter(|(name, field)| {
                field.default.is_none()
                    && names.contains(name.as_str())
                    && type_of(field, field.embedded).is_some()
            });
            required.fold(2, |sum: u64, (name, field)| {
                sum.saturating_add(name.len() as u64 + 4)
                    .saturating_add(min_bytes(field))
            })
        }
        Some(Kind::Object | Kind::Array) => 2,
        Some(Kind::String) => match schema.format.as_deref() {
            Some("duration") => 3,
            Some("date") => DATE,
            Some("date-time") => 21,
            _ => 2,
        },
        Some(Kind::Boolean) => 4,
        _ => 1,
    }
}

/// How many values of a schema an object can hold at most, where nothing around them has a bound.
pub(crate) fn max_cardinality(schema: &Schema) -> u64 {
    REQUEST / (min_bytes(schema) + 1)
}

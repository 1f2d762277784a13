//! [`Shape`]: what apply must know of a type, whether it is built in or from a custom resource.

use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::Value;

use crate::{
    protobuf::is_always_written,
    schema::{self, Field, Merge, Type},
};

/// What a value is, as far as ownership and merging go.
///
/// A built-in type is [`Shape::Type`]; a custom resource's comes from its schema by
/// [`Shape::from_structural`].
#[derive(Clone, Debug)]
pub enum Shape {
    /// A string.
    String,
    /// A number.
    Number,
    /// A boolean.
    Boolean,
    /// Any scalar.
    Scalar,
    /// Anything, as one value.
    Atomic,
    /// Anything: maps key by key, all else as one value.
    Untyped,
    /// A list.
    List(Arc<List>),
    /// A map or an object with fields.
    Map(Arc<Map>),
    /// A built-in type.
    Type(Type),
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    /// How it is merged.
    pub relation: Relation,
    /// What is in it.
    pub element: Shape,
}

/// How a list is merged: `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// As one value.
    Atomic,
    /// As a set of scalars.
    Set,
    /// By the keys of its elements, sorted by name.
    Keys(Vec<Key>),
}

/// A key of a list's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name of the field.
    pub name: String,
    /// What it is where an element does not have it, as JSON.
    pub default: Option<String>,
}

/// A map or an object with fields.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// Whether it is one value.
    pub atomic: bool,
    /// Its fields, sorted by name.
    pub fields: Vec<MapField>,
    /// What is in it besides the fields, if there may be anything.
    pub element: Option<Shape>,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct MapField {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub shape: Shape,
    /// Whether upstream writes it even where nobody set it: nobody owns it then for having set it.
    pub always: bool,
}

/// A shape in its own words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'s> {
    String,
    Number,
    Boolean,
    Scalar,
    Atomic,
    Untyped,
    List(&'s List),
    Map(&'s Map),
}

/// How a certain value of a shape is treated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Treat<'s> {
    Leaf,
    List(&'s List),
    Map(&'s Map),
}

static UNTYPED_MAP: LazyLock<Map> = LazyLock::new(|| Map {
    atomic: false,
    fields: Vec::new(),
    element: Some(Shape::Untyped),
});

impl List {
    pub(super) fn is_atomic(&self) -> bool {
        self.relation == Relation::Atomic
    }
}

impl Map {
    pub(super) fn field(&self, name: &[u8]) -> Option<&MapField> {
        let found = self
            .fields
            .binary_search_by(|field| field.name.as_bytes().cmp(name));
        found.ok().map(|at| &self.fields[at])
    }

    /// Where the field is of that name, which is likely to come soon after `from`.
    pub(super) fn position_from(&self, from: usize, name: &[u8]) -> Option<usize> {
        let is = |field: &MapField| field.name.as_bytes() == name;
        let after = self.fields.get(from..)?.iter().position(is);
        after.map(|at| from + at).or_else(|| {
            let by_name = |field: &MapField| field.name.as_bytes().cmp(name);
            self.fields.binary_search_by(by_name).ok()
        })
    }

    /// The shape of what has that name.
    pub(super) fn below(&self, name: &[u8]) -> &Shape {
        self.field(name)
            .map(|field| &field.shape)
            .or(self.element.as_ref())
            .unwrap_or(&Shape::Untyped)
    }
}

impl Shape {
    pub(super) fn form(&self) -> Form<'_> {
        match self {
            Shape::String => Form::String,
            Shape::Number => Form::Number,
            Shape::Boolean => Form::Boolean,
            Shape::Scalar => Form::Scalar,
            Shape::Atomic => Form::Atomic,
            Shape::Untyped => Form::Untyped,
            Shape::List(list) => Form::List(list),
            Shape::Map(map) => Form::Map(map),
            Shape::Type(ty) => compiled(*ty).form(),
        }
    }

    /// Whether it may be anything, as one value.
    pub(super) fn is_anything(&self) -> bool {
        matches!(self.form(), Form::Atomic)
    }

    /// How a value is treated that is an object, or a list, or neither.
    pub(super) fn treat(&self, is_object: bool, is_array: bool) -> Treat<'_> {
        match self.form() {
            Form::List(list) if is_array && !list.is_atomic() => Treat::List(list),
            Form::Map(map) if is_object && !map.atomic => Treat::Map(map),
            Form::Untyped if is_object => Treat::Map(&UNTYPED_MAP),
            _ => Treat::Leaf,
        }
    }

    /// The shape of a kind without a schema: only its metadata is known.
    pub fn unknown_kind() -> Shape {
        let field = |name: &str, shape| MapField {
            name: name.to_owned(),
            shape,
            always: name == "metadata",
        };
        let mut fields = vec![
            field("apiVersion", Shape::String),
            field("kind", Shape::String),
        ];
        if let Some(meta) = Type::named(OBJECT_META) {
            fields.push(field("metadata", Shape::Type(meta)));
        }
        Shape::Map(Arc::new(Map {
            atomic: false,
            fields,
            element: Some(Shape::Untyped),
        }))
    }

    /// The shape of a custom resource, from its structural schema (`openAPIV3Schema`), with the
    /// metadata that every object has.
    ///
    /// Goes by `type`, `properties`, `additionalProperties`, `items` and the extensions
    /// `x-kubernetes-list-type`, `x-kubernetes-list-map-keys`, `x-kubernetes-map-type`,
    /// `x-kubernetes-int-or-string`, `x-kubernetes-preserve-unknown-fields` and
    /// `x-kubernetes-embedded-resource`.
    pub fn from_structural(schema: &Value) -> Shape {
        embedded(structural(schema, 64))
    }
}

const OBJECT_META: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// An object's shape with the fields that every object has.
fn embedded(shape: Shape) -> Shape {
    let (Shape::Map(ours), Shape::Map(common)) = (shape, Shape::unknown_kind()) else {
        return Shape::unknown_kind();
    };
    let mut map = Map::clone(&ours);
    map.fields
        .retain(|field| !common.fields.iter().any(|c| c.name == field.name));
    map.fields.extend(common.fields.iter().cloned());
    map.fields.sort_by(|a, b| a.name.cmp(&b.name));
    Shape::Map(Arc::new(map))
}

fn structural(schema: &Value, depth: usize) -> Shape {
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
    let Some(depth) = depth.checked_sub(1) else {
        return Shape::Untyped;
    };
    if flag("x-kubernetes-int-or-string") {
        return Shape::Scalar;
    }
    let preserve = flag("x-kubernetes-preserve-unknown-fields");
    match text("type") {
        "string" => Shape::String,
        "number" | "integer" => Shape::Number,
        "boolean" => Shape::Boolean,
        "array" => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let relation = match text("x-kubernetes-list-type") {
                "set" => Relation::Set,
                "map" => Relation::Keys(structural_keys(schema, items)),
                _ => Relation::Atomic,
            };
            Shape::List(Arc::new(List {
                relation,
                element: structural(items, depth),
            }))
        }
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let mut fields: Vec<MapField> = properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| MapField {
                    name: name.clone(),
                    shape: structural(schema, depth),
                    always: false,
                })
                .collect();
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            let element = match schema.get("additionalProperties") {
                Some(Value::Object(_)) => Some(structural(&schema["additionalProperties"], depth)),
                Some(Value::Bool(true)) => Some(Shape::Untyped),
                _ if preserve || fields.is_empty() => Some(Shape::Untyped),
                _ => None,
            };
            let shape = Shape::Map(Arc::new(Map {
                atomic: text("x-kubernetes-map-type") == "atomic",
                fields,
                element,
            }));
            if flag("x-kubernetes-embedded-resource") {
                embedded(shape)
            } else {
                shape
            }
        }
        _ if preserve => Shape::Untyped,
        _ => Shape::Atomic,
    }
}

fn structural_keys(list: &Value, items: &Value) -> Vec<Key> {
    let names = list
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array);
    let mut keys: Vec<Key> = names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| Key {
            name: name.to_owned(),
            default: items
                .get("properties")
                .and_then(|p| p.get(name)?.get("default"))
                .map(Value::to_string),
        })
        .collect();
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    keys
}

/// The shapes of the built-in types, made of the generated table when they are first asked for.
static COMPILED: LazyLock<Box<[OnceLock<Shape>]>> =
    LazyLock::new(|| (0..schema::type_count()).map(|_| OnceLock::new()).collect());

fn compiled(ty: Type) -> &'static Shape {
    static UNKNOWN: Shape = Shape::Untyped;
    COMPILED
        .get(ty.index())
        .map_or(&UNKNOWN, |cell| cell.get_or_init(|| compile(ty)))
}

fn compile(ty: Type) -> Shape {
    if let Some(special) = ty.special() {
        return match special {
            schema::Shape::Any | schema::Shape::Object => Shape::Atomic,
            _ => Shape::Scalar,
        };
    }
    let name = ty.name();
    let is_kind = ty.field("metadata").is_some();
    let mut fields: Vec<MapField> = ty
        .fields()
        .map(|field| MapField {
            name: field.name().to_owned(),
            shape: shape_of(&field),
            always: is_always_written(&name, field.name()).unwrap_or_else(|| {
                let is_value =
                    || matches!(field.name(), "metadata" | "spec" | "status" | "template");
                field.is_required() || (is_kind && is_value())
            }),
        })
        .collect();
    if fields.is_empty() {
        return untyped_map();
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Shape::Map(Arc::new(Map {
        atomic: ty.is_atomic(),
        fields,
        element: None,
    }))
}

fn untyped_map() -> Shape {
    Shape::Map(Arc::new(Map {
        atomic: false,
        fields: Vec::new(),
        element: Some(Shape::Untyped),
    }))
}

fn shape_of(field: &Field) -> Shape {
    let merge = field.merge();
    match field.shape() {
        schema::Shape::List(elements) => {
            let relation = match merge {
                Merge::Map(keys) => Relation::Keys(keys_of(elements.shape(), keys)),
                Merge::Set => Relation::Set,
                _ => Relation::Atomic,
            };
            Shape::List(Arc::new(List {
                relation,
                element: plain(elements.shape()),
            }))
        }
        schema::Shape::Map(elements) => Shape::Map(Arc::new(Map {
            atomic: merge == Merge::Atomic,
            fields: Vec::new(),
            element: Some(plain(elements.shape())),
        })),
        schema::Shape::Type(ty) if (merge == Merge::Atomic) != ty.is_atomic() => {
            match compiled(ty) {
                Shape::Map(map) => Shape::Map(Arc::new(Map {
                    atomic: merge == Merge::Atomic,
                    ..Map::clone(map)
                })),
                other => other.clone(),
            }
        }
        shape => plain(shape),
    }
}

/// A shape that no field says anything more about.
fn plain(shape: schema::Shape) -> Shape {
    match shape {
        schema::Shape::String(_) => Shape::String,
        schema::Shape::Integer(_) | schema::Shape::Number => Shape::Number,
        schema::Shape::Boolean => Shape::Boolean,
        schema::Shape::IntOrString | schema::Shape::Quantity => Shape::Scalar,
        schema::Shape::Object | schema::Shape::Any => Shape::Atomic,
        schema::Shape::List(elements) => Shape::List(Arc::new(List {
            relation: Relation::Atomic,
            element: plain(elements.shape()),
        })),
        schema::Shape::Map(elements) => Shape::Map(Arc::new(Map {
            atomic: false,
            fields: Vec::new(),
            element: Some(plain(elements.shape())),
        })),
        schema::Shape::Type(ty) => Shape::Type(ty),
    }
}

fn keys_of(element: schema::Shape, names: &str) -> Vec<Key> {
    let mut keys: Vec<Key> = names
        .split(',')
        .map(|name| Key {
            name: name.to_owned(),
            default: key_default(element, name),
        })
        .collect();
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    keys
}

/// What upstream's schema has for a key that is left out: the zero value of a required field, and
/// TCP for a protocol.
fn key_default(element: schema::Shape, name: &str) -> Option<String> {
    let schema::Shape::Type(ty) = element else {
        return None;
    };
    let field = ty.field(name)?;
    match field.shape() {
        schema::Shape::String(_) if name == "protocol" => Some("\"TCP\"".to_owned()),
        schema::Shape::String(_) if field.is_required() => Some("\"\"".to_owned()),
        schema::Shape::Integer(_) if field.is_required() => Some("0".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(shape: &Shape) -> &Map {
        match shape.form() {
            Form::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    fn list(shape: &Shape) -> &List {
        match shape.form() {
            Form::List(list) => list,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn built_in_types_know_their_keys_and_defaults() {
        let pod = Shape::Type(Type::of_kind("", "v1", "Pod").unwrap());
        let spec = map(&pod).field(b"spec").unwrap();
        assert!(spec.always);
        let containers = list(map(&spec.shape).below(b"containers"));
        let ports = list(map(&containers.element).below(b"ports"));
        assert_eq!(
            ports.relation,
            Relation::Keys(vec![
                Key {
                    name: "containerPort".into(),
                    default: Some("0".into())
                },
                Key {
                    name: "protocol".into(),
                    default: Some("\"TCP\"".into())
                },
            ])
        );
        assert!(list(map(&spec.shape).below(b"tolerations")).is_atomic());
        assert!(map(map(&spec.shape).below(b"nodeSelector")).atomic);
    }

    #[test]
    fn every_type_compiles() {
        for row in crate::resources() {
            let ty = Type::of_kind(row.group, row.version, row.kind).unwrap();
            let shape = Shape::Type(ty);
            assert!(map(&shape).field(b"metadata").is_some(), "{row:?}");
        }
    }

    #[test]
    fn a_custom_resource_has_the_shape_that_its_schema_says() {
        let shape = Shape::from_structural(&json!({
            "type": "object",
            "properties": {
                "metadata": {"type": "object"},
                "spec": {"type": "object", "properties": {
                    "rules": {"type": "array", "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port", "host"],
                        "items": {"type": "object", "properties": {
                            "host": {"type": "string", "default": "*"}, "port": {"type": "integer"}}}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "plain": {"type": "array", "items": {"type": "string"}},
                    "whole": {"type": "object", "x-kubernetes-map-type": "atomic",
                        "additionalProperties": {"type": "string"}},
                    "either": {"x-kubernetes-int-or-string": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }},
            },
        }));
        let meta = map(map(&shape).below(b"metadata"));
        assert!(meta.field(b"labels").is_some());
        let spec = map(map(&shape).below(b"spec"));
        let Relation::Keys(keys) = &list(spec.below(b"rules")).relation else {
            panic!()
        };
        assert_eq!(keys[0].name, "host");
        assert_eq!(keys[0].default.as_deref(), Some("\"*\""));
        assert_eq!(keys[1].default, None);
        assert_eq!(list(spec.below(b"tags")).relation, Relation::Set);
        assert!(list(spec.below(b"plain")).is_atomic());
        assert!(map(spec.below(b"whole")).atomic);
        assert!(matches!(spec.below(b"either").form(), Form::Scalar));
        assert!(matches!(
            map(spec.below(b"free")).element,
            Some(Shape::Untyped)
        ));
        assert!(map(&shape).element.is_none());
    }
}

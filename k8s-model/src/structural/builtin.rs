//! Schemas of built-in types: what expressions about their objects are checked against.

use std::collections::BTreeMap;

use super::{Additional, Kind, Schema};
use crate::schema::{Shape, Type};

/// How deep types may nest before anything is taken for good: one of them contains itself.
const MAX_DEPTH: usize = 16;

impl Schema {
    /// The schema of a built-in type: its fields and their types, and nothing of what is required or allowed.
    pub fn of_type(ty: Type) -> Self {
        of_shape(Shape::Type(ty), MAX_DEPTH)
    }
}

fn of_shape(shape: Shape, depth: usize) -> Schema {
    let scalar = |kind: Kind, format: &str| Schema {
        kind: Some(kind),
        format: Some(format.to_owned()).filter(|format| !format.is_empty()),
        ..Schema::default()
    };
    if depth == 0 {
        return Schema::default();
    }
    match shape.resolved() {
        Shape::String(format) => scalar(Kind::String, format),
        Shape::Integer(format) => scalar(Kind::Integer, format),
        Shape::Number => scalar(Kind::Number, ""),
        Shape::Boolean => scalar(Kind::Boolean, ""),
        Shape::Quantity => scalar(Kind::String, ""),
        Shape::Object | Shape::Any => Schema::default(),
        Shape::IntOrString => Schema {
            int_or_string: true,
            ..Schema::default()
        },
        Shape::List(elements) => Schema {
            kind: Some(Kind::Array),
            items: Some(Box::new(of_shape(elements.shape(), depth - 1))),
            ..Schema::default()
        },
        Shape::Map(elements) => Schema {
            kind: Some(Kind::Object),
            additional: Additional::Schema(Box::new(of_shape(elements.shape(), depth - 1))),
            ..Schema::default()
        },
        Shape::Type(ty) => {
            let fields = ty.fields().map(|field| {
                let schema = of_shape(field.shape(), depth - 1);
                (field.name().to_owned(), schema)
            });
            Schema {
                kind: Some(Kind::Object),
                properties: fields.collect::<BTreeMap<_, _>>(),
                ..Schema::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::{Program, Scope};

    #[test]
    fn expressions_are_checked_against_built_in_types() {
        let schema = Schema::of_type(Type::of_kind("apps", "v1", "Deployment").unwrap());
        let check = |source: &str| {
            let scope = Scope::new().with("object", Some(&schema));
            Program::parse(source).unwrap().check(&scope)
        };
        assert_eq!(check("object.spec.replicas > 1").unwrap().result, "bool");
        assert!(check("object.spec.template.spec.containers.all(c, c.image != '')").is_ok());
        assert!(check("object.metadata.labels['a'] == 'b'").is_ok());
        let refused = check("object.spec.replica > 1").unwrap_err();
        assert!(refused.contains("undefined field 'replica'"), "{refused}");
    }
}

//! What a type says of how its fields merge.

use super::faults::refused;
use crate::{
    patch::PatchError,
    schema::{Field, Shape},
};

/// What is known of the object at hand.
#[derive(Clone, Copy)]
pub(super) struct Scope(pub(super) Option<Shape>);

/// How a field merges.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) scope: Scope,
    pub(super) merge: bool,
    pub(super) replace: bool,
    pub(super) key: &'static str,
}

impl Scope {
    pub(super) fn rule(self, name: &str) -> Rule {
        match self.0 {
            Some(Shape::Type(ty)) => match ty.field(name) {
                Some(field) => Rule::of(&field),
                None => Rule::unknown(None),
            },
            Some(Shape::Map(elements)) => Rule::unknown(Some(elements.shape())),
            _ => Rule::unknown(None),
        }
    }

    /// How a field merges that must be there.
    pub(super) fn list_rule(self, name: &str) -> Result<Rule, PatchError> {
        match self.0 {
            Some(Shape::Type(ty)) if ty.field(name).is_none() => Err(refused(format!(
                "unable to find api field in struct {} for the json field {name:?}",
                ty.base_name()
            ))),
            _ => Ok(self.rule(name)),
        }
    }

    /// What Go calls the type of the elements of the list at hand.
    pub(super) fn element_name(self) -> &'static str {
        match self.elements().0 {
            Some(Shape::Type(ty)) => ty.base_name(),
            _ => "",
        }
    }

    /// What is known of the elements of the list at hand.
    pub(super) fn elements(self) -> Scope {
        match self.0 {
            Some(Shape::List(elements)) => Scope(Some(elements.shape())),
            _ => Scope(None),
        }
    }
}

impl Rule {
    fn of(field: &Field) -> Rule {
        let has = |strategy| {
            field
                .patch_strategy()
                .is_some_and(|s| s.split(',').any(|s| s == strategy))
        };
        Rule {
            scope: Scope(Some(field.shape())),
            merge: has("merge"),
            replace: has("replace"),
            key: field.patch_merge_key().unwrap_or(""),
        }
    }

    fn unknown(shape: Option<Shape>) -> Rule {
        Rule {
            scope: Scope(shape),
            merge: false,
            replace: false,
            key: "",
        }
    }
}

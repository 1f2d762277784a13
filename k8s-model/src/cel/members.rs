//! [`Member`]: what tells a value that has no parts from others, in sets and as keys.

use std::{collections::HashSet, rc::Rc};

use super::Val;

/// A value without parts. Numbers are the same across their types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Member {
    Text(Rc<str>),
    Whole(i128),
    Real(u64),
    Bool(bool),
    Null,
}

/// What is in a list.
pub(super) type Members = HashSet<Member>;

impl Member {
    /// Nothing of a value that has parts, or is of a type of its own.
    pub(super) fn of(value: &Val<'_>) -> Option<Self> {
        Some(match value {
            Val::String(text) => Member::Text(text.clone()),
            Val::Int(n) => Member::Whole((*n).into()),
            Val::Uint(n) => Member::Whole((*n).into()),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is whole, and small enough"
            )]
            Val::Double(n) if n.fract() == 0.0 && n.abs() < 1e19 => Member::Whole(*n as i128),
            Val::Double(n) => Member::Real(n.to_bits()),
            Val::Bool(b) => Member::Bool(*b),
            Val::Null => Member::Null,
            _ => return None,
        })
    }
}

//! The rules of each built-in kind.

use crate::{NoRules, Strategy};

/// The rules of a kind.
pub(crate) fn strategy(_group: &str, _kind: &str) -> &'static dyn Strategy {
    &NoRules
}

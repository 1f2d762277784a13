//! [`intern`]: names that live as long as the program.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

/// The one static copy of a name.
///
/// For names of resources that come and go at run time (their groups, versions, kinds and fields for
/// selectors), so that rows, metrics and indexes handle them as cheaply as built-in ones. Each
/// distinct name is kept once and for good: meant for what only an administrator can add to.
pub fn intern(name: &str) -> &'static str {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    kept
}

/// The one static copy of a list of names.
pub fn intern_all<'a>(names: impl IntoIterator<Item = &'a str>) -> &'static [&'static str] {
    static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
    let list: Vec<&'static str> = names.into_iter().map(intern).collect();
    let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lists.get(list.as_slice()) {
        return known;
    }
    let kept: &'static [&'static str] = Vec::leak(list);
    lists.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_kept_once() {
        let (a, b) = (intern("interned"), intern(&["inter", "ned"].concat()));
        assert!(std::ptr::eq(a, b));
        let (a, b) = (intern_all(["x", "interned"]), intern_all(["x", "interned"]));
        assert!(std::ptr::eq(a, b));
    }
}

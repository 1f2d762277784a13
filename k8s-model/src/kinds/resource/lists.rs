//! Lists that have a bound, and whose elements may have to differ.

use std::hash::Hash;

use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{json, repeats},
};

/// What is wrong with the elements of a list, or that there are too many: then nobody looks at them.
pub(super) fn each<T>(
    all: &[T],
    most: usize,
    path: &Path,
    check: impl Fn(&T, &Path) -> ErrorList,
) -> ErrorList {
    if all.len() > most {
        return vec![field::too_many(path.clone(), all.len(), most)];
    }
    let each = all.iter().enumerate();
    each.flat_map(|(index, one)| check(one, &path.index(index)))
        .collect()
}

/// The elements whose key another one before them has. They are shown as `shown` says.
pub(super) fn repeated<'t, T, K: Hash + Eq>(
    all: &'t [T],
    path: &Path,
    key: impl Fn(&'t T) -> K,
    shown: impl Fn(&T) -> Value,
) -> ErrorList {
    let repeats = repeats(all.iter().map(key));
    let each = all.iter().zip(repeats).enumerate();
    each.filter(|(_, (_, repeats))| *repeats)
        .map(|(index, (one, _))| field::duplicate(path.index(index), shown(one)))
        .collect()
}

/// As [`each`]; and no two elements may have the same key.
pub(super) fn each_unique<'t, T: serde::Serialize, K: Hash + Eq>(
    all: &'t [T],
    most: usize,
    path: &Path,
    key: impl Fn(&'t T) -> K,
    check: impl Fn(&T, &Path) -> ErrorList,
) -> ErrorList {
    let mut out = each(all, most, path, check);
    if all.len() <= most {
        out.extend(repeated(all, path, key, |one| json(one)));
    }
    out
}

/// A key of a map as paths show it: in parts if it is longer than it may be.
pub(super) fn shortened(key: &str, most: usize) -> String {
    if key.len() <= most {
        return key.to_owned();
    }
    let rest = most.saturating_sub(3);
    let mut head = rest.div_ceil(2);
    while !key.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = key.len() - rest / 2;
    while !key.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}...{}", &key[..head], &key[tail..])
}

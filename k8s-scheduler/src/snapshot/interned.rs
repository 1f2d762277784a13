//! [`Interned`]: a value that is compared and hashed over and over.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    ops::Deref,
    sync::{Arc, LazyLock},
};

/// A shared value that knows its hash. Two that came from one are equal at the price of a pointer.
pub struct Interned<T> {
    hash: u64,
    value: Arc<T>,
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl<T: Hash> From<T> for Interned<T> {
    fn from(value: T) -> Self {
        Self {
            hash: HASHER.hash_one(&value),
            value: Arc::new(value),
        }
    }
}

impl<T> Clone for Interned<T> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            value: self.value.clone(),
        }
    }
}

impl<T> Interned<T> {
    /// Whether both are one value in memory.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl<T> Deref for Interned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Interned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || (self.hash == other.hash && self.value == other.value)
    }
}

impl<T: Eq> Eq for Interned<T> {}

impl<T> Hash for Interned<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T: fmt::Debug> fmt::Debug for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

//! [`CycleState`]: what plugins remember from point to point of one cycle.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
};

/// One value for each type, private to one scheduling cycle.
///
/// A plugin keeps what it computed in PreFilter under a type of its own, and finds it again in Filter.
#[derive(Default)]
pub struct CycleState {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl CycleState {
    /// Keeps a value, in place of an earlier one of its type.
    pub fn put<T: Any + Send + Sync>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// The value of that type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.values
            .get(&TypeId::of::<T>())
            .and_then(|v| v.downcast_ref())
    }
}

impl fmt::Debug for CycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CycleState")
            .field("values", &self.values.len())
            .finish()
    }
}

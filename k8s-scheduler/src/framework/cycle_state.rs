//! [`CycleState`]: what plugins remember from point to point of one cycle.

use std::{
    any::{Any, TypeId},
    fmt,
};

/// One value for each type, private to one scheduling cycle.
///
/// A plugin keeps what it computed in PreFilter under a type of its own, and finds it again in Filter.
/// Cloned for what-ifs, such as how a node would do without some of its pods.
#[derive(Clone, Default)]
pub struct CycleState {
    values: Vec<(TypeId, Box<dyn Value>)>,
    /// Whether it is counted how long each plugin takes in this cycle.
    pub(crate) is_sampled: bool,
}

trait Value: Send + Sync {
    fn boxed_clone(&self) -> Box<dyn Value>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Clone + Send + Sync> Value for T {
    fn boxed_clone(&self) -> Box<dyn Value> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Clone for Box<dyn Value> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}

impl CycleState {
    /// Keeps a value, in place of an earlier one of its type.
    pub fn put<T: Any + Clone + Send + Sync>(&mut self, value: T) {
        self.take::<T>();
        self.values.push((TypeId::of::<T>(), Box::new(value)));
    }

    /// The value of that type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        let wanted = TypeId::of::<T>();
        let (_, value) = self.values.iter().find(|(id, _)| *id == wanted)?;
        (**value).as_any().downcast_ref()
    }

    /// The value of that type, to be changed.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        let wanted = TypeId::of::<T>();
        let (_, value) = self.values.iter_mut().find(|(id, _)| *id == wanted)?;
        (**value).as_any_mut().downcast_mut()
    }

    /// Drops the value of that type. A plugin whose value is large and needed no more does that.
    pub fn take<T: Any>(&mut self) {
        let wanted = TypeId::of::<T>();
        self.values.retain(|(id, _)| *id != wanted);
    }
}

impl fmt::Debug for CycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CycleState")
            .field("values", &self.values.len())
            .finish()
    }
}

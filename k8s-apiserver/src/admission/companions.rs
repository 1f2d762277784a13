//! [`Companions`]: what is stored together with an object.

use std::{any::Any, fmt};

use k8s_model::Object;

/// What is stored together with an object, or not at all: one commit holds both, so nothing is charged
/// for an object that was not stored, and nothing is stored without its charge.
#[derive(Default)]
pub struct Companions {
    /// The changed objects. Each must have been there, and be at its `metadata.resourceVersion`
    /// still; if not, the request is tried again.
    pub objects: Vec<Companion>,
    /// What is dropped once that is done, such as a lock that makes others wait rather than try in vain.
    pub guard: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for Companions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Companions")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

/// A changed object.
#[derive(Debug)]
pub struct Companion {
    /// The group of its resource.
    pub group: &'static str,
    /// The plural name of its resource.
    pub resource: &'static str,
    /// As it is to be, in the version in which it is stored.
    pub object: Box<dyn Object>,
}

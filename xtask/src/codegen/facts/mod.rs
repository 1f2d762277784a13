//! What the sources of `k8s-openapi` do not say. Each table names upstream's place for it.

mod fields;
mod resources;

pub(super) use self::{fields::*, resources::*};

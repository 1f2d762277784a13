//! Container logs: their format, reading and following them, and rotation.

pub(crate) mod format;
pub(crate) mod read;
pub(crate) mod rotation;

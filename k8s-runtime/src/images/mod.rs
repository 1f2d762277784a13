//! Images on disk: names, blobs, layers; import and pull.

pub(crate) mod reference;

pub use reference::normalize;

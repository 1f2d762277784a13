//! Images on disk: names, blobs, layers; import and pull.

mod archive;
mod config;
mod layer;
mod pull;
pub(crate) mod reference;
mod store;

pub(crate) use config::RunConfig;
pub use pull::Mirror;
pub use reference::normalize;
pub use store::{ImageStore, ImageStoreOptions};

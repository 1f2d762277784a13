//! The node agent.
#![forbid(unsafe_code)]

mod error;
mod events;
mod pod;
mod sources;
mod sync;
mod time;
mod volume;

pub use error::Error;
pub use volume::{MountedVolume, VolumeContext, VolumeError, VolumePlugin};

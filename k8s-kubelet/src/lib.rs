#![doc = include_str!("docs/front.md")]
#![forbid(unsafe_code)]

mod builder;
mod clock;
mod context;
mod driver;
mod error;
mod events;
mod eviction;
mod hooks;
mod images;
mod kubelet;
mod logs;
mod node;
mod pod;
mod probe;
mod server;
mod sources;
mod sync;
mod time;
mod volume;

pub use builder::{KubeletBuilder, TlsOptions};
pub use error::Error;
pub use kubelet::Kubelet;
pub use server::{Body, KubeletService};
pub use volume::{MountedVolume, VolumeContext, VolumeError, VolumePlugin};

//! Container-runtime and image traits, CRI-shaped, and the runc backend.

mod error;
mod events;
mod image;
pub mod images;
pub mod net;
pub mod oci;
mod runtime;
pub mod shim;
pub mod sim;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, PullErrorKind};
pub use image::{Image, ImageService, RegistryAuth};
pub use runtime::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStats,
    ContainerStatus, DnsConfig, Duplex, ExecOutput, ExecSession, Mount, NamespaceMode, Propagation,
    Resources, RuntimeEvent, RuntimeEventKind, SandboxConfig, SandboxId, SandboxState,
    SandboxStatus, SecurityContext, SecurityProfile, Streams, TerminalSize,
};

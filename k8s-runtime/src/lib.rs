//! Containers and images for a node agent: the traits, and what implements them.
//!
//! [`ContainerRuntime`] and [`ImageService`] are what a kubelet needs of its node, in the shape of
//! CRI: sandboxes and containers in them; their logs, exec, attach and port forwarding; images
//! that are pulled, imported and removed. Behind them may be [runc](oci), a [simulation](sim) or
//! your own.
//!
//! ```
//! use std::time::Duration;
//!
//! use k8s_runtime::{
//!     ContainerConfig, ContainerRuntime, ContainerState, ImageService, SandboxConfig,
//!     sim::{SimOptions, SimRuntime},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), k8s_runtime::Error> {
//! let node = SimRuntime::new(SimOptions::new("10.244.0.0/24".parse()?))?;
//! let image = node.images().pull("busybox", None).await?;
//!
//! let pod = SandboxConfig { name: "web".into(), uid: "1".into(), ..Default::default() };
//! let pod = node.run_sandbox(pod).await?;
//! let container = ContainerConfig { name: "main".into(), image: image.id, ..Default::default() };
//! let container = node.create_container(&pod, container).await?;
//! node.start_container(&container).await?;
//! assert_eq!(node.container(&container).await?.state, ContainerState::Running);
//!
//! node.stop_container(&container, Duration::from_secs(30)).await?;
//! assert_eq!(node.container(&container).await?.exit_code, Some(143));
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! - [`ContainerRuntime`], [`ImageService`], [`Error`]: the contract.
//! - [`oci`]: runc, crun or youki, driven as a process; pods as pinned namespaces.
//! - [`images`]: images on disk: import of OCI layouts and Docker archives, pull with mirrors.
//! - [`net`]: the pods of a node on a bridge, with addresses and masquerade.
//! - [`shim`]: the process beside each container, which a program must let itself become.
//! - [`sim`]: a node that runs nothing and keeps time.
//! - `testing` (feature): the conformance kit, one named test for each promise.
//!
//! # Bring your own
//!
//! Implement the two traits and expand the kit's macros in your tests:
//! `k8s_runtime::runtime_conformance!`, `process_conformance!` and `image_conformance!`. They take
//! a function that makes a fresh node, and tell by their tests' names which promise is broken.
//!
//! # A whole node
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use k8s_runtime::{
//!     images::{ImageStore, ImageStoreOptions},
//!     net::{PodNetwork, PodNetworkOptions},
//!     oci::{OciOptions, OciRuntime},
//! };
//!
//! # async fn node() -> Result<(), k8s_runtime::Error> {
//! let images = ImageStore::open(ImageStoreOptions::new("/var/lib/node/images"))?;
//! let network = PodNetworkOptions::new("10.244.0.0/24".parse()?).cluster_cidr("10.244.0.0/16".parse()?);
//! let network = Arc::new(PodNetwork::set_up(network).await?);
//! let options = OciOptions::new("/var/lib/node/runtime").network(Arc::clone(&network));
//! let runtime = OciRuntime::open(options, images).await?;
//! // … and when the node stops for good:
//! runtime.shut_down().await?;
//! network.remove().await?;
//! # Ok(())
//! # }
//! ```
//!
//! It needs root (but not `CAP_SYS_RESOURCE`), an OCI runtime and `nft` in `PATH`, and runs on
//! both versions of cgroups. The program that does this must call
//! [`shim::main_if_requested`] first thing in its `main`.
//!
//! # Relation to upstream
//!
//! The traits follow [CRI] in their nouns and verbs, without its gRPC: configurations are given
//! once and kept by the runtime, events replace polling, and a stream is a stream. Log files are in
//! [CRI's format], so that upstream's log readers can read them. Exit codes, reasons and defaults
//! (capabilities, seccomp, masked paths, mounts) are containerd's. A sandbox has no pause process
//! unless its pod shares a process namespace.
//!
//! [CRI]: https://kubernetes.io/docs/concepts/architecture/cri/
//! [CRI's format]: https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md

mod disk;
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

pub use disk::disk_usage;
pub use error::{Error, PullErrorKind};
pub use image::{Image, ImageService, RegistryAuth};
pub use runtime::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStats,
    ContainerStatus, DnsConfig, Duplex, ExecOutput, ExecSession, Mount, NamespaceMode, Propagation,
    Resources, RuntimeEvent, RuntimeEventKind, SandboxConfig, SandboxId, SandboxState,
    SandboxStatus, SecurityContext, SecurityProfile, Streams, TerminalSize,
};

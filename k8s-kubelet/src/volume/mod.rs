//! Volumes: [`VolumePlugin`] and the built-in kinds.

pub(crate) mod atomic;
mod downward_api;
mod empty_dir;
mod host_path;
pub(crate) mod manager;
mod mounts;
mod ownership;
mod payload;
mod projected;
pub(crate) mod subpath;

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::{
    pod::{PodView, fields::NodeFacts},
    sources::Sources,
};

/// A volume could not be set up or taken down. The text becomes part of a `FailedMount` event and
/// should not tell secrets; the kubelet tries again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct VolumeError(pub String);

impl VolumeError {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// What a volume is set up for.
#[derive(Clone, Copy)]
pub struct VolumeContext<'a> {
    pub(crate) view: &'a PodView,
    pub(crate) sources: &'a Sources,
    pub(crate) node: &'a NodeFacts,
    pub(crate) pod_ips: &'a [IpAddr],
    /// The volume, out of the pod's specification.
    pub volume: &'a Volume,
    /// A directory of this volume's own: `<root>/pods/<uid>/volumes/<plugin>/<name>`. It need not
    /// exist yet. [`VolumePlugin::tear_down`] may leave it; the kubelet unmounts and removes it.
    pub directory: &'a Path,
    /// Whether this process may mount.
    pub may_mount: bool,
}

impl VolumeContext<'_> {
    /// The pod.
    pub fn pod(&self) -> Pod {
        self.view.to_object()
    }

    pub(crate) fn fs_group(&self) -> Option<i64> {
        self.view
            .spec()
            .security_context
            .as_ref()
            .and_then(|s| s.fs_group)
    }
}

impl fmt::Debug for VolumeContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeContext")
            .field("volume", &self.volume.name)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// A volume that is ready for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedVolume {
    /// What containers see, on the node.
    pub path: PathBuf,
    /// Whether they can't write it whatever they ask for.
    pub read_only: bool,
    /// When [`VolumePlugin::set_up`] wants to be called again, if its content grows old.
    pub refresh_after: Option<Duration>,
}

/// A kind of volume.
///
/// # Purpose
///
/// The kubelet asks each plugin in turn whether it [supports](VolumePlugin::supports) a volume of
/// a pod and lets the first that does set it up before the pod's first container starts. Write
/// one to give pods storage that this crate does not know.
///
/// # Guarantees
///
/// `set_up` is idempotent: it is called again after a restart of the kubelet, when something the
/// volume shows may have changed, and after an error. What it changes under running containers it
/// changes atomically. `tear_down` is idempotent too, and is called after the last container has
/// ended, also for pods whose `set_up` failed halfway.
///
/// # Concurrency
///
/// Calls for one pod never overlap; calls for different pods do.
///
/// # Cancellation
///
/// A `set_up` that is dropped halfway is followed by another one or by `tear_down`.
///
/// # Example
///
/// ```
/// use async_trait::async_trait;
/// use k8s_kubelet::{MountedVolume, VolumeContext, VolumeError, VolumePlugin};
/// use k8s_openapi::api::core::v1::Volume;
///
/// /// `csi: {driver: example.com/scratch}` is an empty directory.
/// #[derive(Debug)]
/// struct Scratch;
///
/// #[async_trait]
/// impl VolumePlugin for Scratch {
///     fn name(&self) -> &str {
///         "example.com/scratch"
///     }
///
///     fn supports(&self, volume: &Volume) -> bool {
///         volume.csi.as_ref().is_some_and(|c| c.driver == "example.com/scratch")
///     }
///
///     async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
///         std::fs::create_dir_all(cx.directory).map_err(|e| VolumeError(e.to_string()))?;
///         let path = cx.directory.to_owned();
///         Ok(MountedVolume { path, read_only: false, refresh_after: None })
///     }
/// }
/// ```
#[async_trait]
pub trait VolumePlugin: fmt::Debug + Send + Sync + 'static {
    /// Its name, as in `kubernetes.io/empty-dir`: names the volume's directory too.
    fn name(&self) -> &str;

    /// Whether it is the one for this volume.
    fn supports(&self, volume: &Volume) -> bool;

    /// Makes the volume ready, or brings its content up to date.
    ///
    /// # Errors
    ///
    /// [`VolumeError`]; containers wait until it succeeds.
    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError>;

    /// Gives back what lies outside of the volume's directory. What is mounted in the directory
    /// is unmounted and the directory removed by the kubelet.
    ///
    /// # Errors
    ///
    /// [`VolumeError`]; the pod stays until it succeeds.
    async fn tear_down(&self, _cx: VolumeContext<'_>) -> Result<(), VolumeError> {
        Ok(())
    }
}

const _: Option<&dyn VolumePlugin> = None;

/// The built-in kinds.
pub(crate) fn built_in() -> Vec<std::sync::Arc<dyn VolumePlugin>> {
    vec![
        std::sync::Arc::new(empty_dir::EmptyDir),
        std::sync::Arc::new(host_path::HostPath),
        std::sync::Arc::new(payload::ConfigMapVolume),
        std::sync::Arc::new(payload::SecretVolume),
        std::sync::Arc::new(downward_api::DownwardApi),
        std::sync::Arc::new(projected::Projected),
    ]
}

//! All volumes of a pod, set up and taken down together.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Volume;

use super::{MountedVolume, VolumeContext, VolumePlugin, mounts};
use crate::{
    pod::{PodView, fields::NodeFacts},
    sources::Sources,
};

/// Sets volumes up with whichever plugin supports them.
#[derive(Debug)]
pub(crate) struct VolumeManager {
    pub(crate) plugins: Vec<Arc<dyn VolumePlugin>>,
    pub(crate) pods_dir: PathBuf,
    pub(crate) may_mount: bool,
    pub(crate) sources: Arc<Sources>,
}

/// A pod's volumes by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodVolumes {
    pub(crate) volumes: BTreeMap<String, MountedVolume>,
}

impl PodVolumes {
    pub(crate) fn refresh_after(&self) -> Option<Duration> {
        self.volumes.values().filter_map(|v| v.refresh_after).min()
    }
}

/// A message for a `FailedMount` event.
pub(crate) type MountError = String;

impl VolumeManager {
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir.join(uid)
    }

    fn volume_dir(&self, uid: &str, plugin: &dyn VolumePlugin, name: &str) -> PathBuf {
        self.pod_dir(uid)
            .join("volumes")
            .join(plugin.name().replace('/', "~"))
            .join(name)
    }

    fn plugin(&self, volume: &Volume) -> Option<&dyn VolumePlugin> {
        self.plugins
            .iter()
            .map(AsRef::as_ref)
            .find(|p| p.supports(volume))
    }

    /// The directory of one of a pod's volumes.
    pub(crate) fn directory(&self, pod: &PodView, volume: &Volume) -> Option<PathBuf> {
        let plugin = self.plugin(volume)?;
        Some(self.volume_dir(pod.uid(), plugin, &volume.name))
    }

    /// Sets up or refreshes every volume of the pod; all failures are told.
    pub(crate) async fn set_up(
        &self,
        pod: &PodView,
        node: &NodeFacts,
        ips: &[IpAddr],
    ) -> Result<PodVolumes, Vec<MountError>> {
        let mut out = PodVolumes::default();
        let mut errors = Vec::new();
        if let Err(error) = fs::create_dir_all(self.pod_dir(pod.uid())) {
            return Err(vec![format!(
                "{}: {error}",
                self.pod_dir(pod.uid()).display()
            )]);
        }
        for volume in pod.spec().volumes.iter().flatten() {
            let name = &volume.name;
            let Some(plugin) = self.plugin(volume) else {
                errors.push(format!(
                    "MountVolume.SetUp failed for volume {name:?} : no volume plugin matched"
                ));
                continue;
            };
            let directory = self.volume_dir(pod.uid(), plugin, name);
            let cx = VolumeContext {
                view: pod,
                sources: &self.sources,
                node,
                pod_ips: ips,
                volume,
                directory: &directory,
                may_mount: self.may_mount,
            };
            match plugin.set_up(cx).await {
                Ok(mounted) => {
                    out.volumes.insert(name.clone(), mounted);
                }
                Err(error) => errors.push(format!(
                    "MountVolume.SetUp failed for volume {name:?} : {error}"
                )),
            }
        }
        if errors.is_empty() {
            Ok(out)
        } else {
            Err(errors)
        }
    }

    /// Takes every volume down and removes the pod's directory.
    pub(crate) async fn tear_down(
        &self,
        pod: &PodView,
        node: &NodeFacts,
    ) -> Result<(), MountError> {
        for volume in pod.spec().volumes.iter().flatten() {
            let Some(plugin) = self.plugin(volume) else {
                continue;
            };
            let directory = self.volume_dir(pod.uid(), plugin, &volume.name);
            let cx = VolumeContext {
                view: pod,
                sources: &self.sources,
                node,
                pod_ips: &[],
                volume,
                directory: &directory,
                may_mount: self.may_mount,
            };
            let failed = |e| {
                format!(
                    "UnmountVolume.TearDown failed for volume {:?} : {e}",
                    volume.name
                )
            };
            plugin.tear_down(cx).await.map_err(failed)?;
        }
        self.sources.forget(pod.uid());
        let dir = self.pod_dir(pod.uid());
        let removed = tokio::task::spawn_blocking(move || remove_pod_dir(&dir)).await;
        removed
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    }
}

/// Unmounts what is below a pod's directory and removes it. Nothing that is still mounted is ever
/// removed from.
pub(crate) fn remove_pod_dir(dir: &Path) -> io::Result<()> {
    let real = match fs::canonicalize(dir) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    mounts::unmount_all(&real)?;
    if !mounts::below(&real).is_empty() {
        return Err(io::Error::other(format!(
            "{} is still in use",
            dir.display()
        )));
    }
    match fs::remove_dir_all(&real) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether this process may mount: tried, because neither a user ID nor a capability tells.
pub(crate) fn may_mount(root: &Path) -> bool {
    let dir = root.join(format!(".mount-{:08x}", fastrand::u32(..)));
    let may = mounts::tmpfs(&dir, Some(4096)).is_ok();
    if let Err(error) = mounts::unmount_all(&dir) {
        tracing::warn!(%error, "trial mount not removed");
        return may;
    }
    let _ = fs::remove_dir(&dir);
    may
}

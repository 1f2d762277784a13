//! `emptyDir`: a directory that lives as long as its pod.

use std::{fs, os::unix::fs::PermissionsExt};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;
use tracing::warn;

use super::{MountedVolume, VolumeContext, VolumeError, VolumePlugin, mounts, ownership};
use crate::pod::quantity;

#[derive(Debug)]
pub(crate) struct EmptyDir;

#[async_trait]
impl VolumePlugin for EmptyDir {
    fn name(&self) -> &str {
        "kubernetes.io/empty-dir"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.empty_dir.is_some()
    }

    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
        let source = cx.volume.empty_dir.clone().unwrap_or_default();
        let there = cx.directory.is_dir();
        fs::create_dir_all(cx.directory).map_err(VolumeError::new)?;
        let mut mode = 0o777;
        match source.medium.as_deref() {
            None | Some("") => {}
            Some("Memory") if cx.may_mount => {
                let size = source.size_limit.as_ref().and_then(quantity::value);
                mounts::tmpfs(cx.directory, size).map_err(VolumeError::new)?;
                // As the kernel makes it.
                mode = 0o1777;
            }
            Some("Memory") => {
                warn!(volume = %cx.volume.name, "no privilege to mount a tmpfs; using a directory")
            }
            Some(other) => return Err(VolumeError(format!("unknown storage medium {other:?}"))),
        }
        if !there {
            fs::set_permissions(cx.directory, fs::Permissions::from_mode(mode))
                .map_err(VolumeError::new)?;
            if let Some(gid) = cx.fs_group().and_then(|g| u32::try_from(g).ok()) {
                ownership::give_to_group(cx.directory, gid, false).map_err(VolumeError::new)?;
            }
        }
        Ok(MountedVolume {
            path: cx.directory.to_owned(),
            read_only: false,
            refresh_after: None,
        })
    }
}

//! `downwardAPI`: a pod's own fields as files.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Volume};

use super::{
    MountedVolume, VolumeContext, VolumeError, VolumePlugin,
    atomic::{File, Payload},
    payload,
};
use crate::pod::fields;

#[derive(Debug)]
pub(crate) struct DownwardApi;

#[async_trait]
impl VolumePlugin for DownwardApi {
    fn name(&self) -> &str {
        "kubernetes.io/downward-api"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.downward_api.is_some()
    }

    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
        let source = cx.volume.downward_api.clone().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(0o644);
        let files = files(&cx, source.items.as_deref().unwrap_or_default(), mode)?;
        payload::in_memory(&cx)?;
        payload::write(&cx, &files, None)
    }
}

/// The files of a downward API source.
pub(crate) fn files(
    cx: &VolumeContext<'_>,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
) -> Result<Payload, VolumeError> {
    let mut out = Payload::new();
    for item in items {
        let text = if let Some(r) = &item.field_ref {
            fields::field(cx.view, &r.field_path, cx.node, cx.pod_ips)
        } else if let Some(r) = &item.resource_field_ref {
            fields::resource(cx.view, None, r, cx.node)
        } else {
            continue;
        };
        let mode = u32::try_from(item.mode.unwrap_or(mode)).unwrap_or(0o644) & 0o777;
        let data = text.map_err(VolumeError)?.into_bytes();
        out.insert(
            item.path.clone(),
            File {
                data,
                mode,
                uid: None,
            },
        );
    }
    Ok(out)
}

//! `projected`: several sources in one directory, service account tokens among them.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{
    MountedVolume, VolumeContext, VolumeError, VolumePlugin,
    atomic::{File, Payload},
    downward_api, payload,
};

#[derive(Debug)]
pub(crate) struct Projected;

#[async_trait]
impl VolumePlugin for Projected {
    fn name(&self) -> &str {
        "kubernetes.io/projected"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.projected.is_some()
    }

    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
        let source = cx.volume.projected.clone().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(0o644);
        let mut files = Payload::new();
        let mut refresh: Option<Duration> = None;
        for part in source.sources.iter().flatten() {
            if let Some(s) = &part.config_map {
                files.extend(
                    payload::config_map(
                        &cx,
                        &s.name,
                        s.items.as_deref(),
                        mode,
                        s.optional == Some(true),
                    )
                    .await?,
                );
            }
            if let Some(s) = &part.secret {
                files.extend(
                    payload::secret(
                        &cx,
                        &s.name,
                        s.items.as_deref(),
                        mode,
                        s.optional == Some(true),
                    )
                    .await?,
                );
            }
            if let Some(s) = &part.downward_api {
                files.extend(downward_api::files(
                    &cx,
                    s.items.as_deref().unwrap_or_default(),
                    mode,
                )?);
            }
            if let Some(s) = &part.service_account_token {
                let seconds = s.expiration_seconds.unwrap_or(3600);
                let audience = s.audience.as_deref().unwrap_or_default();
                let fresh = cx
                    .sources
                    .token(cx.view, audience, seconds)
                    .await
                    .map_err(|e| {
                        VolumeError(format!("failed to fetch token: {}", payload::api_error(e)))
                    })?;
                let after = fresh.refresh_after;
                refresh = Some(refresh.map_or(after, |r| r.min(after)));
                files.insert(s.path.clone(), token_file(&cx, fresh.token, mode));
            }
        }
        payload::in_memory(&cx)?;
        payload::write(&cx, &files, refresh)
    }
}

/// Only the pod's own user or group may read the token, where there is just one.
fn token_file(cx: &VolumeContext<'_>, token: String, mode: i32) -> File {
    let spec = cx.view.spec();
    let pod_user = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = cx.view.containers().map(|(_, c)| {
        c.security_context
            .as_ref()
            .and_then(|s| s.run_as_user)
            .or(pod_user)
    });
    let first = users.next().flatten();
    let uid = first
        .filter(|_| users.all(|u| u == first))
        .and_then(|u| u32::try_from(u).ok())
        .filter(|_| cx.may_mount);
    let narrow = uid.is_some() || cx.fs_group().is_some();
    let mode = if narrow {
        0o600
    } else {
        u32::try_from(mode).unwrap_or(0o644) & 0o777
    };
    File {
        data: token.into_bytes(),
        mode,
        uid,
    }
}

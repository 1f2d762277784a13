//! `configMap` and `secret` volumes.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret, Volume};

use super::{
    MountedVolume, VolumeContext, VolumeError, VolumePlugin,
    atomic::{self, File, Payload},
    mounts,
};

const DEFAULT_MODE: i32 = 0o644;

#[derive(Debug)]
pub(crate) struct ConfigMapVolume;

#[async_trait]
impl VolumePlugin for ConfigMapVolume {
    fn name(&self) -> &str {
        "kubernetes.io/configmap"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.config_map.is_some()
    }

    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
        let source = cx.volume.config_map.clone().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let files = config_map(
            &cx,
            &source.name,
            source.items.as_deref(),
            mode,
            source.optional == Some(true),
        )
        .await?;
        write(&cx, &files, None)
    }
}

#[derive(Debug)]
pub(crate) struct SecretVolume;

#[async_trait]
impl VolumePlugin for SecretVolume {
    fn name(&self) -> &str {
        "kubernetes.io/secret"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.secret.is_some()
    }

    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
        let source = cx.volume.secret.clone().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.unwrap_or_default();
        let files = secret(
            &cx,
            &name,
            source.items.as_deref(),
            mode,
            source.optional == Some(true),
        )
        .await?;
        in_memory(&cx)?;
        write(&cx, &files, None)
    }
}

/// Secrets never touch the disk, where this process may mount.
pub(crate) fn in_memory(cx: &VolumeContext<'_>) -> Result<(), VolumeError> {
    if cx.may_mount {
        mounts::tmpfs(cx.directory, None).map_err(VolumeError::new)
    } else {
        Ok(())
    }
}

/// Writes a payload and tells what came of it.
pub(crate) fn write(
    cx: &VolumeContext<'_>,
    files: &Payload,
    refresh_after: Option<std::time::Duration>,
) -> Result<MountedVolume, VolumeError> {
    let group = cx.fs_group().and_then(|g| u32::try_from(g).ok());
    atomic::write(cx.directory, files, group).map_err(VolumeError::new)?;
    Ok(MountedVolume {
        path: cx.directory.to_owned(),
        read_only: true,
        refresh_after,
    })
}

/// The files of a ConfigMap.
pub(crate) async fn config_map(
    cx: &VolumeContext<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let found = cx
        .sources
        .follow_config_map(cx.view, name)
        .await
        .map_err(api_error)?;
    let map: std::sync::Arc<ConfigMap> = match found {
        Some(map) => map,
        None if optional => return Ok(Payload::new()),
        None => return Err(VolumeError(format!("configmap {name:?} not found"))),
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()));
    project(text.chain(binary).collect(), items, mode, optional).map_err(|key| {
        VolumeError(format!(
            "configmap references non-existent config key: {key}"
        ))
    })
}

/// The files of a Secret.
pub(crate) async fn secret(
    cx: &VolumeContext<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let found = cx
        .sources
        .follow_secret(cx.view, name)
        .await
        .map_err(api_error)?;
    let secret: std::sync::Arc<Secret> = match found {
        Some(secret) => secret,
        None if optional => return Ok(Payload::new()),
        None => return Err(VolumeError(format!("secret {name:?} not found"))),
    };
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect();
    project(data, items, mode, optional)
        .map_err(|key| VolumeError(format!("references non-existent secret key: {key}")))
}

pub(crate) fn api_error(error: kube::Error) -> VolumeError {
    match error {
        kube::Error::Api(status) => VolumeError(status.message.clone()),
        other => VolumeError::new(other),
    }
}

/// Keys as files; the error is a key that is not there.
fn project(
    data: Vec<(String, Vec<u8>)>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Payload, String> {
    let file = |data: Vec<u8>, mode: i32| File {
        data,
        mode: u32::try_from(mode).unwrap_or(0o644) & 0o777,
        uid: None,
    };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data
            .into_iter()
            .map(|(key, data)| (key, file(data, mode)))
            .collect());
    };
    let mut out = Payload::new();
    for item in items {
        match data.iter().find(|(key, _)| *key == item.key) {
            Some((_, data)) => {
                out.insert(
                    item.path.clone(),
                    file(data.clone(), item.mode.unwrap_or(mode)),
                );
            }
            None if optional => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_mapped_to_paths_with_modes() {
        let data = vec![
            ("a".to_owned(), b"1".to_vec()),
            ("b".to_owned(), b"2".to_vec()),
        ];
        let all = project(data.clone(), None, 0o400, false).unwrap();
        assert_eq!((all.len(), all["a"].mode), (2, 0o400));
        let item = |key: &str, mode| KeyToPath {
            key: key.to_owned(),
            path: format!("p/{key}"),
            mode,
            ..Default::default()
        };
        let some = project(data.clone(), Some(&[item("b", Some(0o600))]), 0o644, false).unwrap();
        assert_eq!((some.len(), some["p/b"].mode), (1, 0o600));
        assert_eq!(
            project(data.clone(), Some(&[item("x", None)]), 0o644, false).unwrap_err(),
            "x"
        );
        assert!(
            project(data, Some(&[item("x", None)]), 0o644, true)
                .unwrap()
                .is_empty()
        );
    }
}

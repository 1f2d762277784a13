//! The parts of an image's configuration and manifest that matter here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An image's configuration.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) config: Option<RunConfig>,
    pub(crate) rootfs: RootFs,
}

/// The layers of an image.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub(crate) diff_ids: Option<Vec<String>>,
}

/// How an image wants to be run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) stop_signal: Option<String>,
}

impl ConfigFile {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        let config: Self = serde_json::from_slice(json)
            .map_err(|e| Error::BrokenArchive(format!("image configuration: {e}")))?;
        for id in config.diff_ids() {
            check_digest(id)?;
        }
        Ok(config)
    }

    pub(crate) fn diff_ids(&self) -> &[String] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }
}

/// A pointer to content.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// Which machines an image is for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

impl Platform {
    /// Whether it is this machine's.
    fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == our_architecture()
    }
}

/// This machine's architecture, in the words that images use.
pub(crate) fn our_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// A manifest, or a list of them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
}

impl Manifest {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|e| Error::BrokenArchive(format!("image manifest: {e}")))?;
        let all = manifest
            .config
            .iter()
            .chain(manifest.layers.iter().flatten());
        for descriptor in all.chain(manifest.manifests.iter().flatten()) {
            check_digest(&descriptor.digest)?;
        }
        Ok(manifest)
    }

    /// The entry of a list that is for this machine; one without a platform counts as for all.
    pub(crate) fn choose(&self) -> Option<&Descriptor> {
        let all = || self.manifests.iter().flatten();
        all()
            .find(|d| d.platform.as_ref().is_some_and(Platform::is_ours))
            .or_else(|| all().find(|d| d.platform.is_none()))
    }
}

/// Refuses what is not a SHA-256 digest, and so can't be a file's name.
pub(crate) fn check_digest(digest: &str) -> Result<&str, Error> {
    match super::reference::as_id(digest) {
        Some(_) if digest.starts_with("sha256:") => Ok(&digest["sha256:".len()..]),
        _ => Err(Error::BrokenArchive(format!("unusable digest {digest:?}"))),
    }
}

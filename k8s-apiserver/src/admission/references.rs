//! What a pod refers to by name.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, Volume};

/// The objects in its namespace that a pod refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) claims: BTreeSet<String>,
    pub(crate) service_account: Option<String>,
    /// Claims to devices, as far as they are made.
    pub(crate) device_claims: BTreeSet<String>,
}

k8s_openapi::k8s_if_ge_1_34! {
    /// The claim to devices that containers ask for as resources (KEP-5004).
    fn claim_of_resources(pod: &Pod) -> Option<String> {
        let status = pod.status.as_ref()?.extended_resource_claim_status.as_ref()?;
        Some(status.resource_claim_name.clone()).filter(|name| !name.is_empty())
    }
}

k8s_openapi::k8s_if_le_1_33! {
    fn claim_of_resources(_pod: &Pod) -> Option<String> {
        None
    }
}

impl References {
    pub(crate) fn of(pod: &Pod) -> Self {
        let mut out = References::default();
        let Some(spec) = &pod.spec else {
            return out;
        };
        out.service_account = spec
            .service_account_name
            .clone()
            .filter(|name| !name.is_empty());
        for secret in spec.image_pull_secrets.iter().flatten() {
            out.secrets.insert(secret.name.clone());
        }
        let containers = spec.containers.iter();
        for container in containers.chain(spec.init_containers.iter().flatten()) {
            out.environment(container.env.as_deref(), container.env_from.as_deref());
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            out.environment(container.env.as_deref(), container.env_from.as_deref());
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        for volume in spec.volumes.iter().flatten() {
            out.volume(name, volume);
        }
        let statuses = pod.status.as_ref();
        let statuses = statuses.and_then(|status| status.resource_claim_statuses.as_ref());
        let made = statuses.into_iter().flatten();
        let named = spec.resource_claims.iter().flatten();
        let named = named.filter_map(|claim| claim.resource_claim_name.clone());
        let made = made.filter_map(|status| status.resource_claim_name.clone());
        out.device_claims.extend(named.chain(made));
        out.device_claims.extend(claim_of_resources(pod));
        for names in [&mut out.secrets, &mut out.config_maps, &mut out.claims] {
            names.remove("");
        }
        out
    }

    fn environment(&mut self, env: Option<&[EnvVar]>, from: Option<&[EnvFromSource]>) {
        for source in env.iter().copied().flatten().flat_map(|e| &e.value_from) {
            if let Some(key) = &source.secret_key_ref {
                self.secrets.insert(key.name.clone());
            }
            if let Some(key) = &source.config_map_key_ref {
                self.config_maps.insert(key.name.clone());
            }
        }
        for source in from.iter().copied().flatten() {
            if let Some(secret) = &source.secret_ref {
                self.secrets.insert(secret.name.clone());
            }
            if let Some(map) = &source.config_map_ref {
                self.config_maps.insert(map.name.clone());
            }
        }
    }

    fn volume(&mut self, pod: &str, volume: &Volume) {
        if let Some(map) = &volume.config_map {
            self.config_maps.insert(map.name.clone());
        }
        if let Some(secret) = &volume.secret {
            self.secrets.extend(secret.secret_name.clone());
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            self.claims.insert(claim.claim_name.clone());
        }
        if volume.ephemeral.is_some() {
            self.claims.insert(format!("{pod}-{}", volume.name));
        }
        let sources = volume.projected.iter().flat_map(|p| &p.sources).flatten();
        for source in sources {
            if let Some(secret) = &source.secret {
                self.secrets.insert(secret.name.clone());
            }
            if let Some(map) = &source.config_map {
                self.config_maps.insert(map.name.clone());
            }
        }
        if let Some(file) = &volume.azure_file {
            self.secrets.insert(file.secret_name.clone());
        }
        let drivers = [
            volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume
                .flex_volume
                .as_ref()
                .and_then(|v| v.secret_ref.as_ref()),
            volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.scale_io.as_ref().map(|v| &v.secret_ref),
            volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume
                .storageos
                .as_ref()
                .and_then(|v| v.secret_ref.as_ref()),
            volume
                .csi
                .as_ref()
                .and_then(|v| v.node_publish_secret_ref.as_ref()),
        ];
        for secret in drivers.into_iter().flatten() {
            self.secrets.insert(secret.name.clone());
        }
    }
}

//! The rules of PersistentVolumes.

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus,
};
use serde_json::{Map, Value};

use super::{persistent_volume_claim::access_modes, pod};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            csi_driver_name, dns_label, dns_subdomain, fill, immutable, json, list, same,
            supported, text,
        },
        node_labels, quantities,
        typed::KindRules,
    },
};

/// The rules of PersistentVolumes.
pub(crate) struct PersistentVolumeRules;

impl KindRules for PersistentVolumeRules {
    type Kind = PersistentVolume;

    const METADATA: (usize, usize) = (2, 0);
    const TOLD_TWICE: bool = true;

    fn default(&self, volume: &mut PersistentVolume) {
        let spec = volume.spec.get_or_insert_default();
        fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
        fill(&mut spec.volume_mode, "Filesystem");
        quantities::normalize(&mut spec.capacity);
        if let Some(host_path) = &mut spec.host_path {
            host_path.type_.get_or_insert_default();
        }
        fill(&mut volume.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_for_create(&self, volume: &mut PersistentVolume) {
        volume.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeStatus::default()
        });
    }

    fn validate(&self, volume: &PersistentVolume) -> ErrorList {
        let empty = PersistentVolumeSpec::default();
        validate_spec(volume.spec.as_ref().unwrap_or(&empty), &Path::new("spec"))
    }

    fn warnings(&self, volume: &PersistentVolume) -> Vec<String> {
        let spec = volume.spec.as_ref();
        let required = spec.and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
        let path = Path::new("spec").child("nodeAffinity").child("required");
        let path = path.child("nodeSelectorTerms");
        let terms = required.map_or(&[][..], |required| &required.node_selector_terms);
        let advice = terms
            .iter()
            .enumerate()
            .map(|(at, term)| node_labels::term(term, &path.index(at)));
        advice.flatten().collect()
    }

    fn prepare_for_update(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &PersistentVolume, old: &PersistentVolume) -> ErrorList {
        let mut errors = self.validate(new);
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            let (before, mut after) = (sources(old), sources(new));
            // What expanding the volume takes may be added.
            if let (Some(Value::Object(before)), Some(Value::Object(after))) =
                (before.get("csi"), after.get_mut("csi"))
                && !before.contains_key(EXPAND_SECRET)
            {
                after.remove(EXPAND_SECRET);
            }
            if !same(&after, &before) {
                let ty = "core.PersistentVolumeSource";
                let changes = pod::difference(ty, &before, &after);
                errors.push(field::forbidden(
                    Path::new("spec").child("persistentvolumesource"),
                    format!("spec.persistentvolumesource is immutable after creation\n{changes}"),
                ));
            }
            errors.extend(immutable(
                &new.volume_mode,
                &old.volume_mode,
                Path::new("volumeMode"),
            ));
            if old.node_affinity.is_some() {
                errors.extend(immutable(
                    &new.node_affinity,
                    &old.node_affinity,
                    Path::new("nodeAffinity"),
                ));
            }
            if old.volume_attributes_class_name.is_some()
                && new.volume_attributes_class_name.is_none()
            {
                errors.push(field::forbidden(
                    Path::new("spec").child("volumeAttributesClassName"),
                    "update from non-nil value to nil is forbidden",
                ));
            }
        }
        errors
    }

    fn prepare_for_status_update(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.spec.clone_from(&old.spec);
    }
}

const EXPAND_SECRET: &str = "controllerExpandSecretRef";

/// Where the volume's data is: the spec without what applies to every source.
fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    const COMMON: &[&str] = &[
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let mut fields = json(spec).as_object().cloned().unwrap_or_default();
    fields.retain(|name, _| !COMMON.contains(&name.as_str()));
    fields
}

fn validate_spec(spec: &PersistentVolumeSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if list(&spec.access_modes).is_empty() {
        errors.push(field::required(path.child("accessModes"), ""));
    }
    errors.extend(access_modes(
        list(&spec.access_modes),
        &path.child("accessModes"),
    ));
    let capacity = path.child("capacity");
    let given = json(&spec.capacity);
    let sizes = spec.capacity.clone().unwrap_or_default();
    if sizes.is_empty() {
        errors.push(field::required(capacity.clone(), ""));
    }
    if !sizes.contains_key("storage") || sizes.len() > 1 {
        errors.push(field::not_supported(capacity.clone(), given, &["storage"]));
    }
    for (name, quantity) in &sizes {
        errors.extend(quantities::positive(quantity, capacity.key(name)));
    }
    let policy = text(&spec.persistent_volume_reclaim_policy);
    if !policy.is_empty() {
        errors.extend(supported(
            policy,
            &["Delete", "Recycle", "Retain"],
            path.child("persistentVolumeReclaimPolicy"),
        ));
    }
    let sources = sources(spec);
    match sources.len() {
        0 => errors.push(field::required(path.clone(), "must specify a volume type")),
        1 => {}
        _ => {
            for name in sources.keys().skip(1) {
                errors.push(field::forbidden(
                    path.child(name),
                    "may not specify more than 1 volume type",
                ));
            }
        }
    }
    if let Some(host_path) = &spec.host_path {
        errors.extend(pod::host_path(host_path, &path.child("hostPath")));
        if host_path.path.trim_end_matches('/').is_empty() && policy == "Recycle" {
            errors.push(field::forbidden(
                path.child("persistentVolumeReclaimPolicy"),
                "may not be 'recycle' for a hostPath mount of '/'",
            ));
        }
    }
    if let Some(nfs) = &spec.nfs {
        errors.extend(pod::nfs(&nfs.server, &nfs.path, &path.child("nfs")));
    }
    errors.extend(in_tree(spec, path));
    if let Some(source) = &spec.csi {
        errors.extend(csi(source, &path.child("csi")));
    }
    if let Some(local) = &spec.local {
        let path_of_source = path.child("local");
        if local.path.is_empty() {
            errors.push(field::required(path_of_source.child("path"), ""));
        }
        if spec.node_affinity.is_none() {
            errors.push(field::required(
                path.child("nodeAffinity"),
                "Local volume requires node affinity",
            ));
        }
    }
    if let Some(affinity) = &spec.node_affinity {
        let path = path.child("nodeAffinity");
        match &affinity.required {
            Some(selector) => {
                errors.extend(pod::node_selector(selector, &path.child("required")));
            }
            None => errors.push(field::required(
                path.child("required"),
                "must specify required node constraints",
            )),
        }
    }
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        errors.extend(dns_subdomain(class, path.child("storageClassName")));
    }
    if let Some(mode) = &spec.volume_mode {
        errors.extend(supported(
            mode,
            &["Block", "Filesystem"],
            path.child("volumeMode"),
        ));
    }
    errors
}

/// Sources whose drivers upstream once had in itself.
fn in_tree(spec: &PersistentVolumeSpec, path: &Path) -> ErrorList {
    use pod::in_tree as rules;
    let mut errors = ErrorList::new();
    if let Some(source) = &spec.gce_persistent_disk {
        errors.extend(rules::gce_disk(source, &path.child("persistentDisk")));
    }
    if let Some(source) = &spec.aws_elastic_block_store {
        let path = path.child("awsElasticBlockStore");
        errors.extend(rules::aws_disk(source, &path));
    }
    if let Some(source) = &spec.azure_disk {
        errors.extend(rules::azure_disk(source, &path.child("azureDisk")));
    }
    if let Some(source) = &spec.azure_file {
        let mut fields = vec![
            ("secretName", &*source.secret_name),
            ("shareName", &source.share_name),
        ];
        fields.extend(
            source
                .secret_namespace
                .as_deref()
                .map(|n| ("secretNamespace", n)),
        );
        errors.extend(rules::all_required(&fields, &path.child("azureFile")));
    }
    if let Some(source) = &spec.glusterfs {
        let fields = [("endpoints", &*source.endpoints), ("path", &source.path)];
        errors.extend(rules::all_required(&fields, &path.child("glusterfs")));
    }
    if let Some(source) = &spec.flocker {
        errors.extend(rules::flocker(source, &path.child("flocker")));
    }
    if let Some(source) = &spec.rbd {
        let image = [("image", &*source.image)];
        errors.extend(rules::monitored(
            &source.monitors,
            &image,
            &path.child("rbd"),
        ));
    }
    if let Some(source) = &spec.quobyte {
        errors.extend(rules::quobyte(source, &path.child("quobyte")));
    }
    if let Some(source) = &spec.cephfs {
        errors.extend(rules::monitored(
            &source.monitors,
            &[],
            &path.child("cephfs"),
        ));
    }
    if let Some(source) = &spec.flex_volume {
        let path = path.child("flexVolume");
        errors.extend(rules::flex(&source.driver, &source.options, &path));
    }
    if let Some(source) = &spec.cinder {
        let path = path.child("cinder");
        errors.extend(rules::all_required(
            &[("volumeID", &source.volume_id)],
            &path,
        ));
        if let Some(secret) = &source.secret_ref {
            let parts = [
                ("name", text(&secret.name)),
                ("namespace", text(&secret.namespace)),
            ];
            errors.extend(rules::secret(&parts, &path));
        }
    }
    if let Some(source) = &spec.vsphere_volume {
        let fields = [("volumePath", &*source.volume_path)];
        errors.extend(rules::all_required(&fields, &path.child("vsphereVolume")));
    }
    if let Some(source) = &spec.photon_persistent_disk {
        let path = path.child("photonPersistentDisk");
        errors.extend(rules::all_required(&[("pdID", &source.pd_id)], &path));
    }
    if let Some(source) = &spec.portworx_volume {
        let path = path.child("portworxVolume");
        errors.extend(rules::all_required(
            &[("volumeID", &source.volume_id)],
            &path,
        ));
    }
    if let Some(source) = &spec.scale_io {
        let fields = [
            ("gateway", &*source.gateway),
            ("system", &source.system),
            ("volumeName", text(&source.volume_name)),
        ];
        errors.extend(rules::all_required(&fields, &path.child("scaleIO")));
    }
    if let Some(source) = &spec.storageos {
        let path = path.child("storageos");
        errors.extend(rules::storage_os(
            &source.volume_name,
            &source.volume_namespace,
            &path,
        ));
    }
    errors
}

fn csi(source: &CSIPersistentVolumeSource, path: &Path) -> ErrorList {
    let mut errors = csi_driver_name(&source.driver, path.child("driver"));
    if source.volume_handle.is_empty() {
        errors.push(field::required(path.child("volumeHandle"), ""));
    }
    for (secret, name) in [
        (
            &source.controller_publish_secret_ref,
            "controllerPublishSecretRef",
        ),
        (
            &source.controller_expand_secret_ref,
            "controllerExpandSecretRef",
        ),
        (&source.node_publish_secret_ref, "nodePublishSecretRef"),
        (&source.node_expand_secret_ref, "nodeExpandSecretRef"),
    ] {
        let Some(secret) = secret else { continue };
        let path = path.child(name);
        match text(&secret.name) {
            "" => errors.push(field::required(path.child("name"), "")),
            name => errors.extend(dns_subdomain(name, path.child("name"))),
        }
        match text(&secret.namespace) {
            "" => errors.push(field::required(path.child("namespace"), "")),
            name => errors.extend(dns_label(name, path.child("namespace"))),
        }
    }
    errors
}

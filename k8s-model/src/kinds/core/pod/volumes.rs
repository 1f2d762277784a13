//! Validation of volumes.

mod certificate;
pub(crate) mod in_tree;
pub(crate) mod network;
mod projected;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    AzureFileVolumeSource, CephFSVolumeSource, CinderVolumeSource, ConfigMapVolumeSource,
    DownwardAPIVolumeFile, FlexVolumeSource, GCEPersistentDiskVolumeSource, GlusterfsVolumeSource,
    HostPathVolumeSource, KeyToPath, PhotonPersistentDiskVolumeSource, PodSpec,
    PortworxVolumeSource, ProjectedVolumeSource, RBDVolumeSource, ScaleIOVolumeSource,
    SecretVolumeSource, StorageOSVolumeSource, Volume, VsphereVirtualDiskVolumeSource,
};

pub(super) use self::projected::{has_bad_token_paths, tokens_need_an_account};
use super::{
    allowances::Allowances,
    containers::Volumes,
    environment::{field_ref, resource_field_ref},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, dns_label, list, messages, supported, text},
        core::persistent_volume_claim,
        quantities,
    },
    names,
};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks the volumes, and gives the sound ones by name.
pub(super) fn volumes<'a>(
    volumes: &'a [Volume],
    pod_name: Option<&str>,
    allowed: Allowances,
    path: &Path,
) -> (Volumes<'a>, ErrorList) {
    let mut errors = ErrorList::new();
    let mut sound = Volumes::new();
    let pod_name = pod_name.filter(|name| !name.is_empty());
    let created: BTreeSet<String> = pod_name
        .into_iter()
        .flat_map(|pod| {
            volumes
                .iter()
                .filter(|volume| volume.ephemeral.is_some())
                .map(move |volume| format!("{pod}-{}", volume.name))
        })
        .collect();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let mut found = source(volume, pod_name, allowed, &path);
        if volume.name.is_empty() {
            found.push(field::required(path.child("name"), ""));
        } else {
            found.extend(dns_label(&volume.name, path.child("name")));
        }
        if sound.contains_key(volume.name.as_str()) {
            found.push(field::duplicate(path.child("name"), volume.name.as_str()));
        }
        if found.is_empty() {
            sound.insert(&volume.name, volume);
        } else {
            errors.extend(found);
        }
        if let Some(claim) = &volume.persistent_volume_claim
            && created.contains(&claim.claim_name)
        {
            errors.push(field::invalid(
                path.child("persistentVolumeClaim").child("claimName"),
                claim.claim_name.as_str(),
                "must not reference a PVC that gets created for an ephemeral volume",
            ));
        }
    }
    (sound, errors)
}

/// Whether volumes of images say no image.
pub(super) fn has_unnamed_images(spec: &PodSpec) -> bool {
    let mut images = list(&spec.volumes)
        .iter()
        .filter_map(|volume| volume.image.as_ref());
    images.any(|image| blank(&image.reference))
}

/// The name of the claim that is made for an ephemeral volume, if both the pod and the volume have one.
fn claim_name(volume: &Volume, pod_name: Option<&str>, path: Path) -> ErrorList {
    let volume = volume.name.as_str();
    let Some(pod) = pod_name.filter(|_| !volume.is_empty()) else {
        return ErrorList::new();
    };
    let claim = format!("{pod}-{volume}");
    let wrong = names::dns_subdomain(&claim, false).into_iter();
    let wrong = wrong.map(|text| format!("PVC name {claim:?}: {text}"));
    messages(&path, volume, wrong.collect())
}

/// Exactly one source, sound by its own rules.
fn source(volume: &Volume, pod_name: Option<&str>, allowed: Allowances, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut count = 0;
    let mut check = |set: bool, name: &str, check: &dyn Fn(&Path) -> ErrorList| {
        if !set {
            return;
        }
        if count > 0 {
            errors.push(field::forbidden(
                path.child(name),
                "may not specify more than 1 volume type",
            ));
        } else {
            count += 1;
            errors.extend(check(&path.child(name)));
        }
    };
    macro_rules! check {
        ($field:ident, $name:literal) => {
            check(volume.$field.is_some(), $name, &|_| ErrorList::new())
        };
        ($field:ident, $name:literal, $check:expr) => {
            check(volume.$field.is_some(), $name, &|path| {
                volume
                    .$field
                    .as_ref()
                    .map(|source| $check(source, path))
                    .unwrap_or_default()
            })
        };
    }
    check!(
        empty_dir,
        "emptyDir",
        |source: &k8s_openapi::api::core::v1::EmptyDirVolumeSource, path: &Path| {
            match &source.size_limit {
                Some(limit) if quantities::parse(limit).is_none_or(|limit| limit.signum() < 0) => {
                    vec![field::forbidden(
                        path.child("sizeLimit"),
                        "SizeLimit field must be a valid resource quantity",
                    )]
                }
                _ => ErrorList::new(),
            }
        }
    );
    check!(host_path, "hostPath", host_path);
    check!(git_repo, "gitRepo", in_tree::git_repo);
    // Findings call it otherwise than the object does.
    let disk_path = path.child("persistentDisk");
    check!(
        gce_persistent_disk,
        "gcePersistentDisk",
        |source: &GCEPersistentDiskVolumeSource, _: &Path| {
            in_tree::gce_disk(source, &disk_path)
        }
    );
    check!(
        aws_elastic_block_store,
        "awsElasticBlockStore",
        in_tree::aws_disk
    );
    check!(secret, "secret", secret);
    check!(
        nfs,
        "nfs",
        |source: &k8s_openapi::api::core::v1::NFSVolumeSource, path: &Path| {
            nfs(&source.server, &source.path, path)
        }
    );
    check!(iscsi, "iscsi", network::iscsi);
    check!(
        glusterfs,
        "glusterfs",
        |source: &GlusterfsVolumeSource, path: &Path| {
            let fields = [("endpoints", &*source.endpoints), ("path", &source.path)];
            in_tree::all_required(&fields, path)
        }
    );
    check!(flocker, "flocker", in_tree::flocker);
    check!(
        persistent_volume_claim,
        "persistentVolumeClaim",
        |source: &k8s_openapi::api::core::v1::PersistentVolumeClaimVolumeSource, path: &Path| {
            required(&source.claim_name, path.child("claimName"))
        }
    );
    check!(rbd, "rbd", |source: &RBDVolumeSource, path: &Path| {
        in_tree::monitored(&source.monitors, &[("image", &source.image)], path)
    });
    check!(
        cinder,
        "cinder",
        |source: &CinderVolumeSource, path: &Path| {
            let mut errors = required(&source.volume_id, path.child("volumeID"));
            if let Some(secret) = &source.secret_ref {
                errors.extend(in_tree::secret(&[("name", &secret.name)], path));
            }
            errors
        }
    );
    check!(
        cephfs,
        "cephfs",
        |source: &CephFSVolumeSource, path: &Path| {
            in_tree::monitored(&source.monitors, &[], path)
        }
    );
    check!(quobyte, "quobyte", in_tree::quobyte);
    check!(
        downward_api,
        "downwardAPI",
        |source: &k8s_openapi::api::core::v1::DownwardAPIVolumeSource, path: &Path| {
            let mut errors = mode(source.default_mode, path.child("defaultMode"));
            for file in list(&source.items) {
                errors.extend(downward_file(file, path));
            }
            errors
        }
    );
    check!(fc, "fc", network::fibre_channel);
    check!(
        flex_volume,
        "flexVolume",
        |source: &FlexVolumeSource, path: &Path| {
            in_tree::flex(&source.driver, &source.options, path)
        }
    );
    check!(config_map, "configMap", config_map);
    check!(
        azure_file,
        "azureFile",
        |source: &AzureFileVolumeSource, path: &Path| {
            let fields = [
                ("secretName", &*source.secret_name),
                ("shareName", &source.share_name),
            ];
            in_tree::all_required(&fields, path)
        }
    );
    check!(
        vsphere_volume,
        "vsphereVolume",
        |source: &VsphereVirtualDiskVolumeSource, path: &Path| {
            required(&source.volume_path, path.child("volumePath"))
        }
    );
    check!(
        photon_persistent_disk,
        "photonPersistentDisk",
        |source: &PhotonPersistentDiskVolumeSource, path: &Path| {
            required(&source.pd_id, path.child("pdID"))
        }
    );
    check!(
        portworx_volume,
        "portworxVolume",
        |source: &PortworxVolumeSource, path: &Path| {
            required(&source.volume_id, path.child("volumeID"))
        }
    );
    check!(azure_disk, "azureDisk", in_tree::azure_disk);
    check!(
        storageos,
        "storageos",
        |source: &StorageOSVolumeSource, path: &Path| {
            let mut errors =
                in_tree::storage_os(&source.volume_name, &source.volume_namespace, path);
            if let Some(secret) = &source.secret_ref {
                errors.extend(in_tree::secret(&[("name", &secret.name)], path));
            }
            errors
        }
    );
    check!(
        projected,
        "projected",
        |source: &ProjectedVolumeSource, path: &Path| {
            projected::validate(source, allowed.token_paths, path)
        }
    );
    check!(
        scale_io,
        "scaleIO",
        |source: &ScaleIOVolumeSource, path: &Path| {
            let fields = [
                ("gateway", &*source.gateway),
                ("system", &source.system),
                ("volumeName", text(&source.volume_name)),
            ];
            in_tree::all_required(&fields, path)
        }
    );
    check!(csi, "csi", network::csi);
    check!(
        ephemeral,
        "ephemeral",
        |source: &k8s_openapi::api::core::v1::EphemeralVolumeSource, at: &Path| {
            let at = at.child("volumeClaimTemplate");
            let mut errors = match &source.volume_claim_template {
                None => vec![field::required(at, "")],
                Some(template) => persistent_volume_claim::validate_template(template, &at),
            };
            errors.extend(claim_name(volume, pod_name, path.child("name")));
            errors
        }
    );
    check!(
        image,
        "image",
        |source: &k8s_openapi::api::core::v1::ImageVolumeSource, path: &Path| {
            let mut errors = ErrorList::new();
            if !allowed.unnamed_images {
                errors.extend(required(text(&source.reference), path.child("reference")));
            }
            errors.extend(supported(
                text(&source.pull_policy),
                &["Always", "IfNotPresent", "Never"],
                path.child("pullPolicy"),
            ));
            errors
        }
    );
    if count == 0 {
        errors.push(field::required(path.clone(), "must specify a volume type"));
    }
    errors
}

fn required(value: &str, path: Path) -> ErrorList {
    if value.is_empty() {
        vec![field::required(path, "")]
    } else {
        ErrorList::new()
    }
}

pub(crate) fn nfs(server: &str, target: &str, path: &Path) -> ErrorList {
    let mut errors = required(server, path.child("server"));
    errors.extend(required(target, path.child("path")));
    if !target.starts_with('/') {
        errors.push(field::invalid(
            path.child("path"),
            target,
            "must be an absolute path",
        ));
    }
    errors
}

pub(crate) fn host_path(source: &HostPathVolumeSource, path: &Path) -> ErrorList {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if source.path.is_empty() {
        return vec![field::required(path.child("path"), "")];
    }
    let mut errors = no_backsteps(&source.path, path.child("path"));
    if let Some(sort) = &source.type_ {
        errors.extend(supported(sort, TYPES, path.child("type")));
    }
    errors
}

fn secret(source: &SecretVolumeSource, path: &Path) -> ErrorList {
    let mut errors = required(text(&source.secret_name), path.child("secretName"));
    errors.extend(mode(source.default_mode, path.child("defaultMode")));
    errors.extend(keys(list(&source.items), path));
    errors
}

fn config_map(source: &ConfigMapVolumeSource, path: &Path) -> ErrorList {
    let mut errors = required(&source.name, path.child("name"));
    errors.extend(mode(source.default_mode, path.child("defaultMode")));
    errors.extend(keys(list(&source.items), path));
    errors
}

fn keys(items: &[KeyToPath], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.child("items").index(index);
        errors.extend(required(&item.key, path.child("key")));
        errors.extend(required(&item.path, path.child("path")));
        errors.extend(non_reserved_path(&item.path, path.child("path")));
        errors.extend(mode(item.mode, path.child("mode")));
    }
    errors
}

fn downward_file(file: &DownwardAPIVolumeFile, path: &Path) -> ErrorList {
    let mut errors = required(&file.path, path.child("path"));
    errors.extend(non_reserved_path(&file.path, path.child("path")));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(reference), resource) => {
            errors.extend(field_ref(reference, FIELDS, &path.child("fieldRef")));
            if resource.is_some() {
                errors.push(field::invalid(
                    path.clone(),
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
        }
        (None, Some(reference)) => {
            let path = path.child("resourceFieldRef");
            errors.extend(resource_field_ref(reference, &path, true));
        }
        (None, None) => errors.push(field::required(
            path.clone(),
            "one of fieldRef and resourceFieldRef is required",
        )),
    }
    errors.extend(mode(file.mode, path.child("mode")));
    errors
}

fn mode(mode: Option<i32>, path: Path) -> ErrorList {
    match mode {
        Some(mode) if !(0..=0o777).contains(&mode) => vec![field::invalid(path, mode, MODE)],
        _ => ErrorList::new(),
    }
}

/// Whether a path has a `..` in it.
pub(super) fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

pub(crate) fn no_backsteps(value: &str, path: Path) -> ErrorList {
    if has_backsteps(value) {
        vec![field::invalid(path, value, "must not contain '..'")]
    } else {
        ErrorList::new()
    }
}

/// A relative path that does not leave where it starts.
pub(super) fn descending_path(value: &str, path: Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if value.starts_with('/') {
        errors.push(field::invalid(
            path.clone(),
            value,
            "must be a relative path",
        ));
    }
    errors.extend(no_backsteps(value, path));
    errors
}

fn non_reserved_path(value: &str, path: Path) -> ErrorList {
    let mut errors = descending_path(value, path.clone());
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(field::invalid(path, value, "must not start with '..'"));
    }
    errors
}

//! Volumes of drivers that upstream once had in itself: their shape is still checked.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, FlockerVolumeSource,
    GCEPersistentDiskVolumeSource, GitRepoVolumeSource, QuobyteVolumeSource,
};

use super::{descending_path, required};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{blank, dns_label, fill, fill_absent, supported, text},
};

pub(crate) fn default_rbd(
    pool: &mut Option<String>,
    user: &mut Option<String>,
    keyring: &mut Option<String>,
) {
    fill(pool, "rbd");
    fill(user, "admin");
    fill(keyring, "/etc/ceph/keyring");
}

pub(crate) fn default_azure_disk(disk: &mut AzureDiskVolumeSource) {
    fill_absent(&mut disk.caching_mode, "ReadWrite");
    fill_absent(&mut disk.kind, "Shared");
    fill_absent(&mut disk.fs_type, "ext4");
    disk.read_only.get_or_insert(false);
}

pub(crate) fn default_scale_io(mode: &mut Option<String>, file_system: &mut Option<String>) {
    fill(mode, "ThinProvisioned");
    fill(file_system, "xfs");
}

/// Fields that must not be empty, by name.
pub(crate) fn all_required(fields: &[(&str, &str)], path: &Path) -> ErrorList {
    let missing = fields.iter().filter(|(_, value)| value.is_empty());
    missing
        .map(|(name, _)| field::required(path.child(name), ""))
        .collect()
}

/// A reference to a secret: each part of it that there is must say something.
pub(crate) fn secret(parts: &[(&str, &str)], path: &Path) -> ErrorList {
    all_required(parts, &path.child("secretRef"))
}

pub(super) fn git_repo(source: &GitRepoVolumeSource, path: &Path) -> ErrorList {
    let mut errors = required(&source.repository, path.child("repository"));
    errors.extend(descending_path(
        text(&source.directory),
        path.child("directory"),
    ));
    errors
}

fn partition(partition: Option<i32>, path: &Path) -> ErrorList {
    match partition {
        Some(number) if !(0..=255).contains(&number) => vec![field::invalid(
            path.child("partition"),
            number,
            "must be between 1 and 255, inclusive",
        )],
        _ => ErrorList::new(),
    }
}

/// The path is the volume's: upstream gives the source another name in findings than in the object.
pub(crate) fn gce_disk(source: &GCEPersistentDiskVolumeSource, path: &Path) -> ErrorList {
    let mut errors = required(&source.pd_name, path.child("pdName"));
    errors.extend(partition(source.partition, path));
    errors
}

pub(crate) fn aws_disk(source: &AWSElasticBlockStoreVolumeSource, path: &Path) -> ErrorList {
    let mut errors = required(&source.volume_id, path.child("volumeID"));
    errors.extend(partition(source.partition, path));
    errors
}

pub(crate) fn azure_disk(source: &AzureDiskVolumeSource, path: &Path) -> ErrorList {
    let mut errors = all_required(
        &[
            ("diskName", &source.disk_name),
            ("diskURI", &source.disk_uri),
        ],
        path,
    );
    if let Some(mode) = &source.caching_mode {
        let modes = &["None", "ReadOnly", "ReadWrite"];
        errors.extend(supported(mode, modes, path.child("cachingMode")));
    }
    let Some(kind) = &source.kind else {
        return errors;
    };
    errors.extend(supported(
        kind,
        &["Dedicated", "Managed", "Shared"],
        path.child("kind"),
    ));
    let (start, form) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !source.disk_uri.starts_with(start) {
        let uri = source.disk_uri.as_str();
        errors.push(field::not_supported(path.child("diskURI"), uri, &[form]));
    }
    errors
}

pub(crate) fn flocker(source: &FlockerVolumeSource, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    match (blank(&source.dataset_name), blank(&source.dataset_uuid)) {
        (true, true) => errors.push(field::required(
            path.clone(),
            "one of datasetName and datasetUUID is required",
        )),
        (false, false) => errors.push(field::invalid(
            path.clone(),
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        )),
        _ => {}
    }
    let name = text(&source.dataset_name);
    if name.contains('/') {
        errors.push(field::invalid(
            path.child("datasetName"),
            name,
            "must not contain '/'",
        ));
    }
    errors
}

pub(crate) fn quobyte(source: &QuobyteVolumeSource, path: &Path) -> ErrorList {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let mut errors = ErrorList::new();
    let registry = path.child("registry");
    if source.registry.is_empty() {
        errors.push(field::required(registry, PAIRS));
    } else if text(&source.tenant).len() > 64 {
        errors.push(field::required(
            path.child("tenant"),
            "must be a UUID and may not exceed a length of 64 characters",
        ));
    } else {
        for pair in source.registry.split(',').filter(|pair| !is_pair(pair)) {
            let _ = pair;
            let value = source.registry.as_str();
            errors.push(field::invalid(registry.clone(), value, PAIRS));
        }
    }
    errors.extend(required(&source.volume, path.child("volume")));
    errors
}

/// Whether Go's `net.SplitHostPort` takes a text.
fn is_pair(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let inner = bracketed.unwrap_or(host);
    (bracketed.is_some() || !host.contains(':')) && ![inner, port].concat().contains(['[', ']'])
}

/// A driver of one's own, and its options.
pub(crate) fn flex(
    driver: &str,
    options: &Option<BTreeMap<String, String>>,
    path: &Path,
) -> ErrorList {
    let mut errors = required(driver, path.child("driver"));
    for key in options.iter().flat_map(BTreeMap::keys) {
        let domain = key
            .split_once('/')
            .map_or(key.as_str(), |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            errors.push(field::invalid(
                path.child("options").key(key),
                key.as_str(),
                "kubernetes.io and k8s.io namespaces are reserved",
            ));
        }
    }
    errors
}

/// A list of machines that must not be empty, and fields that must not either.
pub(crate) fn monitored(monitors: &[String], fields: &[(&str, &str)], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if monitors.is_empty() {
        errors.push(field::required(path.child("monitors"), ""));
    }
    errors.extend(all_required(fields, path));
    errors
}

pub(crate) fn storage_os(
    name: &Option<String>,
    namespace: &Option<String>,
    path: &Path,
) -> ErrorList {
    let mut errors = match text(name) {
        "" => vec![field::required(path.child("volumeName"), "")],
        name => dns_label(name, path.child("volumeName")),
    };
    if !blank(namespace) {
        errors.extend(dns_label(text(namespace), path.child("volumeNamespace")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_split_as_go_splits_them() {
        for good in ["a:1", ":1", "a:", "[::1]:80", "1.2.3.4:http"] {
            assert!(is_pair(good), "{good}");
        }
        for bad in ["", "a", "::1", "a:b:1", "[::1]", "[a:1", "a]:1"] {
            assert!(!is_pair(bad), "{bad}");
        }
    }
}

//! Validation of what containers do with volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, VolumeDevice, VolumeMount};

use super::{containers::Volumes, volumes};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, supported, text},
};

/// Where volumes are mounted.
pub(super) fn volume_mounts(container: &Container, known: &Volumes<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut mount_points = BTreeSet::new();
    let devices = list(&container.volume_devices);
    for (index, mount) in list(&container.volume_mounts).iter().enumerate() {
        let at = path.index(index);
        if mount.name.is_empty() {
            errors.push(field::required(at.child("name"), ""));
        }
        if !known.contains_key(mount.name.as_str()) {
            errors.push(field::not_found(at.child("name"), mount.name.as_str()));
        }
        if mount.mount_path.is_empty() {
            errors.push(field::required(at.child("mountPath"), ""));
        }
        let mut invalid = |name: &str, value: &str, detail: &str| {
            errors.push(field::invalid(at.child(name), value, detail));
        };
        if !mount_points.insert(mount.mount_path.as_str()) {
            invalid("mountPath", &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            invalid(
                "name",
                &mount.name,
                "must not already exist in volumeDevices",
            );
        }
        if devices
            .iter()
            .any(|device| device.device_path == mount.mount_path)
        {
            invalid(
                "mountPath",
                &mount.mount_path,
                "must not already exist as a path in volumeDevices",
            );
        }
        let (sub_path, sub_path_expr) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        if !sub_path_expr.is_empty() && !sub_path.is_empty() {
            invalid(
                "subPathExpr",
                sub_path_expr,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        if !sub_path.is_empty() {
            errors.extend(volumes::descending_path(sub_path, path.child("subPath")));
        }
        if !sub_path_expr.is_empty() {
            errors.extend(volumes::descending_path(
                sub_path_expr,
                path.child("subPathExpr"),
            ));
        }
        errors.extend(mount_propagation(
            mount,
            container,
            path.child("mountPropagation"),
        ));
        errors.extend(recursive_read_only(mount, at.child("recursiveReadOnly")));
    }
    errors
}

fn mount_propagation(mount: &VolumeMount, container: &Container, path: Path) -> ErrorList {
    let Some(propagation) = &mount.mount_propagation else {
        return ErrorList::new();
    };
    let mut errors = supported(
        propagation,
        &["Bidirectional", "HostToContainer", "None"],
        path.clone(),
    );
    let privileged = container
        .security_context
        .as_ref()
        .is_some_and(|context| context.privileged == Some(true));
    if propagation == "Bidirectional" && !privileged {
        errors.push(field::forbidden(
            path,
            "Bidirectional mount propagation is available only to privileged containers",
        ));
    }
    errors
}

fn recursive_read_only(mount: &VolumeMount, path: Path) -> ErrorList {
    let value = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return ErrorList::new(),
        Some(value) => value,
    };
    let mut errors = ErrorList::new();
    if mount.read_only != Some(true) {
        errors.push(field::forbidden(
            path.clone(),
            "may only be specified when readOnly is true",
        ));
    }
    if mount
        .mount_propagation
        .as_deref()
        .is_some_and(|p| p != "None")
    {
        errors.push(field::forbidden(
            path.clone(),
            "may only be specified when mountPropagation is None or not specified",
        ));
    }
    errors.extend(supported(
        value,
        &["Disabled", "Enabled", "IfPossible"],
        path,
    ));
    errors
}

/// Where volumes appear as block devices.
pub(super) fn volume_devices(
    devices: &[VolumeDevice],
    mounts: &[VolumeMount],
    known: &Volumes<'_>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in devices.iter().enumerate() {
        let path = path.index(index);
        let (name, device_path) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.push(field::required(path.child("name"), ""));
        }
        if !names.insert(name) {
            errors.push(field::invalid(path.child("name"), name, "must be unique"));
        }
        match known.get(name) {
            None => errors.push(field::not_found(path.child("name"), name)),
            Some(volume)
                if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() =>
            {
                errors.push(field::invalid(
                    path.child("name"),
                    name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                ));
            }
            Some(_) => {}
        }
        if device_path.is_empty() {
            errors.push(field::required(path.child("devicePath"), ""));
        }
        let mut invalid = |detail: &str| {
            errors.push(field::invalid(
                path.child("devicePath"),
                device_path,
                detail,
            ));
        };
        if paths.contains(device_path) {
            invalid("must be unique");
        }
        if volumes::has_backsteps(device_path) {
            invalid("can not contain backsteps ('..')");
        } else {
            paths.insert(device_path);
        }
        if mounts.iter().any(|mount| mount.mount_path == device_path) {
            invalid("must not already exist as a path in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.name == name) {
            errors.push(field::invalid(
                path.child("name"),
                name,
                "must not already exist in volumeMounts",
            ));
        }
    }
    errors
}

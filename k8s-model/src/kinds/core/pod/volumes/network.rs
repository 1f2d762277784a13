//! Volumes that some other machine or driver has.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{
    CSIVolumeSource, FCVolumeSource, ISCSIPersistentVolumeSource, ISCSIVolumeSource,
};

use regex::Regex;

use super::required;
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{blank, csi_driver_name, json, list, messages},
    names,
};

static QUALIFIED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(iqn\.[0-9]{4}-[0-9]{2}\.[0-9A-Za-z.-]+:[^,;*&$|\s]+|eui.[0-9A-Za-z]{16}|naa.[0-9A-Za-z]{32})$",
    )
    .expect("the pattern is well formed")
});

const FORM: &str = "must be valid format";
const STARTS: &str = "must be valid format starting with iqn, eui, or naa";

const LUN: std::ops::RangeInclusive<i32> = 0..=255;

/// A volume of a CSI driver, for one pod alone.
pub(super) fn csi(source: &CSIVolumeSource, path: &Path) -> ErrorList {
    let mut errors = csi_driver_name(&source.driver, path.child("driver"));
    if let Some(secret) = &source.node_publish_secret_ref {
        if secret.name.is_empty() {
            errors.push(field::required(
                path.child("nodePublishSecretRef").child("name"),
                "",
            ));
        } else {
            errors.extend(messages(
                &path.child("name"),
                secret.name.as_str(),
                names::dns_subdomain(&secret.name, false),
            ));
        }
    }
    errors
}

/// A disk behind Fibre Channel.
pub(crate) fn fibre_channel(source: &FCVolumeSource, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (targets, ids) = (list(&source.target_wwns), list(&source.wwids));
    if targets.is_empty() && ids.is_empty() {
        errors.push(field::required(
            path.child("targetWWNs"),
            "must specify either targetWWNs or wwids, but not both",
        ));
    }
    if !targets.is_empty() && !ids.is_empty() {
        errors.push(field::invalid(
            path.child("targetWWNs"),
            json(&targets),
            "targetWWNs and wwids can not be specified simultaneously",
        ));
    }
    if !targets.is_empty() {
        match source.lun {
            None => errors.push(field::required(
                path.child("lun"),
                "lun is required if targetWWNs is specified",
            )),
            Some(lun) => errors.extend(lun_number(lun, path)),
        }
    }
    errors
}

/// A disk behind iSCSI.
pub(super) fn iscsi(source: &ISCSIVolumeSource, path: &Path) -> ErrorList {
    let mut errors = required(&source.target_portal, path.child("targetPortal"));
    let iqn = path.child("iqn");
    if source.iqn.is_empty() {
        errors.push(field::required(iqn, ""));
    } else {
        errors.extend(qualified(&source.iqn, iqn, STARTS));
    }
    errors.extend(lun_number(source.lun, path));
    let authenticates = [source.chap_auth_discovery, source.chap_auth_session];
    if authenticates.contains(&Some(true)) && source.secret_ref.is_none() {
        errors.push(field::required(path.child("secretRef"), ""));
    }
    if let Some(name) = &source.initiator_name {
        errors.extend(qualified(name, path.child("initiatorname"), STARTS));
    }
    errors
}

/// A disk behind iSCSI that a PersistentVolume of that name is.
pub(crate) fn persistent_iscsi(
    source: &ISCSIPersistentVolumeSource,
    volume: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = required(&source.target_portal, path.child("targetPortal"));
    // The name that the kernel is told has no more room.
    if source.initiator_name.is_some() && volume.len() + 1 + source.target_portal.len() > 64 {
        errors.push(field::invalid(
            path.child("targetportal"),
            source.target_portal.as_str(),
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
        ));
    }
    let iqn = path.child("iqn");
    if source.iqn.is_empty() {
        errors.push(field::required(iqn, ""));
    } else {
        errors.extend(qualified(&source.iqn, iqn, FORM));
    }
    errors.extend(lun_number(source.lun, path));
    let authenticates = [source.chap_auth_discovery, source.chap_auth_session];
    match &source.secret_ref {
        None if authenticates.contains(&Some(true)) => {
            errors.push(field::required(path.child("secretRef"), ""));
        }
        Some(secret) if blank(&secret.name) => {
            errors.push(field::required(path.child("secretRef").child("name"), ""));
        }
        _ => {}
    }
    if let Some(name) = &source.initiator_name {
        errors.extend(qualified(name, path.child("initiatorname"), FORM));
    }
    errors
}

fn lun_number(lun: i32, path: &Path) -> ErrorList {
    if LUN.contains(&lun) {
        ErrorList::new()
    } else {
        vec![field::invalid(
            path.child("lun"),
            lun,
            "must be between 0 and 255, inclusive",
        )]
    }
}

/// A name as RFC 3720 has them: `iqn.2001-04.com.example:disk`, `eui.` and 16 digits, `naa.` and 32.
fn qualified(name: &str, path: Path, otherwise: &str) -> ErrorList {
    let of = |kind: &str| name.starts_with(kind);
    if !(of("iqn") || of("eui") || of("naa")) {
        return vec![field::invalid(path, name, otherwise)];
    }
    if QUALIFIED.is_match(name) {
        ErrorList::new()
    } else {
        vec![field::invalid(path, name, FORM)]
    }
}

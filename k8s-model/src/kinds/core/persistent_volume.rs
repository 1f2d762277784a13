//! The rules of PersistentVolumes.

use k8s_openapi::{
    api::core::v1::{
        PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus, VolumeNodeAffinity,
    },
    jiff::Timestamp,
};
use serde_json::{Map, Value};

use super::{
    persistent_volume_claim::{access_modes, class_advice},
    persistent_volume_sources,
    pod::{self, in_tree},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            annotation_advice, dns_subdomain, fill, fill_absent, immutable, json, list, same,
            supported, text,
        },
        difference::{self, difference},
        node_labels, quantities,
        typed::KindRules,
    },
    metadata,
};

/// The rules of PersistentVolumes.
pub(crate) struct PersistentVolumeRules;

impl KindRules for PersistentVolumeRules {
    type Kind = PersistentVolume;

    const METADATA: (usize, usize) = (2, 0);

    fn default(&self, volume: &mut PersistentVolume) {
        let spec = volume.spec.get_or_insert_default();
        fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
        fill_absent(&mut spec.volume_mode, "Filesystem");
        quantities::normalize(&mut spec.capacity);
        if let Some(host_path) = &mut spec.host_path {
            host_path.type_.get_or_insert_default();
        }
        if let Some(rbd) = &mut spec.rbd {
            in_tree::default_rbd(&mut rbd.pool, &mut rbd.user, &mut rbd.keyring);
        }
        if let Some(iscsi) = &mut spec.iscsi {
            fill(&mut iscsi.iscsi_interface, "default");
        }
        if let Some(disk) = &mut spec.azure_disk {
            in_tree::default_azure_disk(disk);
        }
        if let Some(source) = &mut spec.scale_io {
            in_tree::default_scale_io(&mut source.storage_mode, &mut source.fs_type);
        }
        fill(&mut volume.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_for_create(&self, volume: &mut PersistentVolume) {
        volume.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: volume.metadata.creation_timestamp.clone(),
            ..PersistentVolumeStatus::default()
        });
    }

    fn validate(&self, volume: &PersistentVolume) -> ErrorList {
        validate(volume, false)
    }

    fn warnings(&self, volume: &PersistentVolume) -> Vec<String> {
        let mut out = Vec::from_iter(class_advice(&volume.metadata));
        let told = "deprecated since v1.31; use \"mountOptions\" attribute instead";
        out.extend(annotation_advice(
            &volume.metadata,
            "volume.beta.kubernetes.io/mount-options",
            told,
        ));
        if let Some(spec) = &volume.spec {
            out.extend(spec_warnings(spec, &Path::new("spec")));
        }
        out
    }

    fn prepare_for_update(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.status.clone_from(&old.status);
    }

    /// What is wrong with the volume is told twice: upstream has it checked among what changes, and by itself before.
    fn validate_update(&self, new: &PersistentVolume, old: &PersistentVolume) -> ErrorList {
        let affinity = old
            .spec
            .as_ref()
            .and_then(|spec| spec.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required.as_ref());
        let mut errors = validate(new, required.is_some_and(pod::has_bad_values));
        errors.extend_from_within(..);
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
                let ty = "PersistentVolumeSource";
                let changes = difference(ty, &before, &after);
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
            if let Some(old) = &old.node_affinity {
                let old = Some(with_newer_labels(old, new.node_affinity.as_ref()));
                let path = Path::new("nodeAffinity");
                let (ty, new) = ("VolumeNodeAffinity", &new.node_affinity);
                let found = difference::immutable(ty, new, &old, path);
                errors.extend(found.into_iter().map(|error| field::Error {
                    detail: error.detail + ", except for updating from beta label to GA",
                    ..error
                }));
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

    fn stamp(
        &self,
        subresource: &str,
        new: &mut PersistentVolume,
        old: Option<&PersistentVolume>,
        now: Timestamp,
    ) {
        let Some(old) = old.filter(|_| subresource == "status") else {
            return;
        };
        let empty = PersistentVolumeStatus::default();
        let old = old.status.as_ref().unwrap_or(&empty);
        let new = new.status.get_or_insert_default();
        let since = &mut new.last_phase_transition_time;
        // Who says nothing of the time means that of the phase that there was; another phase has one of its own.
        if text(&new.phase) == text(&old.phase) {
            if since.is_none() {
                since.clone_from(&old.last_phase_transition_time);
            }
        } else if since.is_none() || *since == old.last_phase_transition_time {
            *since = Some(metadata::to_second(now));
        }
    }
}

/// Advice on what of a volume is out of use.
fn spec_warnings(spec: &PersistentVolumeSpec, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    if text(&spec.persistent_volume_reclaim_policy) == "Recycle" {
        let path = path.child("persistentVolumeReclaimPolicy");
        out.push(format!(
            "{path}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
        ));
    }
    let affinity = spec.node_affinity.as_ref();
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let at = path.child("nodeAffinity").child("required");
    let at = at.child("nodeSelectorTerms");
    let terms = required.map_or(&[][..], |required| &required.node_selector_terms);
    for (index, term) in terms.iter().enumerate() {
        out.extend(node_labels::term(term, &at.index(index)));
    }
    for (is_source, name, since, without) in [
        (spec.cephfs.is_some(), "cephfs", "v1.28", "v1.31"),
        (
            spec.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "v1.11",
            "v1.16",
        ),
        (spec.scale_io.is_some(), "scaleIO", "v1.16", "v1.22"),
        (spec.storageos.is_some(), "storageOS", "v1.22", "v1.25"),
        (spec.glusterfs.is_some(), "glusterfs", "v1.25", "v1.26"),
        (spec.rbd.is_some(), "rbd", "v1.28", "v1.31"),
    ] {
        if is_source {
            let path = path.child(name);
            out.push(format!(
                "{path}: deprecated in {since}, non-functional in {without}+"
            ));
        }
    }
    out
}

const EXPAND_SECRET: &str = "controllerExpandSecretRef";

/// The nodes that there were, by the labels of now where only these have changed.
fn with_newer_labels(
    old: &VolumeNodeAffinity,
    new: Option<&VolumeNodeAffinity>,
) -> VolumeNodeAffinity {
    let mut out = old.clone();
    let newer = new.and_then(|new| new.required.as_ref());
    let newer = newer.map_or(&[][..], |newer| &newer.node_selector_terms);
    let terms = out.required.iter_mut();
    let terms = terms.flat_map(|required| &mut required.node_selector_terms);
    for (old, new) in terms.zip(newer) {
        let expressions = old.match_expressions.iter_mut().flatten();
        for (old, new) in expressions.zip(list(&new.match_expressions)) {
            if node_labels::newer(&old.key) == Some(new.key.as_str()) {
                old.key.clone_from(&new.key);
            }
        }
    }
    out
}

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

/// The checks of a volume, whose nodes may be those of values that no label can have where the stored one's are.
fn validate(volume: &PersistentVolume, any_values: bool) -> ErrorList {
    let empty = PersistentVolumeSpec::default();
    let spec = volume.spec.as_ref().unwrap_or(&empty);
    let name = text(&volume.metadata.name);
    validate_spec(spec, name, any_values, &Path::new("spec"))
}

fn validate_spec(
    spec: &PersistentVolumeSpec,
    name: &str,
    any_values: bool,
    path: &Path,
) -> ErrorList {
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
        let at = capacity.key(name);
        let whole = quantities::parse(quantity).map(|amount| amount.value());
        if let Some(size @ ..0) = whole {
            let text = "must be a valid resource quantity";
            errors.push(field::invalid(at.clone(), size, text));
        }
        errors.extend(quantities::positive(quantity, at));
    }
    let policy = text(&spec.persistent_volume_reclaim_policy);
    if !policy.is_empty() {
        errors.extend(supported(
            policy,
            &["Delete", "Recycle", "Retain"],
            path.child("persistentVolumeReclaimPolicy"),
        ));
    }
    if let Some(affinity) = &spec.node_affinity {
        let path = path.child("nodeAffinity");
        match &affinity.required {
            Some(selector) => {
                let path = path.child("required");
                errors.extend(pod::node_selector(selector, any_values, &path));
            }
            None => errors.push(field::required(
                path.child("required"),
                "must specify required node constraints",
            )),
        }
    }
    errors.extend(persistent_volume_sources::validate(spec, name, path));
    if let Some(host_path) = &spec.host_path {
        let is_root = host_path.path.trim_end_matches('/').is_empty() && !host_path.path.is_empty();
        if is_root && policy == "Recycle" {
            errors.push(field::forbidden(
                path.child("persistentVolumeReclaimPolicy"),
                "may not be 'recycle' for a hostPath mount of '/'",
            ));
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
    if let Some(class) = &spec.volume_attributes_class_name {
        let at = path.child("volumeAttributesClassName");
        match class.as_str() {
            "" => errors.push(field::required(at, "an empty string is disallowed")),
            class => errors.extend(dns_subdomain(class, at)),
        }
        if spec.csi.is_none() {
            errors.push(field::required(
                path.child("csi"),
                "has to be specified when using volumeAttributesClassName",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(key: &str, status: Value) -> PersistentVolume {
        let mut volume = serde_json::from_value(json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "d", "volumeHandle": "v"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]}]}},
            },
            "status": status,
        }))
        .unwrap();
        PersistentVolumeRules.default(&mut volume);
        volume
    }

    #[test]
    fn another_phase_begins_now_unless_it_says_when() {
        let (then, other, now) = (
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00Z",
            "2026-01-03T00:00:00Z",
        );
        let volume = |phase: &str, time: serde_json::Value| -> PersistentVolume {
            let status = json!({"phase": phase, "lastPhaseTransitionTime": time});
            serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
        };
        let old = volume("Pending", json!(then));
        for (phase, time, found) in [
            ("Pending", json!(then), then),
            ("Pending", json!(null), then),
            ("Available", json!(then), now),
            ("Available", json!(null), now),
            ("Available", json!(other), other),
        ] {
            let mut new = volume(phase, time);
            PersistentVolumeRules.stamp("status", &mut new, Some(&old), now.parse().unwrap());
            assert_eq!(new, volume(phase, json!(found)));
        }
    }

    #[test]
    fn nodes_may_be_named_by_newer_labels_and_not_otherwise() {
        let changed = |old: &str, new: &str| {
            let (old, new) = (volume(old, json!({})), volume(new, json!({})));
            let errors = PersistentVolumeRules.validate_update(&new, &old);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (old, new) in [
            (
                "failure-domain.beta.kubernetes.io/zone",
                "topology.kubernetes.io/zone",
            ),
            (
                "failure-domain.beta.kubernetes.io/region",
                "topology.kubernetes.io/region",
            ),
            ("beta.kubernetes.io/os", "kubernetes.io/os"),
            ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
            (
                "beta.kubernetes.io/instance-type",
                "node.kubernetes.io/instance-type",
            ),
        ] {
            assert_eq!(changed(old, new), [""; 0]);
            assert!(
                changed(new, old)[0]
                    .ends_with(": field is immutable, except for updating from beta label to GA")
            );
        }
        let errors = changed("beta.kubernetes.io/os", "kubernetes.io/arch");
        assert!(
            errors[0].starts_with("nodeAffinity: Invalid value: "),
            "{errors:?}"
        );
    }

    #[test]
    fn what_is_out_of_use_is_advised_against() {
        let rules = PersistentVolumeRules;
        assert_eq!(rules.warnings(&volume("a", json!({}))), [""; 0]);
        let mut old = volume("beta.kubernetes.io/os", json!({}));
        old.metadata.annotations = Some(
            [
                "volume.beta.kubernetes.io/mount-options",
                "volume.beta.kubernetes.io/storage-class",
            ]
            .map(|name| (name.to_owned(), String::new()))
            .into(),
        );
        let spec = old.spec.as_mut().unwrap();
        spec.persistent_volume_reclaim_policy = Some("Recycle".to_owned());
        spec.rbd = Some(Default::default());
        let told = [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead",
            "metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use \"mountOptions\" attribute instead",
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ];
        assert_eq!(rules.warnings(&old), told);
        assert_eq!(rules.update_warnings(&old, &old), told);
    }

    #[test]
    fn sources_that_are_gone_are_advised_against() {
        for (name, source, told) in [
            (
                "cephfs",
                json!({"monitors": []}),
                "v1.28, non-functional in v1.31+",
            ),
            (
                "photonPersistentDisk",
                json!({"pdID": ""}),
                "v1.11, non-functional in v1.16+",
            ),
            (
                "scaleIO",
                json!({"gateway": "", "secretRef": {}, "system": ""}),
                "v1.16, non-functional in v1.22+",
            ),
            ("storageos", json!({}), "v1.22, non-functional in v1.25+"),
            (
                "glusterfs",
                json!({"endpoints": "", "path": ""}),
                "v1.25, non-functional in v1.26+",
            ),
            (
                "rbd",
                json!({"image": "", "monitors": []}),
                "v1.28, non-functional in v1.31+",
            ),
        ] {
            let volume = json!({"metadata": {}, "spec": {name: source}});
            let volume = serde_json::from_value(volume).unwrap();
            // It is told by another name than its field has.
            let name = name.replace("storageos", "storageOS");
            assert_eq!(
                PersistentVolumeRules.warnings(&volume),
                [format!("spec.{name}: deprecated in {told}")]
            );
        }
    }

    #[test]
    fn the_first_phase_begins_with_the_volume() {
        let mut made = volume("a", json!({}));
        PersistentVolumeRules.prepare_for_create(&mut made);
        let status = json(&made.status);
        assert_eq!(status["lastPhaseTransitionTime"], "2026-01-01T00:00:00Z");
    }
}

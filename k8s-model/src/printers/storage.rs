//! Volumes, claims and what provides them.

use serde_json::Value;

use super::{
    column::{AGE, Column, NAME, boolean, number, text as column, wide},
    view::{View, scalar},
};

fn access_modes(view: &View, path: &str) -> String {
    const SHORT: &[(&str, &str)] = &[
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let modes = view.list(path);
    let found = SHORT
        .iter()
        .filter(|(long, _)| modes.iter().any(|mode| mode == long));
    found.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn phase(view: &View) -> &str {
    if view.is_deleted() {
        "Terminating"
    } else {
        view.text("status.phase")
    }
}

fn class<'a>(view: &'a View, field: &str) -> &'a str {
    let old = view
        .get("metadata")
        .get("annotations")
        .and_then(|annotations| annotations.get("volume.beta.kubernetes.io/storage-class"))
        .and_then(Value::as_str);
    old.unwrap_or_else(|| view.text(field))
}

pub(super) const PERSISTENT_VOLUME: &[Column] = &[
    NAME,
    column("Capacity", "Its size."),
    column("Access Modes", "How it can be mounted."),
    column(
        "Reclaim Policy",
        "What becomes of it when its claim is gone.",
    ),
    column("Status", "Whether it is free, bound or used up."),
    column("Claim", "The claim that it is bound to."),
    column("StorageClass", "The class that it belongs to."),
    column("VolumeAttributesClass", "The class of its attributes."),
    column("Reason", "Why it is in that state."),
    AGE,
    wide(
        "VolumeMode",
        "Whether it is a file system or a block device.",
    ),
];

pub(super) fn persistent_volume(view: &View) -> Vec<Value> {
    let claim = if view.get("spec.claimRef").is_null() {
        String::new()
    } else {
        format!(
            "{}/{}",
            view.text("spec.claimRef.namespace"),
            view.text("spec.claimRef.name")
        )
    };
    vec![
        view.name(),
        scalar(view.get("spec.capacity.storage")).into(),
        access_modes(view, "spec.accessModes").into(),
        view.text("spec.persistentVolumeReclaimPolicy").into(),
        phase(view).into(),
        claim.into(),
        class(view, "spec.storageClassName").into(),
        view.text_or("spec.volumeAttributesClassName", "<unset>")
            .into(),
        view.text("status.reason").into(),
        view.age(),
        view.text_or("spec.volumeMode", "<unset>").into(),
    ]
}

pub(super) const PERSISTENT_VOLUME_CLAIM: &[Column] = &[
    NAME,
    column("Status", "Whether it is bound."),
    column("Volume", "The volume that it is bound to."),
    column("Capacity", "The size of that volume."),
    column("Access Modes", "How that volume can be mounted."),
    column("StorageClass", "The class that it asks for."),
    column(
        "VolumeAttributesClass",
        "The class of attributes that it asks for.",
    ),
    AGE,
    wide(
        "VolumeMode",
        "Whether it is a file system or a block device.",
    ),
];

pub(super) fn persistent_volume_claim(view: &View) -> Vec<Value> {
    let volume = view.text("spec.volumeName");
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (
            scalar(view.get("status.capacity.storage")),
            access_modes(view, "status.accessModes"),
        )
    };
    vec![
        view.name(),
        phase(view).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(view, "spec.storageClassName").into(),
        view.text_or("spec.volumeAttributesClassName", "<unset>")
            .into(),
        view.age(),
        view.text_or("spec.volumeMode", "<unset>").into(),
    ]
}

pub(super) const STORAGE_CLASS: &[Column] = &[
    NAME,
    column("Provisioner", "Who makes its volumes."),
    column(
        "ReclaimPolicy",
        "What becomes of its volumes when their claim is gone.",
    ),
    column("VolumeBindingMode", "When its claims are bound."),
    column("AllowVolumeExpansion", "Whether its volumes can grow."),
    AGE,
];

pub(super) fn storage_class(view: &View) -> Vec<Value> {
    let annotation = |name: &str| {
        let annotations = view.get("metadata").get("annotations");
        annotations
            .and_then(|map| map.get(name))
            .and_then(Value::as_str)
            == Some("true")
    };
    let mut name = view.text("metadata.name").to_owned();
    if annotation("storageclass.kubernetes.io/is-default-class")
        || annotation("storageclass.beta.kubernetes.io/is-default-class")
    {
        name.push_str(" (default)");
    }
    vec![
        name.into(),
        view.text("provisioner").into(),
        view.text_or("reclaimPolicy", "Delete").into(),
        view.text_or("volumeBindingMode", "Immediate").into(),
        view.bool("allowVolumeExpansion").into(),
        view.age(),
    ]
}

pub(super) const VOLUME_ATTACHMENT: &[Column] = &[
    NAME,
    Column {
        format: "name",
        ..column("Attacher", "Who attaches the volume.")
    },
    column("PV", "The volume."),
    column("Node", "The node."),
    boolean("Attached", "Whether it is attached."),
    AGE,
];

pub(super) fn volume_attachment(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.text("spec.attacher").into(),
        view.text("spec.source.persistentVolumeName").into(),
        view.text("spec.nodeName").into(),
        view.bool("status.attached").into(),
        view.age(),
    ]
}

pub(super) const CSI_NODE: &[Column] = &[
    NAME,
    number(
        "Drivers",
        "Drivers indicates the number of CSI drivers registered on the node",
    ),
    AGE,
];

pub(super) fn csi_node(view: &View) -> Vec<Value> {
    vec![view.name(), view.len("spec.drivers").into(), view.age()]
}

pub(super) const CSI_DRIVER: &[Column] = &[
    NAME,
    boolean(
        "AttachRequired",
        "Whether its volumes are attached before they are mounted.",
    ),
    boolean("PodInfoOnMount", "Whether it is told of the pod."),
    boolean("StorageCapacity", "Whether it says how much room it has."),
    column(
        "TokenRequests",
        "The audiences of the tokens that it is given.",
    ),
    boolean(
        "RequiresRepublish",
        "Whether its volumes are published again and again.",
    ),
    column("Modes", "The volumes' ways of life that it knows."),
    AGE,
];

pub(super) fn csi_driver(view: &View) -> Vec<Value> {
    let joined = |path: &str, field: Option<&str>, empty: &str| -> String {
        let items: Vec<String> = view
            .list(path)
            .iter()
            .map(|item| {
                field.map_or_else(|| scalar(item), |f| super::view::text(item, f).to_owned())
            })
            .collect();
        if items.is_empty() {
            empty.to_owned()
        } else {
            items.join(",")
        }
    };
    vec![
        view.name(),
        view.get("spec.attachRequired")
            .as_bool()
            .unwrap_or(true)
            .into(),
        view.bool("spec.podInfoOnMount").into(),
        view.bool("spec.storageCapacity").into(),
        joined("spec.tokenRequests", Some("audience"), "<unset>").into(),
        view.bool("spec.requiresRepublish").into(),
        joined("spec.volumeLifecycleModes", None, "<none>").into(),
        view.age(),
    ]
}

pub(super) const CSI_STORAGE_CAPACITY: &[Column] = &[
    NAME,
    column("StorageClassName", "The class of the volumes."),
    column("Capacity", "How much room there is."),
];

pub(super) fn csi_storage_capacity(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.text("storageClassName").into(),
        view.text_or("capacity", "<unset>").into(),
    ]
}

pub(super) const VOLUME_ATTRIBUTES_CLASS: &[Column] = &[
    NAME,
    column("DriverName", "The driver that it is for."),
    AGE,
];

pub(super) fn volume_attributes_class(view: &View) -> Vec<Value> {
    vec![view.name(), view.text("driverName").into(), view.age()]
}

pub(super) const STORAGE_MIGRATION: &[Column] = &[
    NAME,
    column("Resource", "What is stored anew."),
    column("Status", "How far that is."),
    AGE,
];

pub(super) fn storage_migration(view: &View) -> Vec<Value> {
    let group = view.text("spec.resource.group");
    let resource = view.text("spec.resource.resource");
    let name = match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    };
    let states = ["Succeeded", "Failed", "Running"];
    let state = states.into_iter().find(|state| view.has_condition(state));
    vec![
        view.name(),
        name.into(),
        state.unwrap_or("").into(),
        view.age(),
    ]
}

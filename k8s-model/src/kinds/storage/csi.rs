//! The rules of what CSI drivers say of themselves: CSIDrivers, CSINodes, CSIStorageCapacities.

use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            IMMUTABLE, csi_driver_name, dns_subdomain, fill_absent, immutable, json,
            label_selector, list, non_negative, qualified_name, repeats, same, supported, text,
        },
        node_labels, quantities,
        typed::KindRules,
    },
};

/// The rules of CSIDrivers.
pub(crate) struct CsiDriverRules;

impl KindRules for CsiDriverRules {
    type Kind = CSIDriver;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        fill_absent(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
        if spec
            .volume_lifecycle_modes
            .as_ref()
            .is_none_or(Vec::is_empty)
        {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    /// Changes are counted from nothing, unlike those of other kinds.
    fn prepare_for_create(&self, driver: &mut CSIDriver) {
        driver.metadata.generation = None;
    }

    fn spec_changed(&self, new: &CSIDriver, old: &CSIDriver) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn validate(&self, driver: &CSIDriver) -> ErrorList {
        let path = Path::new("spec");
        let spec = &driver.spec;
        let mut errors = supported(
            text(&spec.fs_group_policy),
            &["File", "None", "ReadWriteOnceWithFSType"],
            path.child("fsGroupPolicy"),
        );
        let requests = list(&spec.token_requests);
        let audiences = repeats(requests.iter().map(|request| &request.audience));
        for (index, request) in requests.iter().enumerate() {
            let path = path.child("tokenRequests").index(index);
            let audience = request.audience.as_str();
            if audiences[index] {
                errors.push(field::duplicate(path.child("audience"), audience));
                continue;
            }
            let Some(seconds) = request.expiration_seconds else {
                continue;
            };
            let detail = if seconds < 600 {
                "may not specify a duration less than 10 minutes"
            } else if seconds > 1 << 32 {
                "may not specify a duration larger than 2^32 seconds"
            } else {
                continue;
            };
            errors.push(field::invalid(
                path.child("expirationSeconds"),
                seconds,
                detail,
            ));
        }
        for mode in list(&spec.volume_lifecycle_modes) {
            errors.extend(supported(
                mode,
                &["Persistent", "Ephemeral"],
                path.child("volumeLifecycleModes"),
            ));
        }
        errors
    }

    fn validate_update(&self, new: &CSIDriver, old: &CSIDriver) -> ErrorList {
        let path = Path::new("spec");
        let mut errors = self.validate(new);
        let (new, old) = (&new.spec, &old.spec);
        errors.extend(immutable(
            &new.attach_required,
            &old.attach_required,
            path.child("attachedRequired"),
        ));
        errors.extend(immutable(
            &new.volume_lifecycle_modes,
            &old.volume_lifecycle_modes,
            path.child("volumeLifecycleModes"),
        ));
        errors
    }
}

/// The rules of CSINodes.
pub(crate) struct CsiNodeRules;

fn node_driver(driver: &CSINodeDriver, path: &Path) -> ErrorList {
    let mut errors = csi_driver_name(&driver.name, path.child("name"));
    let id = driver.node_id.as_str();
    if id.is_empty() {
        errors.push(field::required(path.child("nodeID"), ""));
    }
    if id.len() > 256 {
        errors.push(field::invalid(
            path.child("nodeID"),
            id,
            "must be 256 characters or less",
        ));
    }
    let count = driver.allocatable.as_ref().and_then(|a| a.count);
    if let Some(count) = count {
        let path = path.child("allocatable").child("count");
        errors.extend(non_negative(count, path));
    }
    let keys = list(&driver.topology_keys);
    let repeats = repeats(keys);
    for (index, key) in keys.iter().enumerate() {
        if key.is_empty() {
            errors.push(field::required(path.clone(), ""));
        }
        if repeats[index] {
            errors.push(field::duplicate(path.clone(), key.as_str()));
        }
        errors.extend(qualified_name(key, path.clone()));
    }
    errors
}

impl KindRules for CsiNodeRules {
    type Kind = CSINode;

    const METADATA: (usize, usize) = (2, 0);
    const TOLD_TWICE: bool = true;

    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(&self, node: &CSINode) -> ErrorList {
        let path = Path::new("spec").child("drivers");
        let drivers = &node.spec.drivers;
        let mut errors = ErrorList::new();
        let names = repeats(drivers.iter().map(|driver| &driver.name));
        for (index, driver) in drivers.iter().enumerate() {
            let path = path.index(index);
            errors.extend(node_driver(driver, &path));
            if names[index] {
                let name = driver.name.as_str();
                errors.push(field::duplicate(path.child("name"), name));
            }
        }
        errors
    }

    fn validate_update(&self, new: &CSINode, old: &CSINode) -> ErrorList {
        let mut errors = self.validate(new);
        for driver in &new.spec.drivers {
            let before = old.spec.drivers.iter().find(|d| d.name == driver.name);
            // How much a driver can attach may be found out anew.
            let fixed = |driver: &CSINodeDriver| {
                let mut driver = driver.clone();
                driver.allocatable = None;
                driver
            };
            if before.is_some_and(|before| fixed(before) != fixed(driver)) {
                let path = Path::new("CSINodeDriver");
                errors.push(field::invalid(path, json(driver), IMMUTABLE));
            }
        }
        errors
    }
}

/// The rules of CSIStorageCapacities.
pub(crate) struct CsiStorageCapacityRules;

impl KindRules for CsiStorageCapacityRules {
    type Kind = CSIStorageCapacity;

    const UNCONDITIONAL_UPDATE: bool = false;

    fn warnings(&self, capacity: &CSIStorageCapacity) -> Vec<String> {
        let topology = capacity.node_topology.as_ref();
        let path = Path::new("nodeTopology");
        topology.map_or_else(Vec::new, |topology| node_labels::selector(topology, &path))
    }

    fn default(&self, capacity: &mut CSIStorageCapacity) {
        for quantity in [&mut capacity.capacity, &mut capacity.maximum_volume_size]
            .into_iter()
            .flatten()
        {
            quantities::normalize_one(quantity);
        }
    }

    fn validate(&self, capacity: &CSIStorageCapacity) -> ErrorList {
        let mut errors = ErrorList::new();
        if let Some(topology) = &capacity.node_topology {
            errors.extend(label_selector(topology, &Path::new("nodeTopology")));
        }
        errors.extend(dns_subdomain(
            &capacity.storage_class_name,
            Path::new("storageClassName"),
        ));
        for (quantity, name) in [
            (&capacity.capacity, "capacity"),
            (&capacity.maximum_volume_size, "maximumVolumeSize"),
        ] {
            if let Some(quantity) = quantity {
                errors.extend(quantities::non_negative(quantity, Path::new(name)));
            }
        }
        errors
    }

    fn validate_update(&self, new: &CSIStorageCapacity, old: &CSIStorageCapacity) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(immutable(
            &new.node_topology,
            &old.node_topology,
            Path::new("nodeTopology"),
        ));
        errors.extend(immutable(
            &new.storage_class_name,
            &old.storage_class_name,
            Path::new("storageClassName"),
        ));
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_drivers_fields_are_known_values_and_stay() {
        let driver = |spec| -> CSIDriver {
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap()
        };
        let mut bad = driver(json!({
            "fsGroupPolicy": "Some", "volumeLifecycleModes": ["Odd"],
            "tokenRequests": [{"audience": "a"}, {"audience": "a"}, {"audience": "b", "expirationSeconds": 5}],
        }));
        CsiDriverRules.default(&mut bad);
        assert_eq!(
            texts(CsiDriverRules.validate(&bad)),
            [
                r#"spec.fsGroupPolicy: Unsupported value: "Some": supported values: "File", "None", "ReadWriteOnceWithFSType""#,
                r#"spec.tokenRequests[1].audience: Duplicate value: "a""#,
                "spec.tokenRequests[2].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                r#"spec.volumeLifecycleModes: Unsupported value: "Odd": supported values: "Persistent", "Ephemeral""#,
            ]
        );
        let (mut old, mut new) = (driver(json!({})), driver(json!({"attachRequired": false})));
        CsiDriverRules.default(&mut old);
        CsiDriverRules.default(&mut new);
        assert_eq!(
            texts(CsiDriverRules.validate_update(&new, &old)),
            ["spec.attachedRequired: Invalid value: false: field is immutable"]
        );
    }

    #[test]
    fn a_nodes_drivers_are_named_once_and_stay() {
        let node = |drivers| -> CSINode {
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}}))
                .unwrap()
        };
        let bad = node(json!([
            {"name": "a", "nodeID": "", "allocatable": {"count": -1}},
            {"name": "a", "nodeID": "i", "topologyKeys": ["z", "z"]},
        ]));
        assert_eq!(
            texts(CsiNodeRules.validate(&bad)),
            [
                "spec.drivers[0].nodeID: Required value",
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                r#"spec.drivers[1]: Duplicate value: "z""#,
                r#"spec.drivers[1].name: Duplicate value: "a""#,
            ]
        );
        let old = node(json!([{"name": "a", "nodeID": "i"}]));
        let new = node(json!([{"name": "a", "nodeID": "j"}]));
        let found = texts(CsiNodeRules.validate_update(&new, &old));
        assert!(
            found[0].starts_with("CSINodeDriver: Invalid value: "),
            "{found:?}"
        );
    }

    #[test]
    fn a_capacity_keeps_what_it_is_about() {
        let capacity = |value| -> CSIStorageCapacity { serde_json::from_value(value).unwrap() };
        let old = capacity(json!({"metadata": {}, "storageClassName": "a"}));
        let new = capacity(json!({"metadata": {}, "storageClassName": "b", "capacity": "-1"}));
        assert_eq!(
            texts(CsiStorageCapacityRules.validate_update(&new, &old)),
            [
                r#"capacity: Invalid value: "-1": must be greater than or equal to 0"#,
                r#"storageClassName: Invalid value: "b": field is immutable"#,
            ]
        );
    }
}

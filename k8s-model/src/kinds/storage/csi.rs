//! The rules of what CSI drivers say of themselves: CSIDrivers, CSINodes, CSIStorageCapacities.

use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            csi_driver_name, dns_subdomain, fill_absent, immutable, list, non_negative,
            qualified_name, repeats, same, supported, text,
        },
        difference, node_labels, quantities,
        selectors::{Values, is_bad, selector_of},
        typed::KindRules,
    },
};

/// How often nodes may be told at most how much a driver can attach, in seconds.
const SHORTEST_PERIOD: i64 = 10;

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
        let period = spec.node_allocatable_update_period_seconds;
        if let Some(seconds) = period.filter(|seconds| *seconds < SHORTEST_PERIOD) {
            let at = path.child("nodeAllocatableUpdatePeriodSeconds");
            let text = format!("must be greater than or equal to {SHORTEST_PERIOD} seconds");
            errors.push(field::invalid(at, seconds, text));
        }
        errors.extend(tokens_in_secrets(driver, &path));
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

    fn warnings(&self, driver: &CSIDriver) -> Vec<String> {
        let is_asked = !list(&driver.spec.token_requests).is_empty();
        let advice = || TOKENS_IN_ATTRIBUTES.to_owned();
        Vec::from_iter((is_asked && says_nothing_of_secrets(driver)).then(advice))
    }

    fn update_warnings(&self, new: &CSIDriver, old: &CSIDriver) -> Vec<String> {
        if same(&new.spec.token_requests, &old.spec.token_requests) {
            return Vec::new();
        }
        self.warnings(new)
    }
}

/// What is told of a driver that gets tokens, and does not say where.
const TOKENS_IN_ATTRIBUTES: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

k8s_openapi::k8s_if_ge_1_35! {
    /// That there are tokens to be put among secrets, or not.
    fn tokens_in_secrets(driver: &CSIDriver, path: &Path) -> ErrorList {
        let spec = &driver.spec;
        match spec.service_account_token_in_secrets {
            Some(asked) if list(&spec.token_requests).is_empty() => {
                let at = path.child("serviceAccountTokenInSecrets");
                let text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
                vec![field::invalid(at, asked, text)]
            }
            _ => ErrorList::new(),
        }
    }

    /// Whether a driver leaves open where it gets tokens.
    fn says_nothing_of_secrets(driver: &CSIDriver) -> bool {
        driver.spec.service_account_token_in_secrets.is_none()
    }
}

k8s_openapi::k8s_if_le_1_34! {
    /// Tokens are never among secrets.
    fn tokens_in_secrets(_driver: &CSIDriver, _path: &Path) -> ErrorList {
        ErrorList::new()
    }

    /// Drivers do not say where they get tokens.
    fn says_nothing_of_secrets(_driver: &CSIDriver) -> bool {
        false
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

    const METADATA: (usize, usize) = (1, 0);

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
        let path = Path::new("spec").child("drivers");
        for old in &old.spec.drivers {
            let named = new.spec.drivers.iter().filter(|new| new.name == old.name);
            for new in named {
                let (new, old) = (fixed(new), fixed(old));
                errors.extend(difference::immutable(
                    "CSINodeDriver",
                    &new,
                    &old,
                    path.clone(),
                ));
            }
        }
        errors
    }
}

/// What of a driver stays: how much it can attach may be found out anew.
fn fixed(driver: &CSINodeDriver) -> CSINodeDriver {
    CSINodeDriver {
        allocatable: None,
        ..driver.clone()
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
        validate_capacity(capacity, Values::Labels)
    }

    fn validate_update(&self, new: &CSIStorageCapacity, old: &CSIStorageCapacity) -> ErrorList {
        let values = Values::labels_unless(old.node_topology.as_ref().is_some_and(is_bad));
        let mut errors = validate_capacity(new, values);
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

/// Checks a capacity, the selector of whose nodes has such values.
fn validate_capacity(capacity: &CSIStorageCapacity, values: Values) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(topology) = &capacity.node_topology {
        let path = Path::new("nodeTopology");
        errors.extend(selector_of(values, topology, &path));
    }
    errors.extend(dns_subdomain(
        &capacity.storage_class_name,
        Path::new("storageClassName"),
    ));
    if let Some(quantity) = &capacity.capacity {
        errors.extend(quantities::non_negative(quantity, Path::new("capacity")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::MINOR;

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
    fn who_asks_for_tokens_says_where_they_go() {
        let driver = |spec| -> CSIDriver {
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap()
        };
        let asked = json!([{"audience": "a"}]);
        let (none, open) = (driver(json!({})), driver(json!({"tokenRequests": asked})));
        let said = driver(json!({"tokenRequests": asked, "serviceAccountTokenInSecrets": false}));
        let rules = CsiDriverRules;
        // Drivers can say so since 1.35.
        let told: &[&str] = match MINOR {
            ..35 => &[],
            _ => &[TOKENS_IN_ATTRIBUTES],
        };
        assert_eq!(rules.warnings(&open), told);
        assert_eq!(rules.warnings(&none), [""; 0]);
        if MINOR >= 35 {
            assert_eq!(rules.warnings(&said), [""; 0]);
        }
        assert_eq!(rules.update_warnings(&open, &none), told);
        // Of what is as it was, nothing is told.
        assert_eq!(rules.update_warnings(&open, &said), [""; 0]);
    }

    #[test]
    fn a_driver_is_not_asked_all_the_time() {
        let found = |seconds: i64| {
            let spec = json!({"nodeAllocatableUpdatePeriodSeconds": seconds});
            let driver = json!({"metadata": {"name": "d"}, "spec": spec});
            let mut driver = serde_json::from_value(driver).unwrap();
            CsiDriverRules.default(&mut driver);
            texts(CsiDriverRules.validate(&driver))
        };
        assert_eq!(found(10), [""; 0]);
        assert_eq!(
            found(9),
            [
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"
            ]
        );
    }

    #[test]
    fn tokens_among_secrets_are_asked_for() {
        let found = |spec| {
            let driver = json!({"metadata": {"name": "d"}, "spec": spec});
            let mut driver = serde_json::from_value(driver).unwrap();
            CsiDriverRules.default(&mut driver);
            texts(CsiDriverRules.validate(&driver))
        };
        let requests = json!([{"audience": "a"}]);
        assert_eq!(
            found(json!({"serviceAccountTokenInSecrets": true, "tokenRequests": requests})),
            [""; 0]
        );
        for asked in [true, false] {
            assert_eq!(
                found(json!({"serviceAccountTokenInSecrets": asked, "tokenRequests": []})),
                [format!(
                    "spec.serviceAccountTokenInSecrets: Invalid value: {asked}: serviceAccountTokenInSecrets is set but no tokenRequests are specified"
                )]
            );
        }
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
        assert_eq!(
            texts(CsiNodeRules.validate_update(&new, &old)),
            [
                r#"spec.drivers: Invalid value: {"Name":"a","NodeID":"j","TopologyKeys":null,"Allocatable":null}: field is immutable"#
            ]
        );
        let more = node(json!([{"name": "a", "nodeID": "i", "allocatable": {"count": 3}}]));
        assert_eq!(CsiNodeRules.validate_update(&more, &old), []);
    }

    #[test]
    fn a_capacity_keeps_what_it_is_about() {
        let largest = json!({"metadata": {}, "storageClassName": "a", "maximumVolumeSize": "-1"});
        let largest = serde_json::from_value(largest).unwrap();
        assert_eq!(CsiStorageCapacityRules.validate(&largest), []);
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

//! The Go types of fields that have names of their own: upstream's refusals tell them.
//!
//! `go_names.txt` has a type a line, with those of its fields whose Go type is more than the schema
//! tells: strings with a name (`v1.PodPhase`), maps whose keys have one, and the like.

static NAMES: &str = include_str!("go_names.txt");

/// The Go type of a field, if it has a name: `[]v1.IPFamily`. The owner is a schema's name without `io.k8s.`.
pub(super) fn of_field(owner: &str, field: &str) -> Option<&'static str> {
    let line = |line: &'static str| line.strip_prefix(owner)?.strip_prefix(' ');
    let fields = NAMES.lines().find_map(line)?;
    fields
        .split(' ')
        .find_map(|text| text.strip_prefix(field)?.strip_prefix(':'))
}

/// The structs between a struct and one of its fields, where it has the field from one that is embedded in it: a refusal
/// tells them on the way to the field. The owner is a type's name alone.
pub(super) fn embedded(owner: &str, field: &str) -> &'static [&'static str] {
    let (embedded, own): (&[_], &[_]) = match owner {
        "ConfigMapEnvSource"
        | "ConfigMapKeySelector"
        | "ConfigMapProjection"
        | "ConfigMapVolumeSource"
        | "SecretEnvSource"
        | "SecretKeySelector"
        | "SecretProjection" => (
            &["LocalObjectReference"],
            &["defaultMode", "items", "key", "optional"],
        ),
        "DeviceAllocationConfiguration"
        | "DeviceClaimConfiguration"
        | "DeviceClassConfiguration" => (&["DeviceConfiguration"], &["requests", "source"]),
        "EphemeralContainer" => (&["EphemeralContainerCommon"], &["targetContainerName"]),
        "IngressRule" => (&["IngressRuleValue"], &["host"]),
        "NamedRuleWithOperations" if field == "operations" => (&["RuleWithOperations"], &[]),
        "NamedRuleWithOperations" => (&["RuleWithOperations", "Rule"], &["resourceNames"]),
        "PersistentVolumeSpec" => (
            &["PersistentVolumeSource"],
            &[
                "accessModes",
                "capacity",
                "claimRef",
                "mountOptions",
                "nodeAffinity",
                "persistentVolumeReclaimPolicy",
                "storageClassName",
                "volumeAttributesClassName",
                "volumeMode",
            ],
        ),
        "Probe" => (
            &["ProbeHandler"],
            &[
                "failureThreshold",
                "initialDelaySeconds",
                "periodSeconds",
                "successThreshold",
                "terminationGracePeriodSeconds",
                "timeoutSeconds",
            ],
        ),
        "RuleWithOperations" => (&["Rule"], &["operations"]),
        "Volume" => (&["VolumeSource"], &["name"]),
        _ => return &[],
    };
    if own.contains(&field) { &[] } else { embedded }
}

/// The Go type of what a list or a map holds, if its own type tells.
pub(super) fn element(of: &'static str) -> Option<&'static str> {
    match of.strip_prefix("map[") {
        Some(rest) => rest.split_once(']').map(|(_, element)| element),
        None => of.strip_prefix("[]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{MINOR, Type};

    #[test]
    fn every_name_is_of_a_field_that_there_is() {
        for line in NAMES.lines().skip(1) {
            let (owner, fields) = line.split_once(' ').unwrap();
            let Some(ty) = Type::named(owner) else {
                panic!("no type is called {owner}");
            };
            for field in fields.split(' ') {
                let (name, _) = field.split_once(':').unwrap();
                let is_there = ty.field(name).is_some() || MINOR < 37;
                assert!(is_there, "{owner}.{name}");
            }
        }
    }

    #[test]
    fn fields_of_embedded_structs_are_told_with_them() {
        assert_eq!(embedded("Probe", "exec"), ["ProbeHandler"]);
        assert!(embedded("Probe", "periodSeconds").is_empty());
        let rule = "NamedRuleWithOperations";
        assert_eq!(embedded(rule, "operations"), ["RuleWithOperations"]);
        assert_eq!(embedded(rule, "scope"), ["RuleWithOperations", "Rule"]);
        assert!(embedded(rule, "resourceNames").is_empty());
        assert!(embedded("Container", "name").is_empty());
    }

    #[test]
    fn names_of_elements_are_in_those_of_lists_and_maps() {
        let families = of_field("api.core.v1.ServiceSpec", "ipFamilies").unwrap();
        assert_eq!(families, "[]v1.IPFamily");
        assert_eq!(element(families), Some("v1.IPFamily"));
        assert_eq!(element("map[v1.ResourceName]v1.X"), Some("v1.X"));
        assert_eq!(element("v1.PodPhase"), None);
        assert_eq!(of_field("api.core.v1.PodSpec", "nodeName"), None);
        assert_eq!(of_field("api.core.v1.PodStatus", "phas"), None);
    }
}

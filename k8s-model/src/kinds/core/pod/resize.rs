//! Validation of what happens to a container when it is resized (KEP-1287).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerResizePolicy};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, one_of},
};

const RESOURCES: &[&str] = &["cpu", "memory"];
const RESTART: &str = "RestartContainer";
const POLICIES: &[&str] = &["NotRequired", RESTART];

/// Policies: one for each resource that can be resized.
pub(super) fn policies(
    policies: &[ContainerResizePolicy],
    restart_policy: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        let (resource, restart) = (
            policy.resource_name.as_str(),
            policy.restart_policy.as_str(),
        );
        if !seen.insert(resource) {
            errors.push(field::duplicate(path.index(index), resource));
        }
        errors.extend(one_of(resource, RESOURCES, path.clone()));
        errors.extend(one_of(restart, POLICIES, path.clone()));
        if restart_policy == "Never" && restart != "NotRequired" {
            errors.push(field::invalid(
                path.clone(),
                restart,
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            ));
        }
    }
    errors
}

/// An init container that comes to an end is not restarted.
pub(super) fn no_restarts(container: &Container, path: &Path) -> ErrorList {
    list(&container.resize_policy)
        .iter()
        .enumerate()
        .filter(|(_, policy)| policy.restart_policy == RESTART)
        .map(|(index, policy)| {
            field::invalid(
                path.index(index).child("restartPolicy"),
                policy.restart_policy.as_str(),
                "must not be set to 'RestartContainer' for non-sidecar initContainers",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_resource_is_resized_with_or_without_a_restart() {
        let found = |given: Value, restart_policy| {
            let given: Vec<ContainerResizePolicy> = serde_json::from_value(given).unwrap();
            policies(&given, restart_policy, &Path::new("p"))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let policy =
            |name: &str, restart: &str| json!({"resourceName": name, "restartPolicy": restart});
        let (cpu, memory) = (
            policy("cpu", "NotRequired"),
            policy("memory", "RestartContainer"),
        );
        assert_eq!(found(json!([cpu, memory]), "Always"), [""; 0]);
        assert_eq!(found(json!([cpu]), "Never"), [""; 0]);
        for (given, restart_policy, expected) in [
            (
                json!([cpu, cpu]),
                "Always",
                "p[1]: Duplicate value: \"cpu\"",
            ),
            (
                json!([policy("", "NotRequired")]),
                "Always",
                "p: Required value",
            ),
            (
                json!([policy("disk", "NotRequired")]),
                "Always",
                "p: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
            ),
            (json!([policy("cpu", "")]), "Always", "p: Required value"),
            (
                json!([policy("cpu", "X")]),
                "Always",
                "p: Unsupported value: \"X\": supported values: \"NotRequired\", \"RestartContainer\"",
            ),
            (
                json!([memory]),
                "Never",
                "p: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            ),
        ] {
            assert_eq!(found(given, restart_policy), [expected]);
        }
    }
}

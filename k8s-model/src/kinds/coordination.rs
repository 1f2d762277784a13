//! The group `coordination.k8s.io`: Leases.

use k8s_openapi::api::coordination::v1::Lease;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{non_negative, qualified_name, supported, text},
        typed::KindRules,
    },
};

/// The rules of Leases.
pub(crate) struct LeaseRules;

impl KindRules for LeaseRules {
    type Kind = Lease;

    const METADATA: (usize, usize) = (0, 1);

    const QUALIFIED_FINALIZERS: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    /// Fields of coordinated leader election, which is off unless asked for, cannot be set.
    fn prepare_for_create(&self, lease: &mut Lease) {
        if let Some(spec) = &mut lease.spec {
            spec.strategy = None;
            spec.preferred_holder = None;
        }
    }

    fn prepare_for_update(&self, new: &mut Lease, old: &Lease) {
        let Some(spec) = &mut new.spec else {
            return;
        };
        let old = old.spec.as_ref();
        if old.is_none_or(|old| old.strategy.is_none()) {
            spec.strategy = None;
        }
        if old.is_none_or(|old| old.preferred_holder.is_none()) {
            spec.preferred_holder = None;
        }
    }

    fn validate(&self, lease: &Lease) -> ErrorList {
        let Some(spec) = &lease.spec else {
            return ErrorList::new();
        };
        let path = Path::new("spec");
        let mut errors = ErrorList::new();
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.push(field::invalid(
                path.child("leaseDurationSeconds"),
                seconds,
                "must be greater than 0",
            ));
        }
        errors.extend(non_negative(
            spec.lease_transitions.unwrap_or_default(),
            path.child("leaseTransitions"),
        ));
        if let Some(chosen) = &spec.strategy {
            errors.extend(strategy(chosen, path.child("strategy")));
        }
        if !text(&spec.preferred_holder).is_empty() && text(&spec.strategy).is_empty() {
            errors.push(field::forbidden(
                path.child("preferredHolder"),
                "may only be specified if `strategy` is defined",
            ));
        }
        errors
    }
}

/// How a leader is chosen: a way that Kubernetes has, or one with a domain in its name.
fn strategy(strategy: &str, path: Path) -> ErrorList {
    // Upstream says it twice.
    let path = path.child("strategy");
    if strategy.contains('/') {
        qualified_name(strategy, path)
    } else {
        supported(strategy, &["OldestEmulationVersion"], path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ResourceTable;

    fn lease(spec: Value) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": spec})).unwrap()
    }

    #[test]
    fn ways_to_choose_a_leader_cannot_be_set_and_stay_where_they_are() {
        let chosen = json!({"strategy": "OldestEmulationVersion", "preferredHolder": "a"});
        let mut new = lease(chosen.clone());
        LeaseRules.prepare_for_create(&mut new);
        assert_eq!(new, lease(json!({})));
        let mut new = lease(chosen.clone());
        LeaseRules.prepare_for_update(&mut new, &lease(json!({})));
        assert_eq!(new, lease(json!({})));
        let old = lease(chosen);
        let mut new = old.clone();
        LeaseRules.prepare_for_update(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn a_way_to_choose_a_leader_is_known_or_somebodys() {
        for (spec, told) in [
            (
                json!({"strategy": "OldestEmulationVersion", "preferredHolder": "a"}),
                None,
            ),
            (json!({"strategy": "example.com/best"}), None),
            (json!({"preferredHolder": ""}), None),
            (
                json!({"strategy": "best"}),
                Some(
                    r#"spec.strategy.strategy: Unsupported value: "best": supported values: "OldestEmulationVersion""#,
                ),
            ),
            (
                json!({"strategy": "/best"}),
                Some(
                    r#"spec.strategy.strategy: Invalid value: "/best": prefix part must be non-empty"#,
                ),
            ),
            (
                json!({"preferredHolder": "a"}),
                Some(
                    "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
                ),
            ),
        ] {
            let found = LeaseRules.validate(&lease(spec));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, Vec::from_iter(told));
        }
    }

    #[test]
    fn finalizers_of_leases_need_no_domain() {
        let table = ResourceTable::builtin();
        let refused = |group: &str, resource: &str| {
            let row = table.resource(group, "v1", resource).unwrap();
            let object =
                json!({"metadata": {"name": "a", "finalizers": ["x"]}, "spec": {}, "handler": "h"});
            let object = (row.codec.from_value)(object, &mut |_| {}).unwrap();
            let errors = row.strategy.validate(&*object);
            errors.iter().any(|e| e.to_string().contains("finalizers"))
        };
        assert!(!refused("coordination.k8s.io", "leases"));
        assert!(!refused("node.k8s.io", "runtimeclasses"));
        assert!(refused("", "resourcequotas"));
    }
}

//! The group `coordination.k8s.io`: Leases.

use k8s_openapi::api::coordination::v1::Lease;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{checks::non_negative, typed::KindRules},
};

/// The rules of Leases.
pub(crate) struct LeaseRules;

impl KindRules for LeaseRules {
    type Kind = Lease;

    const METADATA: (usize, usize) = (0, 1);

    const QUALIFIED_FINALIZERS: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

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
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ResourceTable;

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

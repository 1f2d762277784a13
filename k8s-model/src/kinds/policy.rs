//! The group `policy`: PodDisruptionBudgets.

use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            at_most_100_percent, conditions, int_or_percent, list, non_negative, same, slot,
            supported,
        },
        difference::spelled,
        selectors::{Values, is_bad, selector_of},
        typed::KindRules,
    },
    names,
};

/// The rules of PodDisruptionBudgets.
pub(crate) struct PodDisruptionBudgetRules;

impl KindRules for PodDisruptionBudgetRules {
    type Kind = PodDisruptionBudget;

    const METADATA: (usize, usize) = (0, 0);

    const QUALIFIED_FINALIZERS: bool = false;
    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn spec_changed(&self, new: &PodDisruptionBudget, old: &PodDisruptionBudget) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, budget: &mut PodDisruptionBudget) {
        budget.status = Some(PodDisruptionBudgetStatus::default());
    }

    fn validate(&self, budget: &PodDisruptionBudget) -> ErrorList {
        validate(budget, Values::Labels)
    }

    fn validate_update(&self, new: &PodDisruptionBudget, old: &PodDisruptionBudget) -> ErrorList {
        let old: Option<&PodDisruptionBudgetSpec> = slot(&old.spec);
        let old = old.and_then(|old| old.selector.as_ref());
        validate(new, Values::labels_unless(old.is_some_and(is_bad)))
    }

    fn prepare_for_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.spec = old.spec.clone();
    }

    fn validate_status_update(
        &self,
        new: &PodDisruptionBudget,
        _old: &PodDisruptionBudget,
    ) -> ErrorList {
        let path = Path::new("status");
        let Some(status) = &new.status else {
            return ErrorList::new();
        };
        let counts: [(Option<&i32>, &str); 4] = [
            (slot(&status.disruptions_allowed), "disruptionsAllowed"),
            (slot(&status.current_healthy), "currentHealthy"),
            (slot(&status.desired_healthy), "desiredHealthy"),
            (slot(&status.expected_pods), "expectedPods"),
        ];
        let counts = counts.into_iter().flat_map(|(count, name)| {
            non_negative(count.copied().unwrap_or_default(), path.child(name))
        });
        let mut errors = conditions(list(&status.conditions), &path.child("conditions"));
        errors.extend(counts);
        errors
    }
}

/// Checks a budget, whose selector has such values.
fn validate(budget: &PodDisruptionBudget, values: Values) -> ErrorList {
    let path = Path::new("spec");
    let spec: Option<&PodDisruptionBudgetSpec> = slot(&budget.spec);
    let spec = spec.cloned().unwrap_or_default();
    let mut errors = ErrorList::new();
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        errors.push(field::invalid_spelled(
            path.clone(),
            &spelled("PodDisruptionBudgetSpec", &spec),
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for (value, name) in [
        (&spec.min_available, "minAvailable"),
        (&spec.max_unavailable, "maxUnavailable"),
    ] {
        if let Some(value) = value {
            errors.extend(int_or_percent(value, path.child(name)));
            errors.extend(at_most_100_percent(value, path.child(name)));
        }
    }
    if let Some(selector) = &spec.selector {
        errors.extend(selector_of(values, selector, &path.child("selector")));
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        errors.extend(supported(
            policy,
            &["AlwaysAllow", "IfHealthyBudget"],
            path.child("unhealthyPodEvictionPolicy"),
        ));
    }
    errors
}

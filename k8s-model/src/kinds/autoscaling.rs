//! The group `autoscaling`: HorizontalPodAutoscalers, in both versions.

mod metrics;
mod references;

use k8s_openapi::api::autoscaling::{
    v1::{self, HorizontalPodAutoscaler as V1},
    v2::{
        self, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler as V2, MetricSpec,
        MetricTarget, ResourceMetricSource,
    },
};

use self::references::{Reference, Versions};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, non_negative, slot, slot_mut, supported},
        declared::Declared,
        typed::KindRules,
    },
};

const DEFAULT_UTILIZATION: i32 = 80;

/// What is scaled, and between which bounds.
fn bounds(
    (target, versions): (Reference<'_>, Versions),
    least: Option<i32>,
    most: i32,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let least = least.unwrap_or(1);
    if most < least {
        errors.push(field::invalid(
            path.child("maxReplicas"),
            most,
            "must be greater than or equal to `minReplicas`",
        ));
    }
    let path = path.child("scaleTargetRef");
    errors.extend(references::validate(target, versions, &path));
    errors
}

/// How few and how many there may be.
type Bounds = (Option<i32>, i32);

/// What is declared of bounds.
fn declared(new: Bounds, old: Option<Bounds>) -> ErrorList {
    let positive = |bound: i32, path: Path| match bound {
        ..1 => vec![field::invalid(
            path,
            bound,
            "must be greater than or equal to 1",
        )],
        _ => ErrorList::new(),
    };
    let path = Path::new("spec");
    let before = old.as_ref().map(|(least, _)| least);
    let mut errors = Declared::of(&new.0, before, path.child("minReplicas"))
        .then(|least, path| least.map_or_else(ErrorList::new, |least| positive(least, path)));
    let before = old.as_ref().map(|(_, most)| most);
    let most = Declared::of(&new.1, before, path.child("maxReplicas"));
    errors.extend(
        most.required(|most| *most == 0)
            .then(|most, path| positive(*most, path)),
    );
    errors
}

fn scale_to_zero(path: &Path) -> field::Error {
    field::forbidden(
        path.child("metrics"),
        "must specify at least one Object or External metric to support scaling to zero replicas",
    )
}

/// What a status counts: how many there are, and how many there should be.
fn replicas(counts: Option<(i32, i32)>) -> ErrorList {
    let path = Path::new("status");
    let (current, desired) = counts.unwrap_or_default();
    let mut errors = non_negative(current, path.child("currentReplicas"));
    errors.extend(non_negative(desired, path.child("desiredReplicas")));
    errors
}

/// The rules of version 1.
pub(crate) struct V1Rules;

impl KindRules for V1Rules {
    type Kind = V1;

    const METADATA: (usize, usize) = (0, 1);

    fn default(&self, object: &mut V1) {
        let spec: Option<&mut v1::HorizontalPodAutoscalerSpec> = slot_mut(&mut object.spec);
        if let Some(spec) = spec {
            spec.min_replicas.get_or_insert(1);
            // What the annotation tells of is measured, and the processor need not be.
            let annotations = object.metadata.annotations.as_ref();
            let metrics = annotations.and_then(|all| all.get(crate::convert::METRICS));
            if metrics.is_none_or(|metrics| matches!(&**metrics, "" | "[]" | "null")) {
                spec.target_cpu_utilization_percentage
                    .get_or_insert(DEFAULT_UTILIZATION);
            }
        }
    }

    fn prepare_for_create(&self, object: &mut V1) {
        object.status = Some(Default::default());
    }

    fn validate(&self, object: &V1) -> ErrorList {
        validate_v1(object, None)
    }

    fn validate_update(&self, new: &V1, old: &V1) -> ErrorList {
        validate_v1(new, Some(old))
    }

    fn declared(&self, new: &V1, old: Option<&V1>) -> ErrorList {
        let bounds = |object: &V1| {
            let spec: Option<&v1::HorizontalPodAutoscalerSpec> = slot(&object.spec);
            spec.map_or((None, 0), |spec| (spec.min_replicas, spec.max_replicas))
        };
        declared(bounds(new), old.map(bounds))
    }

    fn prepare_for_update(&self, new: &mut V1, old: &V1) {
        new.status = old.status.clone();
    }

    fn prepare_for_status_update(&self, new: &mut V1, old: &V1) {
        new.spec = old.spec.clone();
    }

    fn validate_status_update(&self, new: &V1, _old: &V1) -> ErrorList {
        let status: Option<&v1::HorizontalPodAutoscalerStatus> = slot(&new.status);
        replicas(status.map(|s| (s.current_replicas, s.desired_replicas)))
    }
}

/// Checks an object that is new, or takes the place of another.
fn validate_v1(object: &V1, old: Option<&V1>) -> ErrorList {
    fn spec(object: &V1) -> Option<&v1::HorizontalPodAutoscalerSpec> {
        slot(&object.spec)
    }
    let empty = v1::HorizontalPodAutoscalerSpec::default();
    let before = old
        .and_then(spec)
        .map(|spec| (&spec.scale_target_ref).into());
    let spec = spec(object).unwrap_or(&empty);
    let target = (&spec.scale_target_ref).into();
    let path = Path::new("spec");
    let mut errors = bounds(
        (target, Versions::of_target(target, before)),
        spec.min_replicas,
        spec.max_replicas,
        &path,
    );
    // Version 1 is short for a metric of version 2.
    let share = spec.target_cpu_utilization_percentage;
    if let Some(share) = share.filter(|share| *share < 1) {
        let resource = path.child("metrics").index(0).child("resource");
        errors.push(field::invalid(
            resource.child("target").child("averageUtilization"),
            share,
            "must be greater than 0",
        ));
    }
    if spec.min_replicas == Some(0) {
        errors.push(scale_to_zero(&path));
    }
    errors
}

/// The rules of version 2.
pub(crate) struct V2Rules;

impl KindRules for V2Rules {
    type Kind = V2;

    const METADATA: (usize, usize) = (0, 1);

    fn default(&self, object: &mut V2) {
        let spec: Option<&mut v2::HorizontalPodAutoscalerSpec> = slot_mut(&mut object.spec);
        let Some(spec) = spec else { return };
        spec.min_replicas.get_or_insert(1);
        if list(&spec.metrics).is_empty() {
            spec.metrics = Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(DEFAULT_UTILIZATION),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let policy = |sort: &str, value: i32| HPAScalingPolicy {
                type_: sort.to_owned(),
                value,
                period_seconds: 15,
            };
            let up = vec![policy("Pods", 4), policy("Percent", 100)];
            default_rules(behavior.scale_up.get_or_insert_default(), up);
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            let down = vec![policy("Percent", 100)];
            default_rules(behavior.scale_down.get_or_insert_default(), down);
        }
    }

    fn prepare_for_create(&self, object: &mut V2) {
        object.status = Some(Default::default());
    }

    fn validate(&self, object: &V2) -> ErrorList {
        validate_v2(object, None)
    }

    fn validate_update(&self, new: &V2, old: &V2) -> ErrorList {
        validate_v2(new, Some(old))
    }

    fn declared(&self, new: &V2, old: Option<&V2>) -> ErrorList {
        let bounds = |object: &V2| {
            let spec: Option<&v2::HorizontalPodAutoscalerSpec> = slot(&object.spec);
            spec.map_or((None, 0), |spec| (spec.min_replicas, spec.max_replicas))
        };
        declared(bounds(new), old.map(bounds))
    }

    fn prepare_for_update(&self, new: &mut V2, old: &V2) {
        new.status = old.status.clone();
    }

    fn prepare_for_status_update(&self, new: &mut V2, old: &V2) {
        new.spec = old.spec.clone();
    }

    fn validate_status_update(&self, new: &V2, _old: &V2) -> ErrorList {
        let status: Option<&v2::HorizontalPodAutoscalerStatus> = slot(&new.status);
        let counts = status.map(|s| (s.current_replicas.unwrap_or_default(), s.desired_replicas));
        replicas(counts)
    }
}

/// Checks an object that is new, or takes the place of another.
fn validate_v2(object: &V2, old: Option<&V2>) -> ErrorList {
    fn spec(object: &V2) -> Option<&v2::HorizontalPodAutoscalerSpec> {
        slot(&object.spec)
    }
    let empty = v2::HorizontalPodAutoscalerSpec::default();
    let old = old.and_then(spec);
    let before = old.map(|spec| (&spec.scale_target_ref).into());
    let measured = Versions::of_measured(old.into_iter().flat_map(metrics::measured));
    let spec = spec(object).unwrap_or(&empty);
    let target = (&spec.scale_target_ref).into();
    let path = Path::new("spec");
    let mut errors = bounds(
        (target, Versions::of_target(target, before)),
        spec.min_replicas,
        spec.max_replicas,
        &path,
    );
    for (index, metric) in list(&spec.metrics).iter().enumerate() {
        errors.extend(metrics::validate(
            metric,
            measured,
            &path.child("metrics").index(index),
        ));
    }
    let outside = |metric: &MetricSpec| matches!(&*metric.type_, "Object" | "External");
    if spec.min_replicas == Some(0) && !list(&spec.metrics).iter().any(outside) {
        errors.push(scale_to_zero(&path));
    }
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        for (rules, name) in [
            (&behavior.scale_up, "scaleUp"),
            (&behavior.scale_down, "scaleDown"),
        ] {
            if let Some(rules) = rules {
                errors.extend(validate_rules(rules, &path.child(name)));
            }
        }
    }
    errors
}

fn default_rules(rules: &mut HPAScalingRules, policies: Vec<HPAScalingPolicy>) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.policies.get_or_insert(policies);
}

fn validate_rules(rules: &HPAScalingRules, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(seconds) = rules.stabilization_window_seconds {
        let at = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(field::invalid(
                at,
                seconds,
                "must be greater than or equal to zero",
            ));
        } else if seconds > 3600 {
            errors.push(field::invalid(
                at,
                seconds,
                "must be less than or equal to 3600",
            ));
        }
    }
    if let Some(policy) = &rules.select_policy {
        errors.extend(supported(
            policy,
            &["Disabled", "Max", "Min"],
            path.child("selectPolicy"),
        ));
    }
    let policies = list(&rules.policies);
    let at = path.child("policies");
    if policies.is_empty() {
        errors.push(field::required(
            at.clone(),
            "must specify at least one Policy",
        ));
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = at.index(index);
        errors.extend(supported(
            &policy.type_,
            &["Percent", "Pods"],
            at.child("type"),
        ));
        for (value, name) in [
            (policy.value, "value"),
            (policy.period_seconds, "periodSeconds"),
        ] {
            if value <= 0 {
                errors.push(field::invalid(
                    at.child(name),
                    value,
                    "must be greater than zero",
                ));
            }
        }
        if policy.period_seconds > 1800 {
            errors.push(field::invalid(
                at.child("periodSeconds"),
                policy.period_seconds,
                "must be less than or equal to 1800",
            ));
        }
    }
    errors
}

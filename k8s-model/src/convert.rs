//! Conversion of objects between the versions in which a resource is served.
//!
//! Most resources have one version, and versions with the same fields differ in `apiVersion`
//! alone. Two resources differ in more: events, which are `v1` and `events.k8s.io/v1`, and
//! horizontal pod autoscalers, which are `autoscaling/v1` and `autoscaling/v2`.

use serde_json::{Map, Value, json};

use crate::Resource;

type Object = Map<String, Value>;

pub(crate) const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The fields of an event in the core group, and what they are in `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Whether the bytes of an object in one version are, but for `apiVersion`, those in another.
pub fn is_same_schema(from: &Resource, to: &Resource) -> bool {
    if (from.group, from.version) == (to.group, to.version) {
        return true;
    }
    !(from.resource == "events" || from.resource == "horizontalpodautoscalers")
}

/// An object of one row, as an object of another row of the same kind.
///
/// What the other version has no field for goes into annotations where upstream does that, and
/// comes back from there.
pub fn convert(object: Value, from: &Resource, to: &Resource) -> Value {
    let Value::Object(mut object) = object else {
        return object;
    };
    match (
        from.group,
        from.version,
        from.resource,
        to.group,
        to.version,
    ) {
        ("", _, "events", "events.k8s.io", _) => rename(&mut object, EVENT_FIELDS),
        ("events.k8s.io", _, "events", "", _) => {
            rename(
                &mut object,
                EVENT_FIELDS.map(|(core, events)| (events, core)),
            );
        }
        ("autoscaling", "v1", _, "autoscaling", "v2") => autoscaler_to_v2(&mut object),
        ("autoscaling", "v2", _, "autoscaling", "v1") => autoscaler_to_v1(&mut object),
        _ => {}
    }
    object.insert("apiVersion".to_owned(), to.api_version().into());
    Value::Object(object)
}

/// The name of a field in a field selector for one row, as it is in the stored version; `None` if
/// the row does not take it.
pub fn field_label<'a>(label: &'a str, row: &Resource) -> Option<std::borrow::Cow<'a, str>> {
    if (row.group, row.resource) != ("events.k8s.io", "events") {
        return Some(label.into());
    }
    match label {
        "reason" | "type" | "metadata.name" | "metadata.namespace" => Some(label.into()),
        "reportingController" => Some("reportingComponent".into()),
        _ => label
            .strip_prefix("regarding.")
            .map(|rest| format!("involvedObject.{rest}").into()),
    }
}

fn rename<const N: usize>(object: &mut Object, names: [(&str, &str); N]) {
    for (from, to) in names {
        if let Some(value) = object.remove(from) {
            object.insert(to.to_owned(), value);
        }
    }
}

fn child<'a>(object: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    object.get_mut(name).and_then(Value::as_object_mut)
}

fn take_annotation(object: &mut Object, name: &str) -> Option<Value> {
    let metadata = child(object, "metadata")?;
    let annotations = child(metadata, "annotations")?;
    let text = annotations.remove(name);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text?.as_str()?).ok()
}

fn annotate(object: &mut Object, name: &str, value: &Value) {
    annotate_text(object, name, value.to_string());
}

fn annotate_text(object: &mut Object, name: &str, text: String) {
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(name.to_owned(), text.into());
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn autoscaler_to_v1(object: &mut Object) {
    for name in [METRICS, CURRENT_METRICS, BEHAVIOR, CONDITIONS] {
        take_annotation(object, name);
    }
    if let Some(spec) = child(object, "spec") {
        let mut others = Vec::new();
        for metric in list(spec.remove("metrics")) {
            let utilization = cpu(&metric, "target");
            match utilization {
                Some(utilization) => {
                    spec.entry("targetCPUUtilizationPercentage")
                        .or_insert(utilization);
                }
                None => others.push(metric_to_v1(metric)),
            }
        }
        let behavior = spec.remove("behavior");
        if !others.is_empty() {
            annotate(object, METRICS, &others.into());
        }
        if let Some(behavior) = behavior {
            annotate_text(object, BEHAVIOR, behavior_to_v1(&behavior));
        }
    }
    if let Some(status) = child(object, "status") {
        let current = list(status.remove("currentMetrics"));
        let conditions = list(status.remove("conditions"));
        if let Some(utilization) = current.iter().find_map(|metric| cpu(metric, "current")) {
            status.insert("currentCPUUtilizationPercentage".to_owned(), utilization);
        }
        if !current.is_empty() {
            let current: Vec<Value> = current.into_iter().map(status_to_v1).collect();
            annotate(object, CURRENT_METRICS, &current.into());
        }
        if !conditions.is_empty() {
            annotate(object, CONDITIONS, &conditions.into());
        }
    }
}

fn autoscaler_to_v2(object: &mut Object) {
    let metrics = list(take_annotation(object, METRICS));
    let current = list(take_annotation(object, CURRENT_METRICS));
    let behavior = take_annotation(object, BEHAVIOR);
    let conditions = list(take_annotation(object, CONDITIONS));
    if let Some(spec) = child(object, "spec") {
        let mut all: Vec<Value> = metrics.into_iter().map(metric_to_v2).collect();
        if let Some(utilization) = spec.remove("targetCPUUtilizationPercentage") {
            all.push(json!({"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": utilization},
            }}));
        }
        // The old version had this default built in; the new one spells it out.
        if all.is_empty() {
            all.push(json!({"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}));
        }
        spec.insert("metrics".to_owned(), all.into());
        if let Some(behavior) = behavior.filter(Value::is_object) {
            spec.insert("behavior".to_owned(), behavior_to_v2(behavior));
        }
    }
    if let Some(status) = child(object, "status") {
        let utilization = status.remove("currentCPUUtilizationPercentage");
        let mut all: Vec<Value> = current.into_iter().map(status_to_v2).collect();
        if let Some(utilization) = utilization
            && all.is_empty()
        {
            all.push(json!({"type": "Resource", "resource": {
                "name": "cpu", "current": {"averageUtilization": utilization},
            }}));
        }
        if !all.is_empty() {
            status.insert("currentMetrics".to_owned(), all.into());
        }
        if !conditions.is_empty() {
            status.insert("conditions".to_owned(), conditions.into());
        }
    }
}

/// A behavior as the annotation of `v1` has it: in the fields of a type without names in JSON, in their order.
fn behavior_to_v1(behavior: &Value) -> String {
    let fields = |value: &Value, names: &[(&str, &str)]| {
        let field = |(go, json): &(&str, &str)| format!("{go:?}:{}", value[*json]);
        format!(
            "{{{}}}",
            names.iter().map(field).collect::<Vec<_>>().join(",")
        )
    };
    let policy = |policy: &Value| {
        let names = [
            ("Type", "type"),
            ("Value", "value"),
            ("PeriodSeconds", "periodSeconds"),
        ];
        fields(policy, &names)
    };
    let rules = |name: &str| {
        let rules = &behavior[name];
        if rules.is_null() {
            return "null".to_owned();
        }
        let policies = rules["policies"].as_array().map_or_else(
            || "null".to_owned(),
            |all| format!("[{}]", all.iter().map(policy).collect::<Vec<_>>().join(",")),
        );
        let (window, select) = (&rules["stabilizationWindowSeconds"], &rules["selectPolicy"]);
        let tolerance = &rules["tolerance"];
        format!(
            r#"{{"StabilizationWindowSeconds":{window},"SelectPolicy":{select},"Policies":{policies},"Tolerance":{tolerance}}}"#
        )
    };
    let (up, down) = (rules("scaleUp"), rules("scaleDown"));
    format!(r#"{{"ScaleUp":{up},"ScaleDown":{down}}}"#)
}

/// The behavior that such an annotation tells; the names may be written in any case.
fn behavior_to_v2(value: Value) -> Value {
    const NAMES: [&str; 9] = [
        "scaleUp",
        "scaleDown",
        "stabilizationWindowSeconds",
        "selectPolicy",
        "policies",
        "tolerance",
        "type",
        "value",
        "periodSeconds",
    ];
    match value {
        Value::Object(fields) => {
            let known = |name: String| {
                let found = NAMES.iter().find(|known| known.eq_ignore_ascii_case(&name));
                found.map_or(name, |known| (*known).to_owned())
            };
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            let kept = kept.map(|(name, value)| (known(name), behavior_to_v2(value)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.into_iter().map(behavior_to_v2).collect(),
        other => other,
    }
}

/// The CPU utilization of a `v2` metric, which has a field of its own in `v1`.
fn cpu(metric: &Value, part: &str) -> Option<Value> {
    let resource = metric.get("resource")?;
    if metric["type"] != "Resource" || resource["name"] != "cpu" {
        return None;
    }
    resource
        .get(part)?
        .get("averageUtilization")
        .filter(|value| !value.is_null())
        .cloned()
}

/// The part of a metric that its type names, if there is one.
fn source(metric: &mut Value) -> Option<&mut Object> {
    let name = match metric.get("type")?.as_str()? {
        "ContainerResource" => "containerResource",
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        _ => return None,
    };
    metric.get_mut(name).and_then(Value::as_object_mut)
}

fn kind_of(metric: &Value) -> String {
    metric
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Moves fields of an inner object out of it, under other names, and drops the rest of it.
fn flatten(source: &mut Object, inner: &str, names: &[(&str, &str)]) {
    if let Some(Value::Object(mut inner)) = source.remove(inner) {
        for (from, to) in names {
            if let Some(value) = inner.remove(*from) {
                source.insert((*to).to_owned(), value);
            }
        }
    }
}

/// Moves fields into a new inner object, under other names.
fn nest(source: &mut Object, inner: &str, names: &[(&str, &str)]) {
    let mut object = Object::new();
    for (from, to) in names {
        if let Some(value) = source.remove(*from) {
            object.insert((*to).to_owned(), value);
        }
    }
    source.insert(inner.to_owned(), object.into());
}

/// What the target's type is, by which of its values are set.
fn set_type(source: &mut Object, first: (&str, &str), otherwise: &str) {
    if let Some(target) = child(source, "target") {
        let (field, name) = first;
        let name = if target.contains_key(field) {
            name
        } else {
            otherwise
        };
        target.insert("type".to_owned(), name.into());
    }
}

fn metric_to_v1(mut metric: Value) -> Value {
    let kind = kind_of(&metric);
    if let Some(source) = source(&mut metric) {
        match kind.as_str() {
            "External" => {
                flatten(
                    source,
                    "metric",
                    &[("name", "metricName"), ("selector", "metricSelector")],
                );
                flatten(
                    source,
                    "target",
                    &[
                        ("value", "targetValue"),
                        ("averageValue", "targetAverageValue"),
                    ],
                );
            }
            "Object" => {
                flatten(
                    source,
                    "metric",
                    &[("name", "metricName"), ("selector", "selector")],
                );
                flatten(
                    source,
                    "target",
                    &[("value", "targetValue"), ("averageValue", "averageValue")],
                );
                rename(source, [("describedObject", "target")]);
            }
            "Pods" => {
                flatten(
                    source,
                    "metric",
                    &[("name", "metricName"), ("selector", "selector")],
                );
                flatten(source, "target", &[("averageValue", "targetAverageValue")]);
            }
            _ => flatten(
                source,
                "target",
                &[
                    ("averageUtilization", "targetAverageUtilization"),
                    ("averageValue", "targetAverageValue"),
                ],
            ),
        }
    }
    metric
}

fn metric_to_v2(mut metric: Value) -> Value {
    let kind = kind_of(&metric);
    if let Some(source) = source(&mut metric) {
        match kind.as_str() {
            "External" => {
                nest(
                    source,
                    "metric",
                    &[("metricName", "name"), ("metricSelector", "selector")],
                );
                nest(
                    source,
                    "target",
                    &[
                        ("targetValue", "value"),
                        ("targetAverageValue", "averageValue"),
                    ],
                );
                set_type(source, ("value", "Value"), "AverageValue");
            }
            "Object" => {
                rename(source, [("target", "describedObject")]);
                nest(
                    source,
                    "metric",
                    &[("metricName", "name"), ("selector", "selector")],
                );
                nest(
                    source,
                    "target",
                    &[("targetValue", "value"), ("averageValue", "averageValue")],
                );
                set_type(source, ("averageValue", "AverageValue"), "Value");
            }
            "Pods" => {
                nest(
                    source,
                    "metric",
                    &[("metricName", "name"), ("selector", "selector")],
                );
                nest(source, "target", &[("targetAverageValue", "averageValue")]);
                set_type(source, ("averageValue", "AverageValue"), "AverageValue");
            }
            _ => {
                let names = [
                    ("targetAverageUtilization", "averageUtilization"),
                    ("targetAverageValue", "averageValue"),
                ];
                nest(source, "target", &names);
                set_type(
                    source,
                    ("averageUtilization", "Utilization"),
                    "AverageValue",
                );
            }
        }
    }
    metric
}

const CURRENT_RESOURCE: [(&str, &str); 2] = [
    ("averageUtilization", "currentAverageUtilization"),
    ("averageValue", "currentAverageValue"),
];

fn status_to_v1(mut metric: Value) -> Value {
    let kind = kind_of(&metric);
    if let Some(source) = source(&mut metric) {
        match kind.as_str() {
            "External" => {
                flatten(
                    source,
                    "metric",
                    &[("name", "metricName"), ("selector", "metricSelector")],
                );
                flatten(
                    source,
                    "current",
                    &[
                        ("value", "currentValue"),
                        ("averageValue", "currentAverageValue"),
                    ],
                );
            }
            "Object" => {
                flatten(
                    source,
                    "metric",
                    &[("name", "metricName"), ("selector", "selector")],
                );
                flatten(
                    source,
                    "current",
                    &[("value", "currentValue"), ("averageValue", "averageValue")],
                );
                rename(source, [("describedObject", "target")]);
            }
            "Pods" => {
                flatten(
                    source,
                    "metric",
                    &[("name", "metricName"), ("selector", "selector")],
                );
                flatten(
                    source,
                    "current",
                    &[("averageValue", "currentAverageValue")],
                );
            }
            _ => flatten(source, "current", &CURRENT_RESOURCE),
        }
    }
    metric
}

fn status_to_v2(mut metric: Value) -> Value {
    let kind = kind_of(&metric);
    if let Some(source) = source(&mut metric) {
        match kind.as_str() {
            "External" => {
                nest(
                    source,
                    "metric",
                    &[("metricName", "name"), ("metricSelector", "selector")],
                );
                nest(
                    source,
                    "current",
                    &[
                        ("currentValue", "value"),
                        ("currentAverageValue", "averageValue"),
                    ],
                );
            }
            "Object" => {
                rename(source, [("target", "describedObject")]);
                nest(
                    source,
                    "metric",
                    &[("metricName", "name"), ("selector", "selector")],
                );
                nest(
                    source,
                    "current",
                    &[("currentValue", "value"), ("averageValue", "averageValue")],
                );
            }
            "Pods" => {
                nest(
                    source,
                    "metric",
                    &[("metricName", "name"), ("selector", "selector")],
                );
                nest(
                    source,
                    "current",
                    &[("currentAverageValue", "averageValue")],
                );
            }
            _ => nest(
                source,
                "current",
                &CURRENT_RESOURCE.map(|(v2, v1)| (v1, v2)),
            ),
        }
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceTable;

    fn row(group: &str, version: &str, resource: &str) -> &'static Resource {
        ResourceTable::builtin()
            .resource(group, version, resource)
            .unwrap()
    }

    #[test]
    fn events_change_names_and_come_back() {
        let (core, events) = (
            row("", "v1", "events"),
            row("events.k8s.io", "v1", "events"),
        );
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"},
            "involvedObject": {"kind": "Pod"}, "message": "m", "count": 2, "reason": "r",
            "source": {"component": "kubelet"}, "reportingComponent": "kubelet",
        });
        let other = convert(event.clone(), core, events);
        assert_eq!(
            other,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
                "regarding": {"kind": "Pod"}, "note": "m", "deprecatedCount": 2, "reason": "r",
                "deprecatedSource": {"component": "kubelet"}, "reportingController": "kubelet",
            })
        );
        let mut bytes = Vec::new();
        let typed =
            (events.codec.from_value)(other.clone(), &mut |path| panic!("unknown {path}")).unwrap();
        typed.write_json(&mut bytes);
        assert_eq!(convert(other, events, core), event);
        assert!(!is_same_schema(core, events));
        assert_eq!(
            field_label("regarding.name", events).unwrap(),
            "involvedObject.name"
        );
        assert_eq!(field_label("involvedObject.name", events), None);
    }

    #[test]
    fn autoscalers_keep_what_the_old_version_lacks_in_annotations() {
        let (old, new) = (
            row("autoscaling", "v1", "horizontalpodautoscalers"),
            row("autoscaling", "v2", "horizontalpodautoscalers"),
        );
        let scaler = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3,
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 1}},
                "metrics": [
                    {"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "y"}, "target": {"type": "Value", "value": "2"},
                    }},
                    {"type": "External", "external": {"metric": {"name": "z"}, "target": {"type": "Value", "value": "2"}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                ],
            },
            "status": {
                "desiredReplicas": 1,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 70, "averageValue": "7m"}}}],
            },
        });
        let converted = convert(scaler.clone(), new, old);
        assert_eq!(converted["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(converted["status"]["currentCPUUtilizationPercentage"], 70);
        assert_eq!(converted["spec"].get("metrics"), None);
        let annotations = converted["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.len(), 4);
        assert!(
            annotations[METRICS]
                .as_str()
                .unwrap()
                .contains(r#""metricName":"x""#)
        );
        assert_eq!(
            annotations[BEHAVIOR],
            r#"{"ScaleUp":{"StabilizationWindowSeconds":1,"SelectPolicy":null,"Policies":null,"Tolerance":null},"ScaleDown":null}"#
        );
        (old.codec.from_value)(converted.clone(), &mut |path| panic!("unknown {path}")).unwrap();
        assert_eq!(convert(converted, old, new), scaler);
    }

    #[test]
    fn the_behavior_of_an_old_autoscaler_may_have_its_names_in_any_case() {
        let behavior = json!({
            "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 15}]},
            "scaleDown": {"tolerance": "100m"},
        });
        let text = behavior_to_v1(&behavior);
        assert!(
            text.contains(r#"[{"Type":"Pods","Value":4,"PeriodSeconds":15}]"#),
            "{text}"
        );
        assert_eq!(
            behavior_to_v2(serde_json::from_str(&text).unwrap()),
            behavior
        );
        assert_eq!(behavior_to_v2(behavior.clone()), behavior);
    }

    #[test]
    fn other_kinds_change_their_version_alone() {
        let pods = row("", "v1", "pods");
        assert!(is_same_schema(pods, pods));
        let pod = json!({"apiVersion": "v0", "kind": "Pod"});
        assert_eq!(
            convert(pod, pods, pods),
            json!({"apiVersion": "v1", "kind": "Pod"})
        );
    }
}

//! The rules of Events, in the core group and in `events.k8s.io`.

use k8s_openapi::api::{
    core::v1::{Event as CoreEvent, EventSource, ObjectReference},
    events::v1::Event as NewEvent,
};

use serde_json::{Value, json};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, dns_subdomain, qualified_name, same, text},
        typed::KindRules,
    },
    metadata, names,
};

const FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// What the two kinds have in common, by one name.
struct Common<'a> {
    namespace: &'a str,
    object: ObjectReference,
    reason: &'a str,
    sort: &'a str,
    action: &'a str,
    message: &'a str,
    controller: &'a str,
    instance: &'a str,
    source: Option<&'a EventSource>,
    timed: bool,
}

impl Common<'_> {
    fn selectable(&self) -> Vec<String> {
        let object = &self.object;
        let source = self.source.map_or("", |source| text(&source.component));
        [
            text(&object.kind),
            text(&object.namespace),
            text(&object.name),
            text(&object.uid),
            text(&object.api_version),
            text(&object.resource_version),
            text(&object.field_path),
            self.reason,
            self.controller,
            if source.is_empty() {
                self.controller
            } else {
                source
            },
            self.sort,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn validate(&self, controller_field: &str) -> ErrorList {
        let mut errors = ErrorList::new();
        let of_object = text(&self.object.namespace);
        let agrees = if of_object.is_empty() {
            // A cluster-wide object's events are kept in the default namespace.
            let system = self.timed && self.namespace == "kube-system";
            matches!(self.namespace, "" | "default") || system
        } else {
            self.timed || of_object == self.namespace
        };
        if !agrees {
            errors.push(field::invalid(
                Path::new("involvedObject").child("namespace"),
                of_object,
                "does not match event.namespace",
            ));
        }
        if self.timed {
            // An empty name is told twice: it is required, and it is no name.
            let at = Path::new(controller_field);
            if self.controller.is_empty() {
                errors.push(field::required(at.clone(), ""));
            }
            errors.extend(qualified_name(self.controller, at));
            let mut bounded = |name: &str, value: &str| {
                if value.is_empty() {
                    errors.push(field::required(Path::new(name), ""));
                } else if value.len() > 128 {
                    errors.push(field::invalid(
                        Path::new(name),
                        "",
                        "can have at most 128 characters",
                    ));
                }
            };
            bounded("reportingInstance", self.instance);
            bounded("action", self.action);
            bounded("reason", self.reason);
            if self.message.len() > 1024 {
                errors.push(field::invalid(
                    Path::new("message"),
                    "",
                    "can have at most 1024 characters",
                ));
            }
        }
        errors.extend(dns_subdomain(self.namespace, Path::new("namespace")));
        errors
    }
}

/// The rules of the core group's Events.
pub(crate) struct CoreEventRules;

impl CoreEventRules {
    fn common(event: &CoreEvent) -> Common<'_> {
        Common {
            namespace: text(&event.metadata.namespace),
            object: event.involved_object.clone(),
            reason: text(&event.reason),
            sort: text(&event.type_),
            action: text(&event.action),
            message: text(&event.message),
            controller: text(&event.reporting_component),
            instance: text(&event.reporting_instance),
            source: event.source.as_ref(),
            timed: event.event_time.is_some(),
        }
    }
}

impl KindRules for CoreEventRules {
    type Kind = CoreEvent;

    const METADATA: (usize, usize) = (0, 0);

    const QUALIFIED_FINALIZERS: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [&'static str] = FIELDS;

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn validate(&self, event: &CoreEvent) -> ErrorList {
        Self::common(event).validate("reportingComponent")
    }

    fn selectable(&self, event: &CoreEvent) -> Vec<String> {
        Self::common(event).selectable()
    }
}

/// The rules of Events in `events.k8s.io`.
pub(crate) struct NewEventRules;

impl NewEventRules {
    fn common(event: &NewEvent) -> Common<'_> {
        Common {
            namespace: text(&event.metadata.namespace),
            object: event.regarding.clone().unwrap_or_default(),
            reason: text(&event.reason),
            sort: text(&event.type_),
            action: text(&event.action),
            message: text(&event.note),
            controller: text(&event.reporting_controller),
            instance: text(&event.reporting_instance),
            source: event.deprecated_source.as_ref(),
            timed: event.event_time.is_some(),
        }
    }
}

impl KindRules for NewEventRules {
    type Kind = NewEvent;

    const METADATA: (usize, usize) = (0, 1);

    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [&'static str] = FIELDS;

    fn validate(&self, event: &NewEvent) -> ErrorList {
        let mut errors = Self::common(event).validate("reportingController");
        errors.extend(series(event));
        if event.event_time.is_none() {
            errors.push(field::required(Path::new("eventTime"), ""));
        }
        let sort = text(&event.type_);
        if !matches!(sort, "Normal" | "Warning") {
            errors.push(field::invalid(
                Path::new("type"),
                "",
                format!("has invalid value: {sort}"),
            ));
        }
        let source = event
            .deprecated_source
            .as_ref()
            .is_some_and(|source| !blank(&source.component) || !blank(&source.host));
        for (set, name) in [
            (event.deprecated_first_timestamp.is_some(), "firstTimestamp"),
            (event.deprecated_last_timestamp.is_some(), "lastTimestamp"),
            (event.deprecated_count.unwrap_or_default() != 0, "count"),
            (source, "source"),
        ] {
            if set {
                errors.push(field::invalid(Path::new(name), "", "needs to be unset"));
            }
        }
        errors
    }

    fn validate_update(&self, new: &NewEvent, old: &NewEvent) -> ErrorList {
        let mut errors = Self::common(new).validate("reportingController");
        if new.series != old.series {
            errors.extend(series(new));
        }
        // All but the series is immutable.
        let value = |event: &NewEvent| serde_json::to_value(event).unwrap_or_default();
        let (new, old) = (value(new), value(old));
        for (path, name) in [
            ("involvedObject", "regarding"),
            ("reason", "reason"),
            ("message", "note"),
            ("source", "deprecatedSource"),
            ("firstTimestamp", "deprecatedFirstTimestamp"),
            ("lastTimestamp", "deprecatedLastTimestamp"),
            ("count", "deprecatedCount"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingController", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            // Structs that upstream writes even if nothing is in them.
            let set = |event: &Value| Some(event[name].clone()).filter(|v| *v != json!({}));
            if !same(&set(&new), &set(&old)) {
                // What is not there is what Go has then.
                let told = match (&new[name], name) {
                    (
                        Value::Null,
                        "reason"
                        | "note"
                        | "type"
                        | "action"
                        | "reportingController"
                        | "reportingInstance",
                    ) => json!(""),
                    (Value::Null, "deprecatedCount") => json!(0),
                    (told, _) => told.clone(),
                };
                errors.push(field::invalid(Path::new(path), told, "field is immutable"));
            }
        }
        errors
    }

    fn selectable(&self, event: &NewEvent) -> Vec<String> {
        Self::common(event).selectable()
    }
}

fn series(event: &NewEvent) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(series) = &event.series else {
        return errors;
    };
    if series.count < 2 {
        let path = Path::new("series.count");
        errors.push(field::invalid(path, "", "should be at least 2"));
    }
    if series.last_observed_time.0 == metadata::UNSET_TIME {
        errors.push(field::required(Path::new("series.lastObservedTime"), ""));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_checked_for_its_name_with_its_metadata_alone() {
        let event = |more: Value| -> NewEvent {
            let mut event = json!({"metadata": {"name": "A_", "namespace": "n"}, "eventTime": "2020-01-01T00:00:00.000000Z",
                "regarding": {"namespace": "n"}, "reason": "R", "type": "Normal",
                "reportingController": "a.b/c", "reportingInstance": "i", "action": "A"});
            json_patch::merge(&mut event, &more);
            serde_json::from_value(event).unwrap()
        };
        assert_eq!(NewEventRules.validate(&event(json!({}))), []);
        assert_eq!(NewEventRules.validate_name("A_", false).len(), 1);
    }

    #[test]
    fn what_is_taken_from_an_event_is_told_as_go_has_it() {
        let event = |more: Value| -> NewEvent {
            let mut event = json!({"metadata": {"name": "e", "namespace": "n"}, "eventTime": "2020-01-01T00:00:00.000000Z",
                "regarding": {"namespace": "n"}, "reason": "R", "type": "Normal",
                "reportingController": "a.b/c", "reportingInstance": "i", "action": "A"});
            json_patch::merge(&mut event, &more);
            serde_json::from_value(event).unwrap()
        };
        let old = event(json!({"note": "n", "deprecatedCount": 1, "related": {"kind": "K"}}));
        let errors = NewEventRules.validate_update(&event(json!({})), &old);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        for told in [
            r#"message: Invalid value: "": field is immutable"#,
            "count: Invalid value: 0: field is immutable",
            r#"related: Invalid value: null: field is immutable"#,
        ] {
            assert!(texts.iter().any(|text| text == told), "{told}: {texts:?}");
        }
    }
}

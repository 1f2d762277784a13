//! The group `node.k8s.io`: RuntimeClasses.

use k8s_openapi::api::node::v1::RuntimeClass;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, immutable, json, list, repeats},
        core::pod::{limit_list, tolerations},
        declared::Declared,
        difference::spelled,
        node_labels, quantities,
        typed::KindRules,
    },
    metadata,
};

/// The rules of RuntimeClasses.
pub(crate) struct RuntimeClassRules;

impl KindRules for RuntimeClassRules {
    type Kind = RuntimeClass;

    const QUALIFIED_FINALIZERS: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, class: &mut RuntimeClass) {
        if let Some(overhead) = &mut class.overhead {
            quantities::normalize(&mut overhead.pod_fixed);
        }
    }

    fn validate(&self, class: &RuntimeClass) -> ErrorList {
        let mut errors = match class.handler.as_str() {
            "" => vec![field::required(Path::new("handler"), "")],
            handler => dns_label(handler, Path::new("handler")),
        };
        let fixed = class
            .overhead
            .as_ref()
            .and_then(|overhead| overhead.pod_fixed.as_ref());
        if let Some(fixed) = fixed {
            errors.extend(limit_list(fixed, &Path::new("overhead").child("limits")));
        }
        if let Some(scheduling) = &class.scheduling {
            let path = Path::new("scheduling");
            if let Some(selector) = &scheduling.node_selector {
                errors.extend(metadata::validate_labels(
                    selector,
                    &path.child("nodeSelector"),
                ));
            }
            errors.extend(tolerations(
                list(&scheduling.tolerations),
                false,
                &path.child("tolerations"),
            ));
            let all = list(&scheduling.tolerations);
            let repeats = repeats(all.iter().map(json));
            for (at, one) in all.iter().enumerate() {
                if repeats[at] {
                    let path = path.child("tolerations").index(at);
                    errors.push(field::duplicate_spelled(path, spelled("Toleration", one)));
                }
            }
        }
        errors
    }

    fn warnings(&self, class: &RuntimeClass) -> Vec<String> {
        let scheduling = class.scheduling.as_ref();
        let labels = scheduling.and_then(|scheduling| scheduling.node_selector.as_ref());
        let labels = labels.into_iter().flatten().map(|(label, _)| label);
        labels
            .filter_map(|label| node_labels::advice(label))
            .map(|advice| format!("scheduling.nodeSelector: {advice}"))
            .collect()
    }

    fn validate_update(&self, new: &RuntimeClass, old: &RuntimeClass) -> ErrorList {
        immutable(&new.handler, &old.handler, Path::new("handler"))
    }

    fn declared(&self, new: &RuntimeClass, old: Option<&RuntimeClass>) -> ErrorList {
        let old = old.map(|old| &old.handler);
        Declared::of(&new.handler, old, Path::new("handler"))
            .immutable()
            .required(String::is_empty)
            .then(|handler, path| dns_label(handler, path))
    }
}

//! ResourceClaimTemplates.

use k8s_openapi::{
    api::resource::v1::{ResourceClaimSpec, ResourceClaimTemplate, ResourceClaimTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::{alpha, claim};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{Slot, immutable, json, slot, slot_mut},
        typed::KindRules,
    },
    metadata,
};

/// The rules of ResourceClaimTemplates.
pub(crate) struct ResourceClaimTemplateRules;

fn inner<S>(spec: &S) -> Option<&ResourceClaimSpec>
where
    S: Slot<ResourceClaimTemplateSpec>,
{
    slot(&slot(spec)?.spec)
}

fn inner_mut<S>(spec: &mut S) -> Option<&mut ResourceClaimSpec>
where
    S: Slot<ResourceClaimTemplateSpec>,
{
    slot_mut(&mut slot_mut(spec)?.spec)
}

impl KindRules for ResourceClaimTemplateRules {
    type Kind = ResourceClaimTemplate;

    fn default(&self, template: &mut ResourceClaimTemplate) {
        claim::defaults(inner_mut(&mut template.spec));
    }

    fn prepare_for_create(&self, template: &mut ResourceClaimTemplate) {
        alpha::drop_of_claim(inner_mut(&mut template.spec), None);
    }

    fn validate(&self, template: &ResourceClaimTemplate) -> ErrorList {
        let path = Path::new("spec");
        let spec: Option<&ResourceClaimTemplateSpec> = slot(&template.spec);
        let meta = spec.and_then(|spec| spec.metadata.as_ref());
        let mut out = meta
            .map(|meta| template_metadata(meta, &path.child("metadata")))
            .unwrap_or_default();
        out.extend(claim::spec(inner(&template.spec), &path.child("spec")));
        out
    }

    fn prepare_for_update(&self, new: &mut ResourceClaimTemplate, old: &ResourceClaimTemplate) {
        alpha::drop_of_claim(inner_mut(&mut new.spec), inner(&old.spec));
    }

    fn validate_update(
        &self,
        new: &ResourceClaimTemplate,
        old: &ResourceClaimTemplate,
    ) -> ErrorList {
        // What is stored may be older than some of its defaults.
        let mut old = old.clone();
        self.default(&mut old);
        let mut out = self.validate(new);
        out.extend(immutable(&new.spec, &old.spec, Path::new("spec")));
        out
    }
}

/// Of the metadata of claims, a template says labels and annotations.
fn template_metadata(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if let Some(map) = &meta.annotations {
        out.extend(metadata::validate_annotations(map, &path.child("annotations")));
    }
    if let Some(map) = &meta.labels {
        out.extend(metadata::validate_labels(map, &path.child("labels")));
    }
    if let Value::Object(fields) = json(meta) {
        for name in fields.keys() {
            if !matches!(name.as_str(), "annotations" | "labels") {
                out.push(field::forbidden(path.child(name), "cannot be set"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_checked_as_what_is_made_of_it() {
        let template = |meta: Value| -> ResourceClaimTemplate {
            let requests = json!([{"name": "a", "exactly": {"deviceClassName": "b",
                "tolerations": [{"key": "a"}]}}, {"name": "b"}]);
            let spec = json!({"metadata": meta, "spec": {"devices": {"requests": requests}}});
            serde_json::from_value(json!({"metadata": {"name": "t"}, "spec": spec})).unwrap()
        };
        let mut one = template(json!({"labels": {"a": "b"}, "name": "c", "annotations": {"a b": ""}}));
        ResourceClaimTemplateRules.default(&mut one);
        let found = ResourceClaimTemplateRules.validate(&one);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with(r#"spec.metadata.annotations: Invalid value: "a b""#), "{found:?}");
        assert_eq!(found[1], "spec.metadata.name: Forbidden: cannot be set");
        assert!(found[2].starts_with("spec.spec.devices.requests[1]: Required value"), "{found:?}");
        assert_eq!(json(&one)["spec"]["spec"]["devices"]["requests"][0]["exactly"]["tolerations"][0]["operator"], "Equal");
        let mut other = template(json!({}));
        ResourceClaimTemplateRules.default(&mut other);
        let before = template(json!({"labels": {"a": "b"}, "name": "c", "annotations": {"a b": ""}}));
        let update = |new: &ResourceClaimTemplate, old: &ResourceClaimTemplate| -> Vec<String> {
            let found = ResourceClaimTemplateRules.validate_update(new, old);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(update(&one, &before), found);
        assert_eq!(update(&one, &one), found);
        let told = update(&other, &one);
        assert!(told[0].starts_with("spec.spec.devices.requests[1]: Required value"), "{told:?}");
        assert!(told[1].ends_with("field is immutable"), "{told:?}");
    }
}

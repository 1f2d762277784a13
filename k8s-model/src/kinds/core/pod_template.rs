//! The rules of PodTemplates.

use k8s_openapi::api::core::v1::{PodTemplate, PodTemplateSpec};

use crate::{
    field::{ErrorList, Path},
    kinds::{
        apps::workload::{default_template, of_change},
        checks::same,
        core::pod::{changed_template, prepare_template, template_warnings},
        typed::KindRules,
    },
};

/// The rules of PodTemplates.
pub(crate) struct PodTemplateRules;

impl KindRules for PodTemplateRules {
    type Kind = PodTemplate;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;

    fn default(&self, object: &mut PodTemplate) {
        default_template(object.template.get_or_insert_default());
    }

    fn spec_changed(&self, new: &PodTemplate, old: &PodTemplate) -> bool {
        !same(&new.template, &old.template)
    }

    fn prepare_for_create(&self, object: &mut PodTemplate) {
        if let Some(template) = &mut object.template {
            prepare_template(template, None);
        }
    }

    fn prepare_for_update(&self, new: &mut PodTemplate, old: &PodTemplate) {
        if let Some(template) = &mut new.template {
            prepare_template(template, old.template.as_ref());
        }
    }

    fn validate(&self, object: &PodTemplate) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, new: &PodTemplate, old: &PodTemplate) -> ErrorList {
        validate(new, old.template.as_ref())
    }

    fn warnings(&self, object: &PodTemplate) -> Vec<String> {
        let path = Path::new("template");
        let template = object.template.as_ref();
        template
            .map(|template| template_warnings(template, &path))
            .unwrap_or_default()
    }

    fn update_warnings(&self, new: &PodTemplate, old: &PodTemplate) -> Vec<String> {
        of_change(new, old, |object| self.warnings(object))
    }
}

fn validate(object: &PodTemplate, old: Option<&PodTemplateSpec>) -> ErrorList {
    let empty = PodTemplateSpec::default();
    let template = object.template.as_ref().unwrap_or(&empty);
    changed_template(template, old.into(), &Path::new("template"))
}

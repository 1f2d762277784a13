//! How a job selects its pods.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, json, selector_matches, text},
        difference::spelled_selector,
        selectors::{Values, is_bad, selector_of},
    },
};

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

/// A job selects its pods by its own uid.
pub(super) fn generate(spec: &mut JobSpec, uid: &str, name: &str) {
    let meta = spec.template.metadata.get_or_insert_default();
    let labels = meta.labels.get_or_insert_default();
    for (key, value) in [
        (OLD_NAME_LABEL, name),
        (NAME_LABEL, name),
        (OLD_UID_LABEL, uid),
        (UID_LABEL, uid),
    ] {
        labels
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    }
    spec.selector
        .get_or_insert_default()
        .match_labels
        .get_or_insert_default()
        .entry(UID_LABEL.to_owned())
        .or_insert_with(|| uid.to_owned());
}

/// Whether a job's template has the labels with a domain in their names, which jobs of old do not have.
pub(super) fn has_prefixed_labels(job: &Job) -> bool {
    let template = job.spec.as_ref().map(|spec| &spec.template);
    let meta = template.and_then(|template| template.metadata.as_ref());
    let labels = meta.and_then(|meta| meta.labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key(NAME_LABEL) && labels.contains_key(UID_LABEL))
}

/// A selector and labels that nobody chose are as [`generate`] makes them.
pub(super) fn generated(job: &Job, spec: &JobSpec, prefixed: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(selector) = &spec.selector else {
        return errors;
    };
    if spec.manual_selector == Some(true) {
        return errors;
    }
    let (uid, name) = (text(&job.metadata.uid), text(&job.metadata.name));
    if blank(&job.metadata.uid) {
        errors.push(field::required(Path::new("metadata").child("uid"), ""));
    }
    let mut expected = vec![(OLD_UID_LABEL, uid), (OLD_NAME_LABEL, name)];
    if prefixed {
        expected.extend([(UID_LABEL, uid), (NAME_LABEL, name)]);
    }
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let labels = labels.unwrap_or_default();
    let path_of_labels = path.child("template").child("metadata").child("labels");
    for (key, value) in &expected {
        let at = path_of_labels.key(key);
        match labels.get(*key) {
            None => errors.push(field::required(at, format!("must be '{value}'"))),
            Some(found) if found != value => errors.push(field::invalid(
                at,
                json(&labels),
                format!("must be '{value}'"),
            )),
            Some(_) => {}
        }
    }
    let expected = expected.into_iter();
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let path = path.child("selector");
    if !is_bad(selector) && !selector_matches(selector, &expected.collect()) {
        errors.push(field::invalid_spelled(
            path,
            &spelled_selector(selector),
            "`selector` not auto-generated",
        ));
    }
    errors
}

/// There is a selector, which has such values, and it selects the template.
pub(super) fn validate(spec: &JobSpec, values: Values, path: &Path) -> ErrorList {
    let Some(selector) = &spec.selector else {
        return vec![
            field::required(path.child("selector"), ""),
            mismatch(&spec.template, path),
        ];
    };
    let mut errors = selector_of(values, selector, &path.child("selector"));
    if !is_bad(selector) && !matches(selector, &spec.template) {
        errors.push(mismatch(&spec.template, path));
    }
    errors
}

fn matches(selector: &LabelSelector, template: &PodTemplateSpec) -> bool {
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    selector_matches(selector, &labels.unwrap_or_default())
}

/// What is said of a template that the selector doesn't select.
fn mismatch(template: &PodTemplateSpec, path: &Path) -> field::Error {
    let labels = template.metadata.as_ref().map(|meta| json(&meta.labels));
    field::invalid(
        path.child("template").child("metadata").child("labels"),
        labels.unwrap_or_default(),
        "`selector` does not match template `labels`",
    )
}

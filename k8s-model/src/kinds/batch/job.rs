//! The rules of Jobs.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec, JobStatus},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::failure_policy;
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        apps::workload::default_template,
        checks::{
            blank, fill_absent, immutable, json, label_selector, list, non_negative, same,
            selector_matches, supported, text,
        },
        core::pod::{template, template_warnings},
        typed::KindRules,
    },
    names,
};

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";
const MAX_INDEXED_PARALLELISM: i32 = 100_000;

/// Defaults a job's spec.
pub(super) fn default_spec(spec: &mut JobSpec) {
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit
        .get_or_insert(if spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        });
    fill_absent(&mut spec.completion_mode, "NonIndexed");
    spec.suspend.get_or_insert(false);
    let replacement = if spec.pod_failure_policy.is_some() {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    fill_absent(&mut spec.pod_replacement_policy, replacement);
    if let Some(policy) = &mut spec.pod_failure_policy {
        failure_policy::default(policy);
    }
}

/// The rules of Jobs.
pub(crate) struct JobRules;

impl KindRules for JobRules {
    type Kind = Job;

    const TOLD_TWICE: bool = true;

    const GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["status.successful"];

    fn default(&self, job: &mut Job) {
        let spec = job.spec.get_or_insert_default();
        default_spec(spec);
        default_template(&mut spec.template);
        let labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|meta| meta.labels.clone());
        if let Some(labels) = labels
            && job
                .metadata
                .labels
                .as_ref()
                .is_none_or(|labels| labels.is_empty())
        {
            job.metadata.labels = Some(labels);
        }
    }

    fn spec_changed(&self, new: &Job, old: &Job) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, job: &mut Job) {
        job.status = Some(JobStatus::default());
        let (uid, name) = (text(&job.metadata.uid), text(&job.metadata.name));
        if let Some(spec) = &mut job.spec
            && spec.manual_selector != Some(true)
        {
            let labels = |spec: &JobSpec| {
                let meta = spec.template.metadata.as_ref();
                meta.and_then(|meta| meta.labels.clone())
                    .unwrap_or_default()
            };
            // A job without labels of its own has its template's, those too that are made now.
            let own = job.metadata.labels.as_ref();
            let shared = own.is_none_or(|own| own.is_empty() || *own == labels(spec));
            generate_selector(spec, uid, name);
            if shared {
                job.metadata.labels = Some(labels(spec));
            }
        }
    }

    fn validate(&self, job: &Job) -> ErrorList {
        let path = Path::new("spec");
        let empty = JobSpec::default();
        let spec = job.spec.as_ref().unwrap_or(&empty);
        let mut errors = generated_selector(job, spec, &path);
        errors.extend(validate_spec(spec, &path));
        match &spec.selector {
            None => {
                errors.push(field::required(path.child("selector"), ""));
                errors.push(mismatch(&spec.template, &path));
            }
            Some(selector) => {
                let wrong = label_selector(selector, &path.child("selector"));
                let matches = !wrong.is_empty() || matches(selector, &spec.template);
                errors.extend(wrong);
                if !matches {
                    errors.push(mismatch(&spec.template, &path));
                }
            }
        }
        if text(&spec.completion_mode) == "Indexed"
            && let Some(completions) = spec.completions.filter(|completions| *completions > 0)
        {
            let name = text(&job.metadata.name);
            let last = format!("{name}-{}", completions - 1);
            if !names::dns_label(&last, false).is_empty() {
                errors.push(field::invalid(
                    Path::new("metadata").child("name"),
                    name,
                    format!("will not able to create pod with invalid DNS label: {last}"),
                ));
            }
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut Job, old: &Job) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Job, old: &Job) -> ErrorList {
        let mut errors = self.validate(new);
        let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else {
            return errors;
        };
        let path = Path::new("spec");
        // An indexed job can be scaled by both numbers together.
        let scaled = text(&new_spec.completion_mode) == "Indexed"
            && new_spec.completions.is_some()
            && old_spec.completions.is_some()
            && new_spec.completions == new_spec.parallelism;
        if !scaled {
            errors.extend(immutable(
                &new_spec.completions,
                &old_spec.completions,
                path.child("completions"),
            ));
        }
        errors.extend(immutable(
            &new_spec.selector,
            &old_spec.selector,
            path.child("selector"),
        ));
        let not_started = old_spec.suspend == Some(true)
            && old
                .status
                .as_ref()
                .is_none_or(|status| status.start_time.is_none());
        let template = if not_started {
            with_scheduling_of(&old_spec.template, &new_spec.template)
        } else {
            old_spec.template.clone()
        };
        errors.extend(immutable(
            &new_spec.template,
            &template,
            path.child("template"),
        ));
        errors.extend(immutable(
            &new_spec.completion_mode,
            &old_spec.completion_mode,
            path.child("completionMode"),
        ));
        errors.extend(immutable(
            &new_spec.pod_failure_policy,
            &old_spec.pod_failure_policy,
            path.child("podFailurePolicy"),
        ));
        errors.extend(immutable(
            &new_spec.backoff_limit_per_index,
            &old_spec.backoff_limit_per_index,
            path.child("backoffLimitPerIndex"),
        ));
        errors.extend(immutable(
            &new_spec.managed_by,
            &old_spec.managed_by,
            path.child("managedBy"),
        ));
        errors.extend(immutable(
            &new_spec.success_policy,
            &old_spec.success_policy,
            path.child("successPolicy"),
        ));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut Job, old: &Job) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &Job, _old: &Job) -> ErrorList {
        let path = Path::new("status");
        let status = new.status.clone().unwrap_or_default();
        let mut errors = ErrorList::new();
        for (count, name) in [
            (status.active, "active"),
            (status.succeeded, "succeeded"),
            (status.failed, "failed"),
            (status.ready, "ready"),
            (status.terminating, "terminating"),
        ] {
            errors.extend(non_negative(count.unwrap_or_default(), path.child(name)));
        }
        let path = path.child("uncountedTerminatedPods");
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
        for (uids, name) in [
            (&uncounted.succeeded, "succeeded"),
            (&uncounted.failed, "failed"),
        ] {
            for (at, uid) in list(uids).iter().enumerate() {
                let path = path.child(name).index(at);
                if uid.is_empty() {
                    errors.push(field::invalid(path, uid.as_str(), "must not be empty"));
                } else if !seen.insert(uid) {
                    errors.push(field::duplicate(path, uid.as_str()));
                }
            }
        }
        errors
    }

    fn warnings(&self, job: &Job) -> Vec<String> {
        let path = Path::new("spec").child("template");
        let spec = job.spec.as_ref();
        spec.map(|spec| template_warnings(&spec.template, &path))
            .unwrap_or_default()
    }

    fn selectable(&self, job: &Job) -> Vec<String> {
        let succeeded = job.status.as_ref().and_then(|status| status.succeeded);
        vec![succeeded.unwrap_or_default().to_string()]
    }
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

/// A job selects its pods by its own uid.
fn generate_selector(spec: &mut JobSpec, uid: &str, name: &str) {
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

fn generated_selector(job: &Job, spec: &JobSpec, path: &Path) -> ErrorList {
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
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let labels = labels.unwrap_or_default();
    let path_of_labels = path.child("template").child("metadata").child("labels");
    for (key, value) in [(UID_LABEL, uid), (NAME_LABEL, name)] {
        let at = path_of_labels.key(key);
        match labels.get(key) {
            None => errors.push(field::required(at, format!("must be '{value}'"))),
            Some(found) if found != value => errors.push(field::invalid(
                at,
                json(&labels),
                format!("must be '{value}'"),
            )),
            Some(_) => {}
        }
    }
    let expected = [
        (UID_LABEL, uid),
        (NAME_LABEL, name),
        (OLD_UID_LABEL, uid),
        (OLD_NAME_LABEL, name),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    if !selector_matches(selector, &expected.into()) {
        errors.push(field::invalid(
            path.child("selector"),
            json(selector),
            "`selector` not auto-generated",
        ));
    }
    errors
}

/// The old template with what a job that has not started may still change.
fn with_scheduling_of(old: &PodTemplateSpec, new: &PodTemplateSpec) -> PodTemplateSpec {
    let mut out = old.clone();
    if let (Some(out), Some(new)) = (&mut out.spec, &new.spec) {
        out.node_selector.clone_from(&new.node_selector);
        out.tolerations.clone_from(&new.tolerations);
        out.scheduling_gates.clone_from(&new.scheduling_gates);
        let node = new
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.clone());
        if node.is_some() || out.affinity.is_some() {
            out.affinity.get_or_insert_default().node_affinity = node;
        }
    }
    let new_meta = new.metadata.clone().unwrap_or_default();
    if !same(&out.metadata, &new.metadata) {
        let meta = out.metadata.get_or_insert_default();
        meta.labels = new_meta.labels;
        meta.annotations = new_meta.annotations;
    }
    out
}

/// What holds for the spec of a job and of a job template.
pub(super) fn validate_spec(spec: &JobSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (value, name) in [
        (spec.parallelism.map(i64::from), "parallelism"),
        (spec.completions.map(i64::from), "completions"),
        (spec.active_deadline_seconds, "activeDeadlineSeconds"),
        (spec.backoff_limit.map(i64::from), "backoffLimit"),
        (
            spec.ttl_seconds_after_finished.map(i64::from),
            "ttlSecondsAfterFinished",
        ),
        (
            spec.backoff_limit_per_index.map(i64::from),
            "backoffLimitPerIndex",
        ),
        (spec.max_failed_indexes.map(i64::from), "maxFailedIndexes"),
    ] {
        errors.extend(non_negative(value.unwrap_or_default(), path.child(name)));
    }
    if let Some(mode) = &spec.completion_mode {
        errors.extend(supported(
            mode,
            &["NonIndexed", "Indexed"],
            path.child("completionMode"),
        ));
        if mode == "Indexed" {
            if spec.completions.is_none() {
                errors.push(field::required(
                    path.child("completions"),
                    "when completion mode is Indexed",
                ));
            }
            if let Some(number) = spec.parallelism.filter(|n| *n > MAX_INDEXED_PARALLELISM) {
                errors.push(field::invalid(
                    path.child("parallelism"),
                    number,
                    format!(
                        "must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
                    ),
                ));
            }
        } else {
            for (set, name) in [
                (
                    spec.backoff_limit_per_index.is_some(),
                    "backoffLimitPerIndex",
                ),
                (spec.max_failed_indexes.is_some(), "maxFailedIndexes"),
            ] {
                if set {
                    errors.push(field::forbidden(
                        path.child(name),
                        "requires indexed completion mode",
                    ));
                }
            }
        }
    }
    if let Some(policy) = &spec.pod_failure_policy {
        let path = path.child("podFailurePolicy");
        errors.extend(failure_policy::validate(policy, spec, &path));
    }
    errors.extend(template(&spec.template, &path.child("template")));
    let policy = spec
        .template
        .spec
        .as_ref()
        .map_or("", |spec| text(&spec.restart_policy));
    let at = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "" | "Always" => errors.push(field::required(
            at,
            "valid values: \"OnFailure\", \"Never\"",
        )),
        "OnFailure" if spec.pod_failure_policy.is_some() => errors.push(field::invalid(
            at,
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        )),
        other => errors.extend(supported(other, &["OnFailure", "Never"], at)),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(spec: serde_json::Value) -> Job {
        let mut job: Job =
            serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u"}, "spec": spec}))
                .unwrap();
        JobRules.default(&mut job);
        JobRules.prepare_for_create(&mut job);
        job
    }

    fn template(policy: &str) -> serde_json::Value {
        json!({"spec": {"restartPolicy": policy,
            "containers": [{"name": "c", "image": "x:1"}]}})
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_job_selects_its_pods_by_its_uid() {
        let job = job(json!({"template": template("Never")}));
        assert_eq!(texts(JobRules.validate(&job)), [""; 0]);
        let spec = job.spec.unwrap();
        assert_eq!(
            serde_json::to_value(&spec.selector).unwrap(),
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!((spec.completions, spec.backoff_limit), (Some(1), Some(6)));
    }

    #[test]
    fn a_job_does_not_restart_always() {
        assert_eq!(
            texts(JobRules.validate(&job(json!({"template": template("Always")})))),
            [
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
            ]
        );
    }

    #[test]
    fn the_template_is_immutable() {
        let old = job(json!({"template": template("Never")}));
        let new = job(json!({"template": template("OnFailure")}));
        let errors = texts(JobRules.validate_update(&new, &old));
        assert!(
            errors[0].starts_with("spec.template: Invalid value: "),
            "{errors:?}"
        );
        assert!(errors[0].ends_with(": field is immutable"), "{errors:?}");
    }
}

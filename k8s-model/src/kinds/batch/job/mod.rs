//! The rules of Jobs.

mod selector;
pub(super) mod spec;
mod status;
#[cfg(test)]
mod tests;
pub(super) mod warnings;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};

use super::{alpha, failure_policy};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        apps::workload::{default_template, name_advice, of_change},
        checks::{fill_absent, same, text},
        core::pod::{Before, prepare_template},
        typed::KindRules,
    },
    names,
};

/// Defaults a job's spec.
fn default_spec(spec: &mut JobSpec) {
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
    spec.manual_selector.get_or_insert(false);
    if let Some(policy) = &mut spec.pod_failure_policy {
        failure_policy::default(policy);
    }
}

/// The rules of Jobs.
pub(crate) struct JobRules;

impl KindRules for JobRules {
    type Kind = Job;

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
        if let Some(spec) = &mut job.spec {
            prepare(spec, None);
        }
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
            selector::generate(spec, uid, name);
            if shared {
                job.metadata.labels = Some(labels(spec));
            }
        }
    }

    fn validate(&self, job: &Job) -> ErrorList {
        validate(job, None)
    }

    fn prepare_for_update(&self, new: &mut Job, old: &Job) {
        new.status.clone_from(&old.status);
        if let Some(spec) = &mut new.spec {
            prepare(spec, old.spec.as_ref());
        }
    }

    fn validate_update(&self, new: &Job, old: &Job) -> ErrorList {
        let mut errors = validate(new, Some(old));
        if let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) {
            let path = Path::new("spec");
            errors.extend(spec::changes(new_spec, old_spec, old, &path));
        }
        errors
    }

    fn prepare_for_status_update(&self, new: &mut Job, old: &Job) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &Job, old: &Job) -> ErrorList {
        status::validate_update(new, old)
    }

    fn warnings(&self, job: &Job) -> Vec<String> {
        let mut advice = Vec::from_iter(name_advice(&job.metadata.name));
        advice.extend(spec_advice(job));
        advice
    }

    fn update_warnings(&self, new: &Job, old: &Job) -> Vec<String> {
        of_change(new, old, spec_advice)
    }

    fn selectable(&self, job: &Job) -> Vec<String> {
        let succeeded = job.status.as_ref().and_then(|status| status.succeeded);
        vec![succeeded.unwrap_or_default().to_string()]
    }
}

fn spec_advice(job: &Job) -> Vec<String> {
    let spec = job.spec.iter();
    spec.flat_map(|spec| warnings::of_spec(spec, &Path::new("spec")))
        .collect()
}

/// Drops from the spec of a job or of a job template what it cannot say, unless the stored one says it.
pub(super) fn prepare(new: &mut JobSpec, old: Option<&JobSpec>) {
    prepare_template(&mut new.template, old.map(|old| &old.template));
    alpha::drop_of_job(new, old);
}

/// Checks a job that is new, and has labels with a domain in their names, or takes the place of another. That one is told
/// twice of its spec, which upstream has checked once more among what changes.
fn validate<'a>(job: &Job, old: Option<&'a Job>) -> ErrorList {
    let path = Path::new("spec");
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    let stored = old.and_then(|old| old.spec.as_ref());
    let of = |spec: &'a JobSpec| Before::of(&spec.template, spec.selector.as_ref());
    let before = stored.map(of).unwrap_or_default();
    let mut of_spec = spec::validate(spec, before, &path);
    of_spec.extend(selector::validate(spec, before.values(), &path));
    let prefixed = old.is_none_or(selector::has_prefixed_labels);
    let mut errors = selector::generated(job, spec, prefixed, &path);
    errors.extend_from_slice(&of_spec);
    errors.extend(host_names(job, spec));
    if old.is_some() {
        errors.append(&mut of_spec);
    }
    errors
}

/// The pods of an indexed job are called by their index: the last has the longest name.
fn host_names(job: &Job, spec: &JobSpec) -> ErrorList {
    let completions = spec.completions.filter(|completions| *completions > 0);
    let (Some("Indexed"), Some(completions)) = (spec.completion_mode.as_deref(), completions)
    else {
        return ErrorList::new();
    };
    let name = text(&job.metadata.name);
    let last = format!("{name}-{}", completions - 1);
    if names::dns_label(&last, false).is_empty() {
        return ErrorList::new();
    }
    vec![field::invalid(
        Path::new("metadata").child("name"),
        name,
        format!("will not able to create pod with invalid DNS label: {last}"),
    )]
}

//! Validation of the specs of jobs and of job templates.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Affinity, Container, PodSpec},
};
use serde::Serialize;

use super::status::is_true;
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        batch::{failure_policy, success_policy},
        checks::{IMMUTABLE, immutable, list, non_negative, same, supported, text},
        core::pod::{Before, changed_template},
        difference,
    },
    names,
};

/// The most pods at once, and the most failed indexes, of an indexed job: its status lists the indexes.
const MAX_LISTED: i32 = 100_000;
/// With more completions than [`MAX_LISTED`] and a limit for each index, both are to be no more than this.
const MAX_OF_MANY: i32 = 10_000;
/// The longest name of what takes care of a job instead of the job controller, in bytes.
const MAX_MANAGER: usize = 63;

const NEEDS_INDEXES: &str = "requires indexed completion mode";

/// What holds for the spec of a job and of a job template, whose pods may take the place of those of another template.
pub(in crate::kinds::batch) fn validate(spec: &JobSpec, old: Before<'_>, path: &Path) -> ErrorList {
    let mut errors = counts(spec, path);
    if let Some(manager) = &spec.managed_by {
        errors.extend(managed_by(manager, &path.child("managedBy")));
    }
    errors.extend(completion_mode(spec, path));
    if let Some(policy) = &spec.pod_failure_policy {
        let path = path.child("podFailurePolicy");
        errors.extend(failure_policy::validate(policy, spec, &path));
    }
    if let Some(policy) = &spec.success_policy {
        let path = path.child("successPolicy");
        errors.extend(success_policy::validate(policy, spec, &path));
    }
    errors.extend(pod_replacement_policy(spec, path));
    let at = path.child("template");
    errors.extend(changed_template(&spec.template, old, &at));
    errors.extend(restart_policy(spec, path));
    errors
}

fn counts(spec: &JobSpec, path: &Path) -> ErrorList {
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
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.push(field::required(
            path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        ));
    }
    errors
}

/// A path with a domain before it.
fn managed_by(name: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    match name.split_once('/') {
        _ if name.is_empty() => errors.push(field::required(path.clone(), "")),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            let wrong = names::dns_subdomain(domain, false).into_iter();
            errors.extend(wrong.map(|text| field::invalid(path.clone(), domain, text)));
            if !rest.bytes().all(is_of_paths) {
                let text = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                errors.push(field::invalid(path.clone(), rest, text));
            }
        }
        _ => errors.push(field::invalid(
            path.clone(),
            name,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        )),
    }
    if name.len() > MAX_MANAGER {
        errors.push(field::too_long(path.clone(), MAX_MANAGER));
    }
    errors
}

fn is_of_paths(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)
}

fn completion_mode(spec: &JobSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(mode) = &spec.completion_mode {
        let at = path.child("completionMode");
        errors.extend(supported(mode, &["NonIndexed", "Indexed"], at));
    }
    match spec.completion_mode.as_deref() {
        Some("Indexed") => errors.extend(indexed(spec, path)),
        None | Some("NonIndexed") => {
            for (value, name) in [
                (spec.backoff_limit_per_index, "backoffLimitPerIndex"),
                (spec.max_failed_indexes, "maxFailedIndexes"),
            ] {
                if let Some(value) = value {
                    errors.push(field::invalid(path.child(name), value, NEEDS_INDEXES));
                }
            }
        }
        Some(_) => {}
    }
    errors
}

/// How much an indexed job may ask for.
fn indexed(spec: &JobSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (completions, parallelism) = (spec.completions, spec.parallelism);
    let (at_parallelism, at_failed) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    let above = |value: Option<i32>, most: i32| value.filter(|value| *value > most);
    if completions.is_none() {
        let text = "when completion mode is Indexed";
        errors.push(field::required(path.child("completions"), text));
    }
    if let Some(number) = above(parallelism, MAX_LISTED) {
        let text =
            format!("must be less than or equal to {MAX_LISTED} when completion mode is Indexed");
        errors.push(field::invalid(at_parallelism.clone(), number, text));
    }
    if let Some(number) = above(spec.max_failed_indexes, completions.unwrap_or(i32::MAX)) {
        let text = "must be less than or equal to completions";
        errors.push(field::invalid(at_failed.clone(), number, text));
    }
    if let Some(number) = above(spec.max_failed_indexes, MAX_LISTED) {
        let text = format!("must be less than or equal to {MAX_LISTED}");
        errors.push(field::invalid(at_failed.clone(), number, text));
    }
    if above(completions, MAX_LISTED).is_none() || spec.backoff_limit_per_index.is_none() {
        return errors;
    }
    if spec.max_failed_indexes.is_none() {
        let text = format!("must be specified when completions is above {MAX_LISTED}");
        errors.push(field::required(at_failed.clone(), text));
    }
    for (value, at) in [
        (parallelism, at_parallelism),
        (spec.max_failed_indexes, at_failed),
    ] {
        if let Some(number) = above(value, MAX_OF_MANY) {
            let text = format!(
                "must be less than or equal to {MAX_OF_MANY} when completions are above {MAX_LISTED} and used with backoff limit per index"
            );
            errors.push(field::invalid(at, number, text));
        }
    }
    errors
}

fn pod_replacement_policy(spec: &JobSpec, path: &Path) -> ErrorList {
    let policies: &[&str] = match spec.pod_failure_policy {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    let policy = spec.pod_replacement_policy.as_ref();
    policy.map_or_else(ErrorList::new, |policy| {
        supported(policy, policies, path.child("podReplacementPolicy"))
    })
}

fn restart_policy(spec: &JobSpec, path: &Path) -> ErrorList {
    let pod = spec.template.spec.as_ref();
    let policy = pod.map_or("", |pod| text(&pod.restart_policy));
    let at = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "" | "Always" => vec![field::required(
            at,
            "valid values: \"OnFailure\", \"Never\"",
        )],
        "OnFailure" if spec.pod_failure_policy.is_some() => vec![field::invalid(
            at,
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        )],
        other => supported(other, &["OnFailure", "Never"], at),
    }
}

/// What may not change, or not like that.
pub(super) fn changes(new: &JobSpec, old: &JobSpec, old_job: &Job, path: &Path) -> ErrorList {
    let mut errors = completions(new, old, path);
    errors.extend(difference::immutable(
        "LabelSelector",
        &new.selector,
        &old.selector,
        path.child("selector"),
    ));
    let at = path.child("template");
    errors.extend(match is_halted(old, old_job) {
        true => {
            let (new, old) = (&new.template.spec, &old.template.spec);
            immutable(new, &with_what_may_change(old, new), at.child("spec"))
        }
        false => difference::immutable("PodTemplateSpec", &new.template, &old.template, at),
    });
    errors.extend(immutable(
        &new.completion_mode,
        &old.completion_mode,
        path.child("completionMode"),
    ));
    errors.extend(immutable_policy(
        &new.pod_failure_policy,
        &old.pod_failure_policy,
        failure_policy::spelled,
        path.child("podFailurePolicy"),
    ));
    errors.extend(immutable(
        &new.backoff_limit_per_index,
        &old.backoff_limit_per_index,
        path.child("backoffLimitPerIndex"),
    ));
    errors.extend(immutable(
        &new.managed_by,
        &old.managed_by,
        path.child("managedBy"),
    ));
    errors.extend(immutable_policy(
        &new.success_policy,
        &old.success_policy,
        success_policy::spelled,
        path.child("successPolicy"),
    ));
    errors
}

/// A policy does not change. The new one is shown as upstream's internal type is told.
fn immutable_policy<T: PartialEq + Serialize>(
    new: &Option<T>,
    old: &Option<T>,
    spelled: impl Fn(&T) -> String,
    path: Path,
) -> ErrorList {
    if same(new, old) {
        return ErrorList::new();
    }
    let shown = new.as_ref().map_or_else(|| "null".to_owned(), spelled);
    vec![field::invalid_spelled(path, &shown, IMMUTABLE)]
}

/// An indexed job is scaled by both numbers together (KEP-3715).
fn completions(new: &JobSpec, old: &JobSpec, path: &Path) -> ErrorList {
    let at = path.child("completions");
    if text(&new.completion_mode) != "Indexed" {
        return immutable(&new.completions, &old.completions, at);
    }
    match new.completions {
        Some(number)
            if new.completions != old.completions && new.completions != new.parallelism =>
        {
            let text = "can only be modified in tandem with spec.parallelism";
            vec![field::invalid(at, number, text)]
        }
        _ => ErrorList::new(),
    }
}

/// Whether a job is suspended and no pods of its template are there any more (KEP-5440).
fn is_halted(spec: &JobSpec, job: &Job) -> bool {
    let status = job.status.clone().unwrap_or_default();
    let safely = status.start_time.is_none() || is_true(&status, "Suspended");
    spec.suspend == Some(true) && status.active.unwrap_or_default() == 0 && safely
}

/// The old spec of the pods with what a job without any may still change: where they may run, and what they ask for.
fn with_what_may_change(old: &Option<PodSpec>, new: &Option<PodSpec>) -> Option<PodSpec> {
    let mut out = old.clone();
    if let (Some(out), Some(new)) = (&mut out, new) {
        out.node_selector.clone_from(&new.node_selector);
        out.tolerations.clone_from(&new.tolerations);
        out.scheduling_gates.clone_from(&new.scheduling_gates);
        take_node_affinity(out, new);
        take_resources(&mut out.containers, &new.containers);
        let init_containers = out.init_containers.iter_mut().flatten();
        take_resources(init_containers, list(&new.init_containers));
    }
    out
}

fn take_node_affinity(old: &mut PodSpec, new: &PodSpec) {
    match &new.affinity {
        Some(new) => {
            let old = old.affinity.get_or_insert_default();
            old.node_affinity.clone_from(&new.node_affinity);
        }
        None => {
            if let Some(old) = &mut old.affinity {
                old.node_affinity = None;
            }
            old.affinity = old
                .affinity
                .take()
                .filter(|old| *old != Affinity::default());
        }
    }
}

fn take_resources<'a>(old: impl IntoIterator<Item = &'a mut Container>, new: &[Container]) {
    for (old, new) in old.into_iter().zip(new) {
        old.resources.clone_from(&new.resources);
    }
}

//! What the status of a job may say, and how it may change.
//!
//! What takes care of a job may be anybody's. What it says is checked where it changes: what was said before stays as it is,
//! and may for a while not fit a spec that has changed.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        batch::indexes,
        checks::{IMMUTABLE, json, list, non_negative, same, text},
    },
};

/// Whether a status has a condition that is true.
pub(super) fn is_true(status: &JobStatus, condition: &str) -> bool {
    let mut conditions = list(&status.conditions).iter();
    conditions.any(|found| found.type_ == condition && found.status == "True")
}

/// Whether a status says that a job is no longer suspended. One that says nothing of it any more does not.
fn is_resumed(new: &JobStatus, old: &JobStatus) -> bool {
    let mut conditions = list(&new.conditions).iter();
    let runs = conditions.any(|found| found.type_ == "Suspended" && found.status == "False");
    runs && is_true(old, "Suspended")
}

/// The conditions of a status that say how a job stands.
#[derive(Clone, Copy)]
struct Standing {
    complete: bool,
    failed: bool,
    about_to_fail: bool,
    succeeded: bool,
}

impl Standing {
    fn of(status: &JobStatus) -> Standing {
        Standing {
            complete: is_true(status, "Complete"),
            failed: is_true(status, "Failed"),
            about_to_fail: is_true(status, "FailureTarget"),
            succeeded: is_true(status, "SuccessCriteriaMet"),
        }
    }

    fn finished(self) -> bool {
        self.complete || self.failed
    }
}

/// Checks a new status of a job.
pub(super) fn validate_update(new: &Job, old: &Job) -> ErrorList {
    let empty = JobSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&empty);
    let (new, old) = (
        new.status.clone().unwrap_or_default(),
        old.status.clone().unwrap_or_default(),
    );
    let path = Path::new("status");
    let mut errors = counts(&new, &path);
    if let Some(uncounted) = &new.uncounted_terminated_pods {
        let path = path.child("uncountedTerminatedPods");
        errors.extend(uncounted_pods(uncounted, &path));
    }
    errors.extend(completion(&new, &old, &path));
    errors.extend(end(&new, &old, spec, &path));
    errors.extend(index_lists(&new, &old, spec, &path));
    errors.extend(pods(&new, &old, &path));
    errors.extend(success(&new, spec, &path));
    errors.extend(changes(&new, &old, spec, &path));
    errors
}

fn counts(status: &JobStatus, path: &Path) -> ErrorList {
    let counts = [
        (status.active, "active"),
        (status.succeeded, "succeeded"),
        (status.failed, "failed"),
        (status.ready, "ready"),
        (status.terminating, "terminating"),
    ];
    let counts = counts.into_iter();
    counts
        .flat_map(|(count, name)| non_negative(count.unwrap_or_default(), path.child(name)))
        .collect()
}

fn uncounted_pods(uncounted: &UncountedTerminatedPods, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
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

/// A complete job says when it came to be so, and no other does.
fn completion(new: &JobStatus, old: &JobStatus, path: &Path) -> ErrorList {
    let (is, was) = (Standing::of(new), Standing::of(old));
    let completes = is.complete != was.complete;
    let at = path.child("conditions");
    let mut errors = ErrorList::new();
    if (completes || is.failed != was.failed) && is.complete && is.failed {
        let text = "cannot set Complete=True and Failed=true conditions";
        errors.push(field::invalid_unshown(at.clone(), text));
    }
    if (completes || is.about_to_fail != was.about_to_fail) && is.complete && is.about_to_fail {
        let text = "cannot set Complete=True and FailureTarget=true conditions";
        errors.push(field::invalid_unshown(at, text));
    }
    let at = path.child("completionTime");
    let time_changes = new.completion_time != old.completion_time;
    if completes || time_changes {
        match &new.completion_time {
            Some(time) if !is.complete => {
                let text = "cannot set completionTime when there is no Complete=True condition";
                errors.push(field::invalid(at.clone(), json(time), text));
            }
            None if is.complete => {
                let text = "completionTime is required for Complete jobs";
                errors.push(field::required(at.clone(), text));
            }
            _ => {}
        }
    }
    if let (Some(start), Some(end)) = (&new.start_time, &new.completion_time)
        && (time_changes || new.start_time != old.start_time)
        && end.0 < start.0
    {
        let text = "must be equal to or after `startTime`";
        errors.push(field::invalid(at, json(end), text));
    }
    errors
}

/// A job that comes to an end was about to, has begun, and has nothing left to do.
fn end(new: &JobStatus, old: &JobStatus, spec: &JobSpec, path: &Path) -> ErrorList {
    let (is, was) = (Standing::of(new), Standing::of(old));
    let ends = is.finished() != was.finished();
    let at = path.child("conditions");
    let mut errors = ErrorList::new();
    // Upstream looks at the indexes that failed here, not at whether the job was about to.
    let fails = is.failed != was.failed || new.failed_indexes != old.failed_indexes;
    if fails && is.failed && !is.about_to_fail {
        let text = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(field::invalid_unshown(at.clone(), text));
    }
    let completes = is.complete != was.complete || is.succeeded != was.succeeded;
    if completes && is.complete && !is.succeeded {
        let text =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(field::invalid_unshown(at, text));
    }
    if !is.finished() {
        return errors;
    }
    let active = new.active.unwrap_or_default();
    if (ends || active != old.active.unwrap_or_default()) && active > 0 {
        let text = "active>0 is invalid for finished job";
        errors.push(field::invalid(path.child("active"), active, text));
    }
    // A job that asks for nothing may end before it is ever resumed.
    let never_begins = spec.suspend == Some(true) && spec.completions == Some(0);
    let begins = ends || new.start_time != old.start_time;
    if begins && !never_begins && new.start_time.is_none() {
        let text = "startTime is required for finished job";
        errors.push(field::required(path.child("startTime"), text));
    }
    let changes = !same(
        &new.uncounted_terminated_pods,
        &old.uncounted_terminated_pods,
    );
    if let Some(pods) = &new.uncounted_terminated_pods
        && (ends || changes)
        && !(list(&pods.failed).is_empty() && list(&pods.succeeded).is_empty())
    {
        // As upstream's internal type is told.
        let (succeeded, failed) = (json(&pods.succeeded), json(&pods.failed));
        errors.push(field::invalid_spelled(
            path.child("uncountedTerminatedPods"),
            &format!(r#"{{"Succeeded":{succeeded},"Failed":{failed}}}"#),
            "must be empty for finished job",
        ));
    }
    errors
}

/// The lists of indexes are of indexes that the job has, and none is in both.
fn index_lists(new: &JobStatus, old: &JobStatus, spec: &JobSpec, path: &Path) -> ErrorList {
    let completed = text(&new.completed_indexes);
    let failed = new.failed_indexes.as_deref();
    let completed_changes = completed != text(&old.completed_indexes);
    let failed_changes = new.failed_indexes != old.failed_indexes;
    let (at_completed, at_failed) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let mut errors = ErrorList::new();
    if completed_changes
        && let Some(Err(why)) = spec.completions.map(|n| indexes::count(completed, n))
    {
        let why = format!("error parsing completedIndexes: {why}");
        errors.push(field::invalid(at_completed.clone(), completed, why));
    }
    let limited = spec.backoff_limit_per_index.is_some();
    if let (Some(failed), Some(completions)) = (failed, spec.completions)
        && failed_changes
        && limited
        && let Err(why) = indexes::count(failed, completions)
    {
        let why = format!("error parsing failedIndexes: {why}");
        errors.push(field::invalid(at_failed.clone(), failed, why));
    }
    if completed_changes && !completed.is_empty() && text(&spec.completion_mode) != "Indexed" {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(field::invalid(at_completed, completed, text));
    }
    if let Some(failed) = failed
        && failed_changes
        && !limited
    {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(field::invalid(at_failed.clone(), failed, text));
    }
    if let (Some(failed), Some(completions)) = (failed, spec.completions)
        && (failed_changes || completed_changes)
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        let text = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(field::invalid(at_failed, failed, text));
    }
    errors
}

/// Pods that go are gone when the job has finished, and only pods that are active are ready.
fn pods(new: &JobStatus, old: &JobStatus, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (is, was) = (Standing::of(new), Standing::of(old));
    if let Some(terminating) = new.terminating.filter(|number| *number > 0)
        && is.finished()
        && (!was.finished() || new.terminating != old.terminating)
    {
        let text = "terminating>0 is invalid for finished job";
        errors.push(field::invalid(path.child("terminating"), terminating, text));
    }
    let (active, before) = (
        new.active.unwrap_or_default(),
        old.active.unwrap_or_default(),
    );
    if let Some(ready) = new.ready.filter(|number| *number > active)
        && (new.ready != old.ready || active != before)
    {
        let text = "cannot set more ready pods than active";
        errors.push(field::invalid(path.child("ready"), ready, text));
    }
    errors
}

/// A job that has succeeded does not fail. These hold whether they change or not.
fn success(new: &JobStatus, spec: &JobSpec, path: &Path) -> ErrorList {
    let is = Standing::of(new);
    let rules = [
        (
            is.succeeded && is.failed,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            is.succeeded && is.about_to_fail,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            spec.success_policy.is_some() && is.complete && !is.succeeded,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ];
    let broken = rules.into_iter().filter(|(broken, _)| *broken);
    broken
        .map(|(_, text)| field::invalid_unshown(path.child("conditions"), text))
        .collect()
}

/// What has been said for good stays.
fn changes(new: &JobStatus, old: &JobStatus, spec: &JobSpec, path: &Path) -> ErrorList {
    let at = path.child("conditions");
    let mut errors = ErrorList::new();
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, condition) && !is_true(new, condition) {
            let text = format!("cannot disable the terminal {condition}=True condition");
            errors.push(field::invalid_unshown(at.clone(), text));
        }
    }
    // An indexed job that can be scaled down forgets the indexes that it has no more.
    let forgets = text(&spec.completion_mode) == "Indexed" && spec.completions == spec.parallelism;
    for (new, old, name, counts) in [
        (new.failed, old.failed, "failed", true),
        (new.succeeded, old.succeeded, "succeeded", !forgets),
    ] {
        let (new, old) = (new.unwrap_or_default(), old.unwrap_or_default());
        if counts && new < old {
            let text = format!("cannot decrease the {name} counter");
            errors.push(field::invalid(path.child(name), new, text));
        }
    }
    if let (Some(new), Some(old)) = (&new.completion_time, &old.completion_time)
        && new != old
    {
        errors.push(field::invalid(
            path.child("completionTime"),
            json(new),
            IMMUTABLE,
        ));
    }
    if old.start_time.is_some()
        && new.start_time != old.start_time
        && spec.suspend != Some(true)
        && !is_resumed(new, old)
    {
        let text = "field is immutable for unsuspended job once set";
        let at = path.child("startTime");
        errors.push(field::invalid(at, json(&new.start_time), text));
    }
    let (is, was) = (Standing::of(new), Standing::of(old));
    if was.succeeded && !is.succeeded {
        let text = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(field::invalid_unshown(at.clone(), text));
    }
    if was.complete && !was.succeeded && is.succeeded {
        let text =
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(field::invalid_unshown(at, text));
    }
    errors
}

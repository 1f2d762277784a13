//! The rules of CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, JobSpec};

use super::{job, schedule};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        apps::workload::default_template,
        checks::{fill, json, non_negative, one_of, same, slot, slot_mut, text},
        core::pod::template_warnings,
        typed::KindRules,
    },
};

/// A job's name is the CronJob's with eleven characters more, and has 63 at most.
const MAX_NAME: usize = 52;

/// The rules of CronJobs.
pub(crate) struct CronJobRules;

impl KindRules for CronJobRules {
    type Kind = CronJob;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;

    fn default(&self, cron_job: &mut CronJob) {
        let Some(spec): Option<&mut CronJobSpec> = slot_mut(&mut cron_job.spec) else {
            return;
        };
        fill(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        default_template(&mut spec.job_template.spec.get_or_insert_default().template);
    }

    fn spec_changed(&self, new: &CronJob, old: &CronJob) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, cron_job: &mut CronJob) {
        cron_job.status = Some(CronJobStatus::default());
    }

    fn validate(&self, cron_job: &CronJob) -> ErrorList {
        let mut errors = validate_spec(cron_job, true);
        let name = text(&cron_job.metadata.name);
        if name.len() > MAX_NAME {
            errors.push(field::invalid(
                Path::new("metadata").child("name"),
                name,
                format!("must be no more than {MAX_NAME} characters"),
            ));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut CronJob, old: &CronJob) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &CronJob, old: &CronJob) -> ErrorList {
        let schedule = |cron_job: &CronJob| {
            let spec: Option<&CronJobSpec> = slot(&cron_job.spec);
            spec.map(|spec| (spec.schedule.clone(), spec.time_zone.clone()))
        };
        validate_spec(new, schedule(new) != schedule(old))
    }

    fn prepare_for_status_update(&self, new: &mut CronJob, old: &CronJob) {
        new.spec = old.spec.clone();
    }

    fn warnings(&self, cron_job: &CronJob) -> Vec<String> {
        let path = Path::new("spec")
            .child("jobTemplate")
            .child("spec")
            .child("template");
        let spec: Option<&CronJobSpec> = slot(&cron_job.spec);
        let job = spec.and_then(|spec| spec.job_template.spec.as_ref());
        job.map(|job| template_warnings(&job.template, &path))
            .unwrap_or_default()
    }
}

/// Whether there is such a time zone. A machine that knows none can't say.
fn is_known(zone: &str) -> bool {
    let zones = jiff::tz::db();
    zones.get(zone).is_ok() || zones.is_definitively_empty()
}

fn validate_spec(cron_job: &CronJob, schedule_is_new: bool) -> ErrorList {
    let path = Path::new("spec");
    let spec: Option<&CronJobSpec> = slot(&cron_job.spec);
    let empty = CronJobSpec::default();
    let spec = spec.unwrap_or(&empty);
    let mut errors = ErrorList::new();
    let at = path.child("schedule");
    if spec.schedule.is_empty() {
        errors.push(field::required(at, ""));
    } else if schedule_is_new {
        if let Err(text) = schedule::check(&spec.schedule) {
            errors.push(field::invalid(at.clone(), spec.schedule.as_str(), text));
        }
        if spec.schedule.contains("TZ") {
            let detail = if spec.time_zone.is_some() {
                "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            } else {
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            };
            errors.push(field::invalid(at, spec.schedule.as_str(), detail));
        }
    }
    errors.extend(non_negative(
        spec.starting_deadline_seconds.unwrap_or_default(),
        path.child("startingDeadlineSeconds"),
    ));
    if let Some(zone) = &spec.time_zone {
        let at = path.child("timeZone");
        if zone.is_empty() {
            errors.push(field::invalid(
                at,
                zone.as_str(),
                "timeZone must be nil or non-empty string",
            ));
        } else if zone.eq_ignore_ascii_case("Local") {
            errors.push(field::invalid(
                at,
                zone.as_str(),
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ));
        } else if !is_known(zone) {
            let text = format!("unknown time zone {zone}");
            errors.push(field::invalid(at, zone.as_str(), text));
        }
    }
    errors.extend(one_of(
        text(&spec.concurrency_policy),
        &["Allow", "Forbid", "Replace"],
        path.child("concurrencyPolicy"),
    ));
    let at = path.child("jobTemplate").child("spec");
    let no_job = JobSpec::default();
    let job = spec.job_template.spec.as_ref().unwrap_or(&no_job);
    errors.extend(job::validate_spec(job, &at));
    if let Some(selector) = &job.selector {
        errors.push(field::invalid(
            at.child("selector"),
            json(selector),
            "`selector` will be auto-generated",
        ));
    }
    if job.manual_selector == Some(true) {
        errors.push(field::not_supported(
            at.child("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
    errors.extend(non_negative(
        spec.successful_jobs_history_limit.unwrap_or_default(),
        path.child("successfulJobsHistoryLimit"),
    ));
    errors.extend(non_negative(
        spec.failed_jobs_history_limit.unwrap_or_default(),
        path.child("failedJobsHistoryLimit"),
    ));
    errors
}

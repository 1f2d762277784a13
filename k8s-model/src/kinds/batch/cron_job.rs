//! The rules of CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, JobSpec};

use super::{failure_policy, job, schedule, time_zone};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        apps::workload::{default_template, name_advice, of_change},
        checks::{fill, non_negative, one_of, same, slot, slot_mut, text},
        declared::Declared,
        difference::spelled_selector,
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
        let job = spec.job_template.spec.get_or_insert_default();
        if let Some(policy) = &mut job.pod_failure_policy {
            failure_policy::default(policy);
        }
        default_template(&mut job.template);
    }

    fn spec_changed(&self, new: &CronJob, old: &CronJob) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, cron_job: &mut CronJob) {
        prepare(cron_job, None);
        cron_job.status = Some(CronJobStatus::default());
    }

    fn validate(&self, cron_job: &CronJob) -> ErrorList {
        let mut errors = validate_spec(cron_job, None);
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

    fn declared(&self, new: &CronJob, old: Option<&CronJob>) -> ErrorList {
        fn schedule(cron_job: &CronJob) -> &str {
            let spec: Option<&CronJobSpec> = slot(&cron_job.spec);
            spec.map_or("", |spec| &spec.schedule)
        }
        let (now, before) = (schedule(new), old.map(schedule));
        let path = Path::new("spec").child("schedule");
        let schedule = Declared::of(&now, before.as_ref(), path);
        schedule.required(|schedule| schedule.is_empty()).found()
    }

    fn prepare_for_update(&self, new: &mut CronJob, old: &CronJob) {
        prepare(new, Some(old));
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &CronJob, old: &CronJob) -> ErrorList {
        validate_spec(new, slot(&old.spec))
    }

    fn prepare_for_status_update(&self, new: &mut CronJob, old: &CronJob) {
        new.spec = old.spec.clone();
    }

    fn warnings(&self, cron_job: &CronJob) -> Vec<String> {
        let mut advice = Vec::from_iter(name_advice(&cron_job.metadata.name));
        advice.extend(job_advice(cron_job));
        advice
    }

    fn update_warnings(&self, new: &CronJob, old: &CronJob) -> Vec<String> {
        let mut advice = of_change(new, old, job_advice);
        let spec: Option<&CronJobSpec> = slot(&new.spec);
        if spec.is_some_and(has_zone) {
            // No new one is taken with it. Upstream names the field so.
            advice.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        advice
    }
}

fn job_advice(cron_job: &CronJob) -> Vec<String> {
    let path = Path::new("spec").child("jobTemplate").child("spec");
    let spec: Option<&CronJobSpec> = slot(&cron_job.spec);
    let job = spec.and_then(|spec| spec.job_template.spec.as_ref());
    job.map(|job| job::warnings::of_spec(job, &path))
        .unwrap_or_default()
}

/// Whether the schedule itself names a time zone.
fn has_zone(spec: &CronJobSpec) -> bool {
    spec.schedule.contains("TZ")
}

/// Whether a text can be the name of a time zone, each part that of a file.
fn is_named_as_one(zone: &str) -> bool {
    zone.split('/').all(|part| {
        let of_names = |c: u8| c.is_ascii_alphanumeric() || b".-_+".contains(&c);
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(of_names)
    })
}

/// A time zone that is new is one by name, and not that of some machine. `Local` is found, other spellings of it are not.
fn check_zone(zone: &str, path: &Path) -> ErrorList {
    let fault = |text: String| field::invalid(path.clone(), zone, text);
    if zone.is_empty() {
        let text = "timeZone must be nil or non-empty string";
        return vec![fault(text.to_owned())];
    }
    if !is_named_as_one(zone) {
        return vec![fault(time_zone::unknown(zone))];
    }
    let mut errors = ErrorList::new();
    if zone.eq_ignore_ascii_case("Local") {
        let text =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(fault(text.to_owned()));
    }
    errors.extend(time_zone::load(zone).err().map(fault));
    errors
}

/// A schedule that had a time zone in it may go on having one.
fn schedule(spec: &CronJobSpec, old: Option<&CronJobSpec>, path: Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if spec.schedule.is_empty() {
        return vec![field::required(path, "")];
    }
    if let Err(text) = schedule::check(&spec.schedule) {
        errors.push(field::invalid(path.clone(), spec.schedule.as_str(), text));
    }
    let detail = if !has_zone(spec) {
        return errors;
    } else if !old.is_some_and(has_zone) {
        "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
    } else if spec.time_zone.is_some() {
        "cannot use both timeZone field and TZ or CRON_TZ in schedule"
    } else {
        return errors;
    };
    errors.push(field::invalid(path, spec.schedule.as_str(), detail));
    errors
}

/// Drops from the template of jobs what it cannot say, unless the stored one says it.
fn prepare(new: &mut CronJob, old: Option<&CronJob>) {
    let new: Option<&mut CronJobSpec> = slot_mut(&mut new.spec);
    let old: Option<&CronJobSpec> = old.and_then(|old| slot(&old.spec));
    let old = old.and_then(|old| old.job_template.spec.as_ref());
    if let Some(new) = new.and_then(|new| new.job_template.spec.as_mut()) {
        job::prepare(new, old);
    }
}

fn validate_spec(cron_job: &CronJob, old: Option<&CronJobSpec>) -> ErrorList {
    let path = Path::new("spec");
    let spec: Option<&CronJobSpec> = slot(&cron_job.spec);
    let empty = CronJobSpec::default();
    let spec = spec.unwrap_or(&empty);
    let mut errors = schedule(spec, old, path.child("schedule"));
    errors.extend(non_negative(
        spec.starting_deadline_seconds.unwrap_or_default(),
        path.child("startingDeadlineSeconds"),
    ));
    if let Some(zone) = &spec.time_zone
        && old.is_none_or(|old| old.time_zone != spec.time_zone)
    {
        errors.extend(check_zone(zone, &path.child("timeZone")));
    }
    errors.extend(one_of(
        text(&spec.concurrency_policy),
        &["Allow", "Forbid", "Replace"],
        path.child("concurrencyPolicy"),
    ));
    let at = path.child("jobTemplate").child("spec");
    let no_job = JobSpec::default();
    let job = spec.job_template.spec.as_ref().unwrap_or(&no_job);
    let old_job = old.and_then(|old| old.job_template.spec.as_ref());
    let old_template = old_job.map(|job| &job.template);
    errors.extend(job::spec::validate(job, old_template.into(), &at));
    if let Some(selector) = &job.selector {
        errors.push(field::invalid_spelled(
            at.child("selector"),
            &spelled_selector(selector),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::checks::json;

    fn cron_job(patch: Value) -> CronJob {
        let mut value = json!({"metadata": {"name": "a"}, "spec": {"schedule": "* * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "x:1"}]}}}}}});
        json_patch::merge(&mut value, &json!({"spec": patch}));
        let mut cron_job = serde_json::from_value(value).unwrap();
        CronJobRules.default(&mut cron_job);
        cron_job
    }

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_job_does_about_pods_that_fail_is_defaulted_and_nothing_else_of_it() {
        let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]});
        let cron_job =
            cron_job(json!({"jobTemplate": {"spec": {"podFailurePolicy": {"rules": [rule]}}}}));
        assert_eq!(told(CronJobRules.validate(&cron_job)), [""; 0]);
        let job = &json(&cron_job)["spec"]["jobTemplate"]["spec"];
        let pattern = &job["podFailurePolicy"]["rules"][0]["onPodConditions"][0];
        assert_eq!(pattern["status"], "True");
        for name in ["completionMode", "manualSelector", "podReplacementPolicy"] {
            assert_eq!(job[name], Value::Null);
        }
    }

    #[test]
    fn limits_of_indexes_are_for_indexed_jobs() {
        let limited = |mode: Value| {
            cron_job(json!({"jobTemplate": {"spec": {
                "completionMode": mode, "completions": 2, "backoffLimitPerIndex": 1}}}))
        };
        assert_eq!(
            told(CronJobRules.validate(&limited("Indexed".into()))),
            [""; 0]
        );
        assert_eq!(
            told(CronJobRules.validate(&limited(Value::Null))),
            [
                "spec.jobTemplate.spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"
            ]
        );
    }

    #[test]
    fn a_template_may_go_on_with_what_is_forbidden_now() {
        let sysctls = json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]);
        let cron_job = cron_job(json!({"jobTemplate": {"spec": {"template": {"spec": {
            "hostNetwork": true, "securityContext": {"sysctls": sysctls}}}}}}));
        assert_eq!(CronJobRules.validate(&cron_job).len(), 1);
        let again = CronJobRules.validate_update(&cron_job, &cron_job);
        assert_eq!(told(again), [""; 0]);
    }

    #[test]
    fn a_schedule_that_had_a_time_zone_keeps_it() {
        let zoned = |schedule: &str| cron_job(json!({"schedule": schedule}));
        let (old, new) = (zoned("TZ=UTC 1 * * * *"), zoned("TZ=UTC 2 * * * *"));
        assert_eq!(told(CronJobRules.validate_update(&new, &old)), [""; 0]);
        assert_eq!(
            told(CronJobRules.validate_update(&new, &zoned("* * * * *"))),
            [
                r#"spec.schedule: Invalid value: "TZ=UTC 2 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#
            ]
        );
        assert_eq!(
            CronJobRules.update_warnings(&new, &new),
            [
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            ]
        );
        assert_eq!(CronJobRules.warnings(&new), [""; 0]);
        let both = cron_job(json!({"schedule": "TZ=UTC 2 * * * *", "timeZone": "Etc/UTC"}));
        assert_eq!(
            told(CronJobRules.validate_update(&both, &old)),
            [
                r#"spec.schedule: Invalid value: "TZ=UTC 2 * * * *": cannot use both timeZone field and TZ or CRON_TZ in schedule"#
            ]
        );
    }

    #[test]
    fn many_indexes_at_once_are_advised_against() {
        let many =
            json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001});
        let mut new = cron_job(json!({"jobTemplate": {"spec": many}}));
        let told = CronJobRules.warnings(&new);
        assert!(
            told[0].starts_with("spec.jobTemplate.spec: In Indexed Jobs"),
            "{told:?}"
        );
        let old = new.clone();
        assert_eq!(CronJobRules.update_warnings(&new, &old), [""; 0]);
        new.metadata.generation = Some(1);
        assert_eq!(CronJobRules.update_warnings(&new, &old), told);
    }

    #[test]
    fn a_time_zone_that_is_new_is_known() {
        let zoned = |zone: &str| cron_job(json!({"timeZone": zone}));
        assert_eq!(
            told(CronJobRules.validate(&zoned("Europe/Vienna"))),
            [""; 0]
        );
        for zone in ["../Vienna", "-a", "Europe/", "Name_of_a_place_too_long"] {
            let text =
                format!(r#"spec.timeZone: Invalid value: "{zone}": unknown time zone {zone}"#);
            assert_eq!(told(CronJobRules.validate(&zoned(zone))), [text]);
            let same = CronJobRules.validate_update(&zoned(zone), &zoned(zone));
            assert_eq!(told(same), [""; 0]);
        }
        let explicit =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        let check = |zone: &str, texts: &[&str]| {
            let found = told(CronJobRules.validate(&zoned(zone)));
            let texts = texts.iter();
            let texts = texts.map(|text| format!("spec.timeZone: Invalid value: {zone:?}: {text}"));
            assert_eq!(found, Vec::from_iter(texts));
        };
        check("", &["timeZone must be nil or non-empty string"]);
        check("Local", &[explicit]);
        check("a..b", &["time: invalid location name"]);
        // Not every machine knows which zones there are.
        if !jiff::tz::db().is_definitively_empty() {
            check("LOCAL", &[explicit, "unknown time zone LOCAL"]);
            check("europe/vienna", &["unknown time zone europe/vienna"]);
        }
    }

    #[test]
    fn a_new_name_that_is_no_host_name_is_warned_of() {
        let mut cron_job = cron_job(json!({}));
        assert_eq!(CronJobRules.warnings(&cron_job), [""; 0]);
        cron_job.metadata.name = Some("a.b".to_owned());
        assert_eq!(CronJobRules.warnings(&cron_job).len(), 1);
        assert_eq!(CronJobRules.update_warnings(&cron_job, &cron_job), [""; 0]);
    }
}

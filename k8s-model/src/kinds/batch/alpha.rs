//! Fields of features that are off in Kubernetes 1.37: nobody sets them, but where they were set they stay.

use k8s_openapi::{k8s_if_ge_1_37, k8s_if_le_1_36};

k8s_if_le_1_36! {
    use k8s_openapi::api::batch::v1::JobSpec;

    pub(super) fn drop_of_job(_new: &mut JobSpec, _old: Option<&JobSpec>) {}
}

k8s_if_ge_1_37! {
    use k8s_openapi::api::batch::v1::JobSpec;

    /// Drops from the spec of a job and of a job template how its pods are scheduled together (WorkloadWithJob).
    pub(super) fn drop_of_job(new: &mut JobSpec, old: Option<&JobSpec>) {
        if old.is_none_or(|old| old.scheduling.is_none()) {
            new.scheduling = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::{CronJob, Job};
    use serde_json::{Value, json};

    use super::super::{cron_job::CronJobRules, job::JobRules};
    use crate::kinds::typed::KindRules;

    #[test]
    fn what_is_not_in_use_yet_is_dropped_from_jobs() {
        let job = |scheduling: Value| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u"},
                "spec": {"scheduling": scheduling, "template": {}}}))
            .unwrap()
        };
        let (full, plain) = (job(json!({})), job(Value::Null));
        let mut created = [full.clone(), plain.clone()];
        created
            .iter_mut()
            .for_each(|job| JobRules.prepare_for_create(job));
        assert_eq!(created[0], created[1]);
        let updated = |old: &Job| {
            let mut new = full.clone();
            JobRules.prepare_for_update(&mut new, old);
            new
        };
        assert_eq!(updated(&plain), plain);
        assert_eq!(updated(&full), full);
    }

    #[test]
    fn what_is_not_in_use_yet_is_dropped_from_cron_jobs() {
        let cron_job = |scheduling: Value| -> CronJob {
            serde_json::from_value(
                json!({"metadata": {"name": "a"}, "spec": {"schedule": "* * * * *",
                "jobTemplate": {"spec": {"scheduling": scheduling, "template": {}}}}}),
            )
            .unwrap()
        };
        let (full, plain) = (cron_job(json!({})), cron_job(Value::Null));
        let mut new = full.clone();
        CronJobRules.prepare_for_create(&mut new);
        assert_eq!(new.spec, plain.spec);
        let updated = |old: &CronJob| {
            let mut new = full.clone();
            CronJobRules.prepare_for_update(&mut new, old);
            new
        };
        assert_eq!(updated(&plain), plain);
        assert_eq!(updated(&full), full);
    }
}

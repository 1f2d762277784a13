//! Jobs that are over go after as long as they say (`ttlSecondsAfterFinished`).
//!
//! Mirrors upstream's `pkg/controller/ttlafterfinished`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};

use crate::{
    Error,
    common::{compat, context::Context},
    error::unless_gone,
    runtime::{
        Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue, since,
    },
};

/// The controller's name, and that of its identity.
pub(crate) const NAME: &str = "ttl-after-finished-controller";

pub(crate) struct FinishedJobs {
    client: Client,
    jobs: Informer<Job>,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<FinishedJobs> {
    let jobs = context.informers.informer::<Job>();
    let queue = WorkQueue::new();
    let (adds, clock) = (queue.clone(), context.clock);
    jobs.add_handler(move |change| {
        let job = change.object();
        if !matches!(change, Change::Deleted(_)) && left(job, clock.now()).is_some() {
            adds.add(ObjectKey::of(&job.metadata));
        }
    });
    let ready = jobs.synced();
    let reconciler = FinishedJobs {
        client: context.client.clone(),
        jobs,
        clock,
    };
    Controller::new(NAME, reconciler, queue).wait_for(ready)
}

/// How much longer the job stays; `None` for one that is not over, has no such limit, or goes already.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let limit = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let limit = Duration::from_secs(limit.max(0).unsigned_abs().into());
    let conditions = job.status.as_ref()?.conditions.iter().flatten();
    let mut over = conditions.filter(|condition| {
        matches!(compat::text(&condition.type_), "Complete" | "Failed")
            && compat::text(&condition.status) == "True"
    });
    let finished = over.next()?.last_transition_time.as_ref()?.0;
    // A job that ends in the future, by another machine's clock, stays as much longer.
    Some(limit.saturating_sub(since(now, finished)) + since(finished, now))
}

impl Reconciler for FinishedJobs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(known) = self.jobs.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        match left(&known, self.clock.now()) {
            None => return Ok(Requeue::OnChange),
            Some(Duration::ZERO) => {}
            Some(left) => return Ok(Requeue::After(left)),
        }
        // The limit may have been changed just now: what is gone stays gone, so the server is asked.
        let api = Api::<Job>::namespaced(self.client.clone(), key.namespace());
        let Some(fresh) = api.get_opt(key.name()).await? else {
            return Ok(Requeue::OnChange);
        };
        match left(&fresh, self.clock.now()) {
            None => return Ok(Requeue::OnChange),
            Some(Duration::ZERO) => {}
            Some(left) => return Ok(Requeue::After(left)),
        }
        let params = DeleteParams::foreground().preconditions(Preconditions {
            uid: fresh.metadata.uid,
            resource_version: None,
        });
        unless_gone(api.delete(key.name(), &params).await)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(limit: Option<i32>, condition: &str, status: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "n"},
            "spec": {"ttlSecondsAfterFinished": limit, "template": {}},
            "status": {"conditions": [
                {"type": condition, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn a_job_with_a_limit_goes_that_long_after_its_end() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let seconds = |job: &Job| left(job, now).map(|left| left.as_secs());
        assert_eq!(seconds(&job(Some(100), "Complete", "True")), Some(40));
        assert_eq!(seconds(&job(Some(60), "Failed", "True")), Some(0));
        assert_eq!(seconds(&job(Some(0), "Complete", "False")), None);
        assert_eq!(seconds(&job(Some(0), "Suspended", "True")), None);
        assert_eq!(seconds(&job(None, "Complete", "True")), None);
        let mut going = job(Some(0), "Complete", "True");
        going.metadata.deletion_timestamp =
            Some(crate::common::fixture::time("2026-01-01T00:00:30Z"));
        assert_eq!(seconds(&going), None);
        let early: Timestamp = "2025-12-31T23:59:50Z".parse().unwrap();
        let future = left(&job(Some(5), "Complete", "True"), early);
        assert_eq!(future, Some(Duration::from_secs(15)));
    }
}

//! Takes back the mark of a disruption that did not come: a pod that says it is about to be disrupted, and after two
//! minutes is not on its way out, stays.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    Error,
    common::{context::Context, owner, pod},
    error::unless_gone,
    runtime::{
        Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue, since,
    },
};

/// How long a pod may say that it is about to be disrupted.
const STALE: Duration = Duration::from_secs(120);
const CONDITION: &str = "DisruptionTarget";

pub(crate) struct StaleMarks {
    client: Client,
    pods: Informer<Pod>,
    clock: Clock,
}

/// The controller, its handlers in place. Keys are pods.
pub(crate) fn controller(context: &Context) -> Controller<StaleMarks> {
    let pods = context.informers.informer::<Pod>();
    let queue = WorkQueue::new();
    let (adds, clock) = (queue.clone(), context.clock);
    pods.add_handler(move |change| {
        if let Change::Added(pod) | Change::Updated { new: pod, .. } = change
            && let Some(left) = stale_in(pod, clock.now())
        {
            adds.add_after(ObjectKey::of(&pod.metadata), left);
        }
    });
    let ready = pods.synced();
    let reconciler = StaleMarks {
        client: context.client.clone(),
        pods,
        clock,
    };
    Controller::new("stale-pod-disruption", reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

/// In how long the pod's mark is stale; `None` for a pod without a mark, or whose mark stays. What the kubelet is to
/// end may take as long as it takes.
fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let mark = pod::condition(pod, CONDITION)?;
    let stays = pod.metadata.deletion_timestamp.is_some()
        || mark.status != "True"
        || mark.reason.as_deref() == Some("TerminationByKubelet")
        || pod::is_terminal(pod);
    if stays {
        return None;
    }
    let age = mark
        .last_transition_time
        .as_ref()
        .map_or(STALE, |time| since(now, time.0));
    Some(STALE.saturating_sub(age))
}

impl Reconciler for StaleMarks {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(pod) = self.pods.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        match stale_in(&pod, self.clock.now()) {
            None => return Ok(Requeue::OnChange),
            Some(Duration::ZERO) => {}
            Some(left) => return Ok(Requeue::After(left)),
        }
        let meta = &pod.metadata;
        let patch = json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": {"conditions": [{
                "type": CONDITION,
                "status": "False",
                "reason": null,
                "message": null,
                "lastTransitionTime": self.clock.time(),
            }]},
        });
        let api = Api::<Pod>::namespaced(self.client.clone(), key.namespace());
        let (name, by) = (owner::name(meta), PatchParams::default());
        unless_gone(api.patch_status(name, &by, &Patch::Strategic(patch)).await)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;

    use super::*;
    use crate::common::fixture;

    #[test]
    fn a_mark_is_stale_after_two_minutes_unless_the_pod_goes() {
        let now = fixture::time("2026-01-01T00:10:00Z").0;
        let mark = |since: &str, reason: &str| PodCondition {
            type_: CONDITION.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            last_transition_time: Some(fixture::time(since)),
            ..Default::default()
        };
        let with = |mark: PodCondition| {
            let mut pod = fixture::pod("n", "p").phase("Running").build();
            pod.status.get_or_insert_default().conditions = Some(vec![mark]);
            pod
        };
        let pod = with(mark("2026-01-01T00:09:00Z", "EvictionByEvictionAPI"));
        assert_eq!(stale_in(&pod, now), Some(Duration::from_secs(60)));
        let mut pod = with(mark("2026-01-01T00:01:00Z", "EvictionByEvictionAPI"));
        assert_eq!(stale_in(&pod, now), Some(Duration::ZERO));
        pod.metadata.deletion_timestamp = Some(fixture::time("2026-01-01T00:02:00Z"));
        assert_eq!(stale_in(&pod, now), None);
        let pod = with(mark("2026-01-01T00:01:00Z", "TerminationByKubelet"));
        assert_eq!(stale_in(&pod, now), None);
        assert_eq!(stale_in(&fixture::pod("n", "p").build(), now), None);
    }
}

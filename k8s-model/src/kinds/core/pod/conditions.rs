//! What a pod's status says of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::kinds::checks::list;

/// A pod's condition of that type.
pub fn condition<'a>(pod: &'a Pod, sort: &str) -> Option<&'a PodCondition> {
    list(&pod.status.as_ref()?.conditions)
        .iter()
        .find(|condition| condition.type_ == sort)
}

/// A pod's `Ready` condition.
pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready")
}

/// Whether a pod is ready to serve.
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// Whether a pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    let Some(ready) = ready_condition(pod).filter(|condition| condition.status == "True") else {
        return false;
    };
    min_ready_seconds == 0
        || ready.last_transition_time.as_ref().is_some_and(|since| {
            since.0.as_second().saturating_add(min_ready_seconds.into()) <= now.as_second()
        })
}

/// Whether a pod has ended for good: its phase is `Succeeded` or `Failed`.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

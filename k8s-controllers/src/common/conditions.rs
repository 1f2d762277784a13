//! Conditions of pods and nodes as strategic merge patches.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::owner;
use crate::{Error, error::unless_outdated};

/// Says on a pod that it is going because of a disruption, and that it has failed where nobody is
/// left to say so. A pod that is gone is left alone.
pub(crate) async fn mark_disrupted(
    api: &Api<Pod>,
    pod: &Pod,
    reason: &str,
    message: &str,
    failed: bool,
    now: Time,
) -> Result<(), Error> {
    let mut status = json!({"conditions": [{
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": now,
    }]});
    if failed {
        status["phase"] = json!("Failed");
    }
    patch_status(api, pod, status).await
}

/// Patches a pod's status, strategically, for this very pod and no namesake.
pub(crate) async fn patch_status(
    api: &Api<Pod>,
    pod: &Pod,
    status: serde_json::Value,
) -> Result<(), Error> {
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    unless_outdated(
        api.patch_status(
            owner::name(&pod.metadata),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await,
    )
}

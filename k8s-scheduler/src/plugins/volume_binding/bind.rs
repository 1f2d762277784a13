//! Writes what was decided, and waits until it is so.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::find::Decision;
use crate::{framework::Status, snapshot::PodInfo};

/// The time between looks at claims that are being bound.
const PERIOD: Duration = Duration::from_millis(250);
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

fn failed(error: &kube::Error) -> Status {
    Status::error(format!("binding volumes: {error}"))
}

/// Points volumes at their claims, and says for which node others are to be made.
pub(super) async fn write(client: &Client, decision: &Decision, node: &str) -> Result<(), Status> {
    let params = PatchParams::default();
    for (volume, claim) in &decision.bindings {
        let api: Api<PersistentVolume> = Api::all(client.clone());
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({
            // Whoever changed the volume meanwhile may have given it to another claim.
            "metadata": {"resourceVersion": volume.metadata.resource_version,
                "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "name": claim.metadata.name, "namespace": claim.metadata.namespace,
                "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version}},
        });
        api.patch(name, &params, &Patch::Merge(patch))
            .await
            .map_err(|e| failed(&e))?;
    }
    for claim in &decision.provisions {
        let api = claims(client, claim);
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let patch =
            json!({"metadata": {"uid": claim.metadata.uid, "annotations": {SELECTED_NODE: node}}});
        api.patch(name, &params, &Patch::Merge(patch))
            .await
            .map_err(|e| failed(&e))?;
    }
    Ok(())
}

fn claims(client: &Client, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or("default");
    Api::namespaced(client.clone(), namespace)
}

/// Waits until the claims are bound. The driver's `bind_timeout` is its limit.
pub(super) async fn wait(
    client: &Client,
    decision: &Decision,
    pod: &PodInfo,
    node: &str,
) -> Result<(), Status> {
    let bound = decision.bindings.iter().map(|(_, claim)| (claim, false));
    let made = decision.provisions.iter().map(|claim| (claim, true));
    for (claim, is_made) in bound.chain(made) {
        let api = claims(client, claim);
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        loop {
            let now = api.get(name).await.map_err(|e| failed(&e))?;
            if now.metadata.uid != claim.metadata.uid {
                let text = format!("persistentvolumeclaim \"{name}\" is not the one it was");
                return Err(Status::error(text));
            }
            let phase = now.status.as_ref().and_then(|s| s.phase.as_deref());
            if phase == Some("Bound") {
                break;
            }
            let annotations = now.metadata.annotations.as_ref();
            let selected = annotations.and_then(|a| a.get(SELECTED_NODE));
            if is_made && selected.map(String::as_str) != Some(node) {
                // Whoever makes volumes can't make it there.
                let text = format!("provisioning failed for PVC \"{name}\"");
                return Err(Status::error(text));
            }
            tracing::debug!(object.ref = pod.key(), claim = name, "waiting for a volume");
            tokio::time::sleep(PERIOD).await;
        }
    }
    Ok(())
}

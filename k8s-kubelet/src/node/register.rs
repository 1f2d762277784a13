//! The node makes itself known.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, NodeSpec};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tracing::{info, warn};

use super::{
    machine,
    status::{NodeConfig, node_status},
};
use crate::context::Context;

/// Creates the Node object, or brings its labels up to date. Tries until the API has answered.
pub(crate) async fn register(cx: &Arc<Context>, config: &NodeConfig) {
    let mut delay = Duration::from_millis(50);
    loop {
        match attempt(cx, config).await {
            Ok(node) => {
                info!(node = %cx.settings.node_name, "node registered");
                return cx.set_node(node);
            }
            Err(error) => warn!(%error, "node not registered"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(7));
    }
}

async fn attempt(cx: &Arc<Context>, config: &NodeConfig) -> Result<Node, kube::Error> {
    let api: Api<Node> = Api::all(cx.client.clone());
    let name = &cx.settings.node_name;
    let mut labels = config.labels.clone();
    for (key, value) in [
        ("beta.kubernetes.io/arch", machine::architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine::architecture()),
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let mut node = Node {
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            unschedulable: config.unschedulable.then_some(true),
            ..Default::default()
        }),
        status: Some(node_status(cx, config, None).await),
        ..Default::default()
    };
    node.metadata.name = Some(name.clone());
    node.metadata.labels = Some(labels.clone());
    let annotation = (
        "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
        "true".to_owned(),
    );
    node.metadata.annotations = Some([annotation].into());
    let made = match api.create(&PostParams::default(), &node).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({"metadata": {"labels": labels}});
            api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await?
        }
        Err(error) => return Err(error),
    };
    // An API server may drop the status on creation, and an old Node has an old one.
    let status = node_status(cx, config, made.status.as_ref()).await;
    let patch = json!({"status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
}

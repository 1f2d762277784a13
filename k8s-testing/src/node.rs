//! A simulated node: the real node agent on a runtime that runs nothing.

use std::{net::Ipv4Addr, sync::Arc};

use k8s_apiserver::auth::Identity;
use k8s_kubelet::Kubelet;
use k8s_openapi::api::core::v1::Node;
use k8s_runtime::{
    net::IpCidr,
    sim::{SimOptions, SimRuntime},
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{Error, builder::Commands, gate::Gate, kubelets::Kubelets};

/// The name of the node with that number, from 0.
pub(crate) fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// Makes a node; what is returned runs it until the token is cancelled.
pub(crate) async fn start(
    (gate, kubelets): (&Gate, &Kubelets),
    admin: Client,
    folder: &Arc<TempDir>,
    index: usize,
    commands: Option<Commands>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let name = name(index);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Node {
        name: name.clone(),
        source,
    };
    let third = u8::try_from(index).map_err(|e| failed(e.into()))?;
    let network = Ipv4Addr::new(10, 244, third, 0);
    let cidr = IpCidr::new(network.into(), 24).map_err(|e| failed(e.into()))?;
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"podCIDR": cidr.to_string(), "podCIDRs": [cidr.to_string()]},
    });
    let node: Node = serde_json::from_value(node).map_err(|e| failed(e.into()))?;
    match Api::<Node>::all(admin)
        .create(&PostParams::default(), &node)
        .await
    {
        // It came with the store.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        made => drop(made?),
    }
    let mut options = SimOptions::new(cidr);
    if let Some(commands) = commands {
        options =
            options.commands(move |pod, container, command| commands(pod, container, command));
    }
    let runtime = SimRuntime::new(options).map_err(|e| failed(e.into()))?;
    let images = runtime.images();
    let identity = Identity::user(format!("system:node:{name}"))
        .group("system:nodes")
        .group("system:authenticated");
    let client = Client::new(gate.service(identity), "default");
    let kubelet = Kubelet::builder(client, Arc::new(runtime), images)
        .node_name(&name)
        .node_ip(Ipv4Addr::LOCALHOST.into())
        .root_dir(folder.path().join(&name))
        .capacity("4", "16Gi", 110)
        .stop_timeout(std::time::Duration::from_secs(1))
        .build()
        .map_err(|e| failed(e.into()))?;
    kubelets.add(&name, kubelet.service());
    // The folder is there as long as anybody may write to it.
    let folder = folder.clone();
    Ok(async move {
        if let Err(error) = kubelet.run(stop).await {
            tracing::error!(node = name, %error, "a simulated node has failed");
        }
        drop(folder);
    })
}

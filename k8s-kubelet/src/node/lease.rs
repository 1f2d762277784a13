//! The node's Lease in `kube-node-lease`: its heartbeat.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::{Api, api::PostParams};
use tracing::debug;

use crate::context::Context;

const NAMESPACE: &str = "kube-node-lease";
pub(crate) const DURATION_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);

/// Renews the lease for as long as it is polled.
pub(crate) async fn heartbeat(cx: Arc<Context>) {
    let api: Api<Lease> = Api::namespaced(cx.client.clone(), NAMESPACE);
    let mut last: Option<Lease> = None;
    let mut delay = Duration::from_millis(200);
    loop {
        match renew(&cx, &api, last.take()).await {
            Ok(lease) => {
                last = Some(lease);
                delay = Duration::from_millis(200);
                // Nodes that were started together should not all come at once.
                let jitter = Duration::from_millis(u64::from(fastrand::u16(0..400)));
                tokio::time::sleep(RENEW + jitter).await;
            }
            Err(error) => {
                debug!(%error, "lease not renewed");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(7));
            }
        }
    }
}

async fn renew(cx: &Context, api: &Api<Lease>, last: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &cx.settings.node_name;
    let now = MicroTime(cx.clock.now());
    let there = match last {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let Some(mut lease) = there else {
        let mut lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(DURATION_SECONDS),
                renew_time: Some(now),
                ..Default::default()
            }),
            ..Default::default()
        };
        lease.metadata.name = Some(name.clone());
        lease.metadata.namespace = Some(NAMESPACE.to_owned());
        lease.metadata.owner_references = owner(&cx.node());
        return api.create(&PostParams::default(), &lease).await;
    };
    let spec = lease.spec.get_or_insert_with(Default::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = Some(DURATION_SECONDS);
    spec.renew_time = Some(now);
    if lease.metadata.owner_references.is_none() {
        lease.metadata.owner_references = owner(&cx.node());
    }
    api.replace(name, &PostParams::default(), &lease).await
}

fn owner(node: &Node) -> Option<Vec<OwnerReference>> {
    let reference = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..Default::default()
    };
    Some(vec![reference])
}

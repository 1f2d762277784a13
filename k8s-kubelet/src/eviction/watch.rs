//! [`run`]: measures pods that have limits and tells who is past one.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8s_runtime::{ContainerState, ContainerStatus, disk_usage};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use super::limits::{self, Usage};
use crate::{
    context::Context,
    pod::{PodView, labels},
};

/// A pod that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) uid: String,
    pub(crate) message: String,
}

/// Looks again and again, for as long as it is polled. Only pods with limits cost anything.
pub(crate) async fn run(cx: Arc<Context>, evictions: mpsc::Sender<Eviction>) {
    let mut tick = interval(cx.settings.storage_check_period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let pods = cx.known_where(|k| {
            k.sandbox.is_some() && !k.view.is_terminal() && limits::limited(&k.view)
        });
        if pods.is_empty() {
            continue;
        }
        let mut running: BTreeMap<String, Vec<ContainerStatus>> = BTreeMap::new();
        match cx.runtime.containers().await {
            Ok(all) => {
                for container in all
                    .into_iter()
                    .filter(|c| c.state == ContainerState::Running)
                {
                    let uid = labels::pod_uid(&container).to_owned();
                    running.entry(uid).or_default().push(container);
                }
            }
            Err(error) => {
                warn!(%error, "containers not listed");
                continue;
            }
        }
        for pod in pods {
            let pod = pod.view;
            let running = running.remove(pod.uid()).unwrap_or_default();
            let usage = measure(&cx, &pod, &running).await;
            let Some(message) = limits::exceeded(&pod, &usage) else {
                continue;
            };
            let uid = pod.uid().to_owned();
            if evictions.send(Eviction { uid, message }).await.is_err() {
                return;
            }
        }
    }
}

/// What the pod uses now. What cannot be measured (it may just be going) counts nothing.
async fn measure(cx: &Context, pod: &PodView, running: &[ContainerStatus]) -> Usage {
    let mut usage = Usage::default();
    for container in running {
        let name = labels::container_name(container);
        let written = match cx.runtime.written_bytes(&container.id).await {
            Ok(bytes) => bytes,
            Err(error) => {
                debug!(%error, container = %container.id.0, "container not measured");
                0
            }
        };
        let logs = taken(cx.pod_log_dir(pod).join(name)).await;
        *usage.containers.entry(name.to_owned()).or_default() += written + logs;
    }
    for volume in pod.spec().volumes.iter().flatten() {
        let Some(directory) = cx.volumes.directory(pod, volume) else {
            continue;
        };
        if volume.empty_dir.is_some() {
            let bytes = taken(directory).await;
            usage.empty_dirs.insert(volume.name.clone(), bytes);
        } else if volume.config_map.is_some() {
            usage.rest += taken(directory).await;
        }
    }
    usage.rest += taken(cx.volumes.pod_dir(pod.uid()).join("etc-hosts")).await;
    usage
}

async fn taken(path: PathBuf) -> u64 {
    let measured = tokio::task::spawn_blocking(move || disk_usage(&path)).await;
    measured.ok().and_then(Result::ok).unwrap_or(0)
}

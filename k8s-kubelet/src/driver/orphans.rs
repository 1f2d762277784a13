//! What is left of pods that are not in the API any more.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use k8s_runtime::{ContainerState, ContainerStatus, SandboxStatus};
use tracing::{info, warn};

use crate::{context::Context, pod::labels::Annotated, volume::manager::remove_pod_dir};

/// Ends and removes the containers and sandboxes of one such pod.
pub(crate) async fn remove(
    cx: &Context,
    sandboxes: &[SandboxStatus],
    containers: &[ContainerStatus],
) {
    let stops = containers
        .iter()
        .filter(|c| c.state == ContainerState::Running)
        .map(|c| {
            let grace = Duration::from_secs(u64::try_from(c.config.grace_seconds()).unwrap_or(30));
            cx.runtime.stop_container(&c.id, grace)
        });
    for result in join_all(stops).await {
        if let Err(error) = result {
            warn!(%error, "orphaned container not ended");
        }
    }
    for sandbox in sandboxes {
        info!(pod = %sandbox.config.name, namespace = %sandbox.config.namespace, "removing an orphaned pod");
        let result = match cx.runtime.stop_sandbox(&sandbox.id).await {
            Ok(()) => cx.runtime.remove_sandbox(&sandbox.id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            warn!(%error, "orphaned sandbox not removed");
        }
    }
}

/// The directories of pods that nobody knows.
pub(crate) fn directories(cx: &Context, known: &HashSet<String>) -> Vec<PathBuf> {
    let list = |dir: &Path| -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter_map(|e| Some((e.file_name().to_str()?.to_owned(), e.path())))
            .collect()
    };
    let pods = list(&cx.volumes.pods_dir)
        .into_iter()
        .filter(|(uid, _)| !known.contains(uid));
    let unknown_log = |name: &str| !known.contains(name.rsplit('_').next().unwrap_or(name));
    let logs = list(&cx.settings.log_dir)
        .into_iter()
        .filter(|(name, _)| unknown_log(name));
    pods.chain(logs).map(|(_, path)| path).collect()
}

/// Removes them, unmounting what is mounted there.
pub(crate) fn remove_directories(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = remove_pod_dir(path) {
            warn!(%error, dir = %path.display(), "directory of an orphaned pod not removed");
        }
    }
}

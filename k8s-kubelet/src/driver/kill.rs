//! Ending one container: `preStop`, the request, and after the grace period the end by force.

use std::{sync::Arc, time::Duration};

use k8s_runtime::{ContainerId, ContainerStatus, Error};
use tokio::time::{Instant, timeout};

use crate::{context::Context, events::Kind, hooks, pod::PodView};

/// However little time there is, a container gets this much (upstream's minimum).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// What is to be ended, and how.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) cx: Arc<Context>,
    pub(crate) pod: Arc<PodView>,
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) grace: Duration,
    pub(crate) ips: Vec<std::net::IpAddr>,
    /// It was asked to end before: no hook and no event again.
    pub(crate) again: bool,
}

/// Ends the container and tells how it ended; `None` if it is not there any more.
pub(crate) async fn run(kill: Kill) -> Result<Option<ContainerStatus>, Error> {
    let Kill {
        cx,
        pod,
        id,
        name,
        message,
        grace,
        ips,
        again,
    } = &kill;
    let container = pod.find(name).map(|(_, c)| c);
    let mut left = *grace;
    if !again {
        cx.recorder.pod(
            pod,
            Some(name),
            Kind::Normal,
            "Killing",
            message.replace(id.0.as_str(), name),
        );
        let hook = container.and_then(|c| Some((c, c.lifecycle.as_ref()?.pre_stop.as_ref()?)));
        if let Some((container, handler)) = hook {
            let begin = Instant::now();
            let run = hooks::run(cx, pod, container, id, ips, handler);
            if let Ok(Err(error)) = timeout(left, run).await {
                tracing::debug!(%error, "preStop hook failed");
                cx.recorder.pod(
                    pod,
                    Some(name),
                    Kind::Warning,
                    "FailedPreStopHook",
                    "PreStopHook failed",
                );
            }
            left = left.saturating_sub(begin.elapsed());
        }
    }
    match cx.runtime.stop_container(id, left.max(LEAST_GRACE)).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    }
    match cx.runtime.container(id).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

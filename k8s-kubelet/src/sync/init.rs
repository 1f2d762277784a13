//! Init containers: which one is next.

use k8s_openapi::api::core::v1::Container;
use k8s_runtime::{ContainerState, ContainerStatus};

use super::{
    decide::should_restart,
    state::{PodState, is_running},
};
use crate::pod::{ContainerKind, view::init_kind};

/// How far the initialization is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress<'a> {
    /// The main containers may run.
    Done,
    /// One runs; nothing to do.
    Wait,
    /// This one is to be started.
    Start(&'a Container),
    /// One failed for good, and the pod with it.
    Failed,
}

/// Init containers run one after the other, each to its end; sidecars only until they have
/// started (KEP-753).
pub(crate) fn progress(state: &PodState) -> Progress<'_> {
    if initialized(state) {
        return Progress::Done;
    }
    for container in state.pod.init() {
        let kind = init_kind(container);
        let latest = state.latest_here(&container.name);
        let step = match kind {
            ContainerKind::Sidecar => sidecar(state, container, latest),
            _ => regular(state, container, latest),
        };
        if let Some(step) = step {
            return step;
        }
    }
    Progress::Done
}

/// Once a main container was made in this sandbox, initialization is over for good, even when the
/// init containers are not there any more.
pub(crate) fn initialized(state: &PodState) -> bool {
    state.pod.init().is_empty()
        || state
            .pod
            .main()
            .iter()
            .any(|c| state.latest_here(&c.name).is_some())
}

fn sidecar<'a>(
    state: &'a PodState,
    container: &'a Container,
    latest: Option<&ContainerStatus>,
) -> Option<Progress<'a>> {
    match latest {
        Some(c) if is_running(c) => {
            let hooked = state.note(&container.name).is_some_and(|n| n.starting);
            (hooked || !state.started(&container.name, &c.id)).then_some(Progress::Wait)
        }
        _ => Some(Progress::Start(container)),
    }
}

fn regular<'a>(
    state: &'a PodState,
    container: &'a Container,
    latest: Option<&ContainerStatus>,
) -> Option<Progress<'a>> {
    let Some(latest) = latest else {
        return Some(Progress::Start(container));
    };
    match latest.state {
        ContainerState::Running => Some(Progress::Wait),
        ContainerState::Exited if latest.exit_code == Some(0) => None,
        _ if should_restart(state.pod.restart_policy_of(ContainerKind::Init), latest) => {
            Some(Progress::Start(container))
        }
        _ => Some(Progress::Failed),
    }
}

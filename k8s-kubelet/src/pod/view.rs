//! [`PodView`]: a pod with its defaults applied and its containers found by name.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

use super::Qos;

/// When a container is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// Which of a pod's lists a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerKind {
    /// Runs to completion before the main ones.
    Init,
    /// An init container that keeps running beside the main ones (KEP-753).
    Sidecar,
    Main,
    Ephemeral,
}

/// A pod as the kubelet looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodView {
    pub(crate) object: Pod,
    spec: PodSpec,
    ephemeral: Vec<Container>,
}

impl PodView {
    pub(crate) fn new(mut object: Pod) -> Self {
        let spec = object.spec.take().unwrap_or_default();
        object.metadata.managed_fields = None;
        let ephemeral = spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(as_container)
            .collect();
        Self {
            object,
            spec,
            ephemeral,
        }
    }

    /// The whole object again.
    pub(crate) fn to_object(&self) -> Pod {
        Pod {
            spec: Some(self.spec.clone()),
            ..self.object.clone()
        }
    }

    pub(crate) fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.object
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    /// `name_namespace(uid)`, upstream's form in messages.
    pub(crate) fn describe(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    pub(crate) fn spec(&self) -> &PodSpec {
        &self.spec
    }

    pub(crate) fn status(&self) -> PodStatus {
        self.object.status.clone().unwrap_or_default()
    }

    pub(crate) fn phase(&self) -> &str {
        self.object
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or_default()
    }

    /// Whether the API already calls it finished.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub(crate) fn init(&self) -> &[Container] {
        self.spec.init_containers.as_deref().unwrap_or_default()
    }

    pub(crate) fn main(&self) -> &[Container] {
        &self.spec.containers
    }

    pub(crate) fn ephemeral(&self) -> &[Container] {
        &self.ephemeral
    }

    /// Every container, init ones first.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (ContainerKind, &Container)> {
        self.init()
            .iter()
            .map(|c| (init_kind(c), c))
            .chain(self.main().iter().map(|c| (ContainerKind::Main, c)))
            .chain(self.ephemeral.iter().map(|c| (ContainerKind::Ephemeral, c)))
    }

    pub(crate) fn find(&self, name: &str) -> Option<(ContainerKind, &Container)> {
        self.containers().find(|(_, c)| c.name == name)
    }

    pub(crate) fn restart_policy(&self) -> RestartPolicy {
        match self.spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    /// The policy for one container of the pod.
    pub(crate) fn restart_policy_of(&self, kind: ContainerKind) -> RestartPolicy {
        match kind {
            ContainerKind::Sidecar => RestartPolicy::Always,
            ContainerKind::Ephemeral => RestartPolicy::Never,
            // An init container that succeeded is done, whatever the policy.
            ContainerKind::Init if self.restart_policy() == RestartPolicy::Always => {
                RestartPolicy::OnFailure
            }
            ContainerKind::Init | ContainerKind::Main => self.restart_policy(),
        }
    }

    pub(crate) fn host_network(&self) -> bool {
        self.spec.host_network.unwrap_or_default()
    }

    pub(crate) fn deletion_timestamp(&self) -> Option<Timestamp> {
        self.object
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|t| t.0)
    }

    pub(crate) fn start_time(&self) -> Option<Timestamp> {
        self.object
            .status
            .as_ref()
            .and_then(|s| s.start_time.as_ref())
            .map(|t| t.0)
    }

    /// How long its containers get to end, in seconds.
    pub(crate) fn grace_seconds(&self) -> i64 {
        self.object
            .metadata
            .deletion_grace_period_seconds
            .or(self.spec.termination_grace_period_seconds)
            .unwrap_or(30)
            .max(1)
    }

    /// Its class as the API says it, which knows what the pod asks for as a whole; a pod that the API does not know yet has
    /// the class that follows from its containers.
    pub(crate) fn qos(&self) -> Qos {
        let status = self.object.status.as_ref();
        status
            .and_then(|status| Qos::named(status.qos_class.as_deref()?))
            .unwrap_or_else(|| Qos::of(&self.spec))
    }

    pub(crate) fn share_process_namespace(&self) -> bool {
        self.spec.share_process_namespace.unwrap_or_default()
    }
}

pub(crate) fn init_kind(container: &Container) -> ContainerKind {
    if container.restart_policy.as_deref() == Some("Always") {
        ContainerKind::Sidecar
    } else {
        ContainerKind::Init
    }
}

fn as_container(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        name: e.name,
        resources: e.resources,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
        ..Container::default()
    }
}

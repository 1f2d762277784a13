//! What the runtime says, taken into a [`Worker`]'s state.

use std::collections::BTreeSet;

use k8s_runtime::{ContainerId, ContainerState, ContainerStatus, SandboxId, SandboxStatus};
use tracing::warn;

use super::{Message, termination_message, worker::Worker};

impl Worker {
    /// Takes in what the runtime says of a container.
    pub(super) fn put(&mut self, status: ContainerStatus) {
        let ended = status.state == ContainerState::Exited;
        if ended && !self.state.messages.contains_key(&status.id) {
            let message = termination_message::read(&status);
            self.state.messages.insert(status.id.clone(), message);
        }
        self.state.put_container(status);
    }

    pub(super) async fn look_at(&mut self, id: &ContainerId) {
        // One that is being started reports itself.
        if self.state.containers.iter().any(|c| c.id == *id) {
            self.inspect(id).await;
        }
    }

    pub(super) async fn inspect(&mut self, id: &ContainerId) {
        match self.cx.runtime.container(id).await {
            Ok(status) => self.put(status),
            Err(error) if error.is_not_found() => self.state.drop_container(id),
            Err(error) => warn!(%error, "container not inspected"),
        }
    }

    pub(super) async fn inspect_sandbox(&mut self, id: &SandboxId) {
        match self.cx.runtime.sandbox(id).await {
            Ok(status) => self.state.put_sandbox(status),
            Err(error) if error.is_not_found() => self.state.sandboxes.retain(|s| s.id != *id),
            Err(error) => warn!(%error, "sandbox not inspected"),
        }
    }

    /// Compares with a full listing: events may have been lost. A listing may be older than what
    /// is known, so whatever differs is looked at once more.
    pub(super) async fn listed(
        &mut self,
        sandboxes: Vec<SandboxStatus>,
        containers: Vec<ContainerStatus>,
    ) {
        // What is being made or removed is in flux; its operation tells.
        if self.state.sandbox_busy || self.state.starting() || !self.state.removing.is_empty() {
            return;
        }
        let known: Vec<_> = self
            .state
            .sandboxes
            .iter()
            .filter(|s| !sandboxes.contains(s))
            .map(|s| s.id.clone())
            .collect();
        let new = sandboxes
            .iter()
            .filter(|s| !self.state.sandboxes.contains(s))
            .map(|s| s.id.clone());
        for id in known.into_iter().chain(new).collect::<BTreeSet<_>>() {
            self.inspect_sandbox(&id).await;
        }
        let known: Vec<_> = self
            .state
            .containers
            .iter()
            .filter(|c| !containers.contains(c))
            .map(|c| c.id.clone())
            .collect();
        let new = containers
            .iter()
            .filter(|c| !self.state.containers.contains(c))
            .map(|c| c.id.clone());
        for id in known.into_iter().chain(new).collect::<BTreeSet<_>>() {
            self.inspect(&id).await;
        }
    }

    /// A container that was made but failed to start is known only to the runtime.
    pub(super) fn find_created(&mut self, name: &str) {
        if self.state.note(name).is_some_and(|n| {
            n.waiting
                .as_ref()
                .is_some_and(|w| w.reason == "RunContainerError")
        }) {
            let (cx, uid, sender) = (
                self.cx.clone(),
                self.state.pod.uid().to_owned(),
                self.sender.clone(),
            );
            tokio::spawn(async move {
                let (Ok(sandboxes), Ok(containers)) =
                    (cx.runtime.sandboxes().await, cx.runtime.containers().await)
                else {
                    return;
                };
                let sandboxes = sandboxes
                    .into_iter()
                    .filter(|s| s.config.uid == uid)
                    .collect();
                let containers = containers
                    .into_iter()
                    .filter(|c| crate::pod::labels::pod_uid(c) == uid)
                    .collect();
                let _ = sender
                    .send(Message::Listed {
                        sandboxes,
                        containers,
                    })
                    .await;
            });
        }
    }
}

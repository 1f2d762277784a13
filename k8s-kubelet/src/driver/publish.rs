//! Probes and status: what follows from a pod's state without being an action.

use std::collections::BTreeMap;

use k8s_runtime::ContainerId;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{Message, worker::Worker};
use crate::{
    context::Known,
    pod::{ContainerKind, labels},
    probe::{self, ProbeKind, ProbeTask},
    sync::{EndKind, ProbeState, pod_status},
};

/// The probes that run for a pod.
pub(crate) type Probes = BTreeMap<(ContainerId, ProbeKind), AbortOnDropHandle<()>>;

impl Worker {
    /// Starts the probes of containers that run and stops those of containers that don't. Until
    /// the startup probe has succeeded no other runs.
    pub(crate) fn sync_probes(&mut self, sender: &mpsc::Sender<Message>) {
        let mut wanted: Vec<(ContainerId, ProbeKind)> = Vec::new();
        let ending = self.state.end.is_some();
        for container in self.state.running() {
            let name = labels::container_name(container);
            let Some((kind, spec)) = self.state.pod.find(name) else {
                continue;
            };
            let probed = matches!(kind, ContainerKind::Main | ContainerKind::Sidecar);
            let hooked = self
                .state
                .note(name)
                .is_some_and(|n| n.hooked.as_ref() == Some(&container.id));
            if !probed || hooked {
                continue;
            }
            let found = self
                .state
                .probes
                .get(&container.id)
                .copied()
                .unwrap_or_default();
            if spec.startup_probe.is_some() && found.startup != Some(true) {
                if found.startup.is_none() && !ending {
                    wanted.push((container.id.clone(), ProbeKind::Startup));
                }
                continue;
            }
            if spec.liveness_probe.is_some() && !ending && found.liveness != Some(false) {
                wanted.push((container.id.clone(), ProbeKind::Liveness));
            }
            if spec.readiness_probe.is_some() {
                wanted.push((container.id.clone(), ProbeKind::Readiness));
            }
        }
        self.probes.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if self.probes.contains_key(&key) {
                continue;
            }
            if let Some(task) = self.probe_task(&key.0, key.1) {
                let task = tokio::spawn(probe::run(task, sender.clone()));
                self.probes.insert(key, AbortOnDropHandle::new(task));
            }
        }
    }

    fn probe_task(&self, id: &ContainerId, kind: ProbeKind) -> Option<ProbeTask> {
        let container = self.state.containers.iter().find(|c| c.id == *id)?;
        let (_, spec) = self.state.pod.find(labels::container_name(container))?;
        let probe = match kind {
            ProbeKind::Startup => &spec.startup_probe,
            ProbeKind::Liveness => &spec.liveness_probe,
            ProbeKind::Readiness => &spec.readiness_probe,
        };
        let now = self.cx.clock.now();
        let running = container
            .started_at
            .map_or(jiff::SignedDuration::ZERO, |at| now.duration_since(at));
        let running = std::time::Duration::try_from(running).unwrap_or_default();
        let started = Instant::now()
            .checked_sub(running)
            .unwrap_or_else(Instant::now);
        Some(ProbeTask {
            cx: self.cx.clone(),
            pod: self.state.pod.clone(),
            container: spec.clone(),
            id: id.clone(),
            kind,
            probe: probe.clone()?,
            ips: if self.state.pod.host_network() {
                self.cx.facts().ips.clone()
            } else {
                self.state.ips.clone()
            },
            started,
        })
    }

    /// Takes over what the API says of containers that ran before this kubelet did, so that a
    /// restart of the kubelet makes no ready pod unready.
    pub(crate) fn adopt_readiness(&mut self) {
        let status = self.state.pod.status();
        let prefix = format!("{}://", self.cx.runtime.name());
        let all = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .flatten();
        for old in all {
            let Some(id) = old
                .container_id
                .as_deref()
                .and_then(|id| id.strip_prefix(&prefix))
            else {
                continue;
            };
            let known = ProbeState {
                startup: (old.started == Some(true)).then_some(true),
                liveness: None,
                readiness: old.ready.then_some(true),
            };
            self.state.probes.insert(ContainerId(id.to_owned()), known);
        }
    }

    /// Makes the status anew and hands it on.
    pub(crate) fn publish(&mut self) {
        // From here on the runtime forgets the pod; the last status is the last word.
        let fading = self
            .state
            .end
            .as_ref()
            .is_some_and(|e| matches!(e.kind, EndKind::Deleted | EndKind::Gone))
            && self.fading;
        if !fading {
            let facts = self.cx.facts();
            let status = pod_status(
                &self.state,
                self.cx.clock.now(),
                &facts,
                self.cx.runtime.name(),
            );
            self.state.reported = status.clone();
            self.writer.write(&status);
        }
        self.cx.know(Known {
            view: self.state.pod.clone(),
            status: self.state.reported.clone(),
            sandbox: self.state.sandbox().map(|s| s.id.clone()),
        });
    }
}

//! The driver: carries out what the decision core decides, one task per pod.

mod act;
mod kill;
mod manager;
mod observe;
mod orphans;
mod outcome;
mod publish;
mod sandbox;
mod start;
mod status_writer;
mod termination_message;
mod worker;

use std::sync::Arc;

use k8s_runtime::{ContainerId, ContainerStatus, RuntimeEvent, SandboxStatus};

use crate::{pod::PodView, probe::ProbeKind};

pub(crate) use manager::{Manager, RELIST};

/// What a pod's worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The pod changed in the API.
    Pod(Arc<PodView>),
    /// The pod is not in the API any more.
    Gone,
    /// Something happened in the runtime.
    Runtime(RuntimeEvent),
    /// Everything the runtime has of this pod.
    Listed {
        sandboxes: Vec<SandboxStatus>,
        containers: Vec<ContainerStatus>,
    },
    /// A container runs, and its `postStart` hook begins.
    Hooked {
        name: String,
        status: Box<ContainerStatus>,
    },
    /// A probe came to a verdict.
    Probe {
        id: ContainerId,
        kind: ProbeKind,
        healthy: bool,
    },
    /// It uses more of the node than it may, as this message says.
    Evict(String),
    /// Something that a volume shows has changed.
    SourceChanged,
    /// The node stops and takes its pods with it.
    Stop,
}

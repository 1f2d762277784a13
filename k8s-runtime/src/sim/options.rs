//! [`SimOptions`].

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{SimExec, SimExit};
use crate::{ContainerConfig, SandboxConfig, net::IpCidr};

/// Decides when a container ends by itself, where no annotation does.
type Script = dyn Fn(&SandboxConfig, &ContainerConfig) -> Option<SimExit> + Send + Sync;

/// Decides what a command does, where no annotation does.
type Commands =
    dyn Fn(&SandboxConfig, &ContainerConfig, &[String]) -> Option<SimExec> + Send + Sync;

/// How a simulated node is.
#[derive(Clone)]
pub struct SimOptions {
    /// Where pod addresses come from.
    pub pod_cidr: IpCidr,
    /// What the clock shows when the runtime is made. From there it follows [`tokio::time`].
    pub epoch: Timestamp,
    pub(super) handlers: Vec<String>,
    pub(super) script: Option<Arc<Script>>,
    pub(super) commands: Option<Arc<Commands>>,
}

impl SimOptions {
    /// Options for a node with this pod CIDR, whose clock starts with the system's.
    pub fn new(pod_cidr: IpCidr) -> Self {
        Self {
            pod_cidr,
            epoch: Timestamp::now(),
            handlers: Vec::new(),
            script: None,
            commands: None,
        }
    }

    /// Sets what the clock shows at the start.
    #[must_use]
    pub fn epoch(mut self, epoch: Timestamp) -> Self {
        self.epoch = epoch;
        self
    }

    /// Adds a runtime handler that a `RuntimeClass` may name, beside `sim` and `runc`.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>) -> Self {
        self.handlers.push(name.into());
        self
    }

    /// Sets a function that plans when a container ends, for those whose annotations don't. It is
    /// called at each start.
    #[must_use]
    pub fn script<F>(mut self, script: F) -> Self
    where
        F: Fn(&SandboxConfig, &ContainerConfig) -> Option<SimExit> + Send + Sync + 'static,
    {
        self.script = Some(Arc::new(script));
        self
    }

    /// Sets a function that says what a command does in a container, for those that annotations
    /// don't script: exec, probes and hooks. Where it has no answer, the simulated shell has.
    #[must_use]
    pub fn commands<F>(mut self, commands: F) -> Self
    where
        F: Fn(&SandboxConfig, &ContainerConfig, &[String]) -> Option<SimExec>
            + Send
            + Sync
            + 'static,
    {
        self.commands = Some(Arc::new(commands));
        self
    }
}

impl fmt::Debug for SimOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimOptions")
            .field("pod_cidr", &self.pod_cidr)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

//! [`Container`]: what is the same in all sorts of containers.

use k8s_openapi::api::core::v1::{ContainerPort, Lifecycle, PodSpec, Probe, SecurityContext};

/// A container of any sort.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    pub(super) security: Option<&'a SecurityContext>,
    pub(super) ports: &'a [ContainerPort],
    pub(super) probes: [Option<&'a Probe>; 3],
    pub(super) lifecycle: Option<&'a Lifecycle>,
}

macro_rules! container {
    ($container:expr) => {{
        let container = $container;
        Container {
            name: &container.name,
            security: container.security_context.as_ref(),
            ports: container.ports.as_deref().unwrap_or_default(),
            probes: [
                container.liveness_probe.as_ref(),
                container.readiness_probe.as_ref(),
                container.startup_probe.as_ref(),
            ],
            lifecycle: container.lifecycle.as_ref(),
        }
    }};
}

/// All containers: init containers, containers, ephemeral ones.
pub(super) fn all(spec: &PodSpec) -> impl Iterator<Item = Container<'_>> {
    let init = spec.init_containers.iter().flatten();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    init.chain(&spec.containers)
        .map(|c| container!(c))
        .chain(ephemeral.map(|c| container!(c)))
}

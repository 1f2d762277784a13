//! [`PodInfo`]: a pod with what the plugins ask of it most.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Resources, resources};

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods can't both have theirs.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0")
    }
}

/// A pod, parsed once.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    /// The pod itself.
    pub pod: Arc<Pod>,
    /// What it requests: containers together, or the largest init container, plus overhead.
    pub requests: Resources,
    /// Its CPU request in millicores, 100 where a container has none.
    pub non_zero_milli_cpu: i64,
    /// Its memory request in bytes, 200 MB where a container has none.
    pub non_zero_memory: i64,
    /// The ports that it takes on its node.
    pub host_ports: Vec<HostPort>,
    /// Its priority.
    pub priority: i32,
}

impl Eq for PodInfo {}

impl From<Arc<Pod>> for PodInfo {
    fn from(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        let (non_zero_milli_cpu, non_zero_memory) =
            spec.map(resources::non_zero).unwrap_or_default();
        let host_ports = spec
            .into_iter()
            .flat_map(|s| {
                let restartable = s
                    .init_containers
                    .iter()
                    .flatten()
                    .filter(|c| c.restart_policy.as_deref() == Some("Always"));
                s.containers.iter().chain(restartable)
            })
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|p| {
                Some(HostPort {
                    ip: p
                        .host_ip
                        .clone()
                        .filter(|ip| !ip.is_empty())
                        .unwrap_or_else(|| "0.0.0.0".into()),
                    protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                    port: p.host_port.filter(|p| *p > 0)?,
                })
            })
            .collect();
        Self {
            requests: spec.map(resources::requests).unwrap_or_default(),
            non_zero_milli_cpu,
            non_zero_memory,
            host_ports,
            priority: spec.and_then(|s| s.priority).unwrap_or(0),
            pod,
        }
    }
}

impl From<Pod> for PodInfo {
    fn from(pod: Pod) -> Self {
        Arc::new(pod).into()
    }
}

impl PodInfo {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        let metadata = &self.pod.metadata;
        format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        )
    }

    /// Its UID; empty before it was created.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The node that it is bound to.
    pub fn node_name(&self) -> Option<&str> {
        self.pod
            .spec
            .as_ref()
            .and_then(|s| s.node_name.as_deref())
            .filter(|n| !n.is_empty())
    }

    /// Whether it has ended and takes nothing any more.
    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

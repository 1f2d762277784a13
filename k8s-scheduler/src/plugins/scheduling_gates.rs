//! [`SchedulingGates`].

use crate::{
    framework::{Plugin, PreEnqueue, Status},
    snapshot::PodInfo,
};

/// Keeps pods with scheduling gates out of the queue (KEP-3521).
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Status> {
        let gates: Vec<&str> = pod
            .pod()
            .and_then(|p| p.spec.as_ref())
            .into_iter()
            .flat_map(|s| s.scheduling_gates.iter().flatten())
            .map(|g| g.name.as_str())
            .collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Status::unresolvable(format!(
            "waiting for scheduling gates: [{}]",
            gates.join(" ")
        )))
    }
}

//! The bundled plugins, under upstream's names.

mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod priority_sort;
mod scheduling_gates;
mod selector;
mod taint_toleration;

pub use image_locality::ImageLocality;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use node_ports::NodePorts;
pub use node_resources::{NodeResourcesBalancedAllocation, NodeResourcesFit};
pub use node_unschedulable::NodeUnschedulable;
pub use priority_sort::PrioritySort;
pub use scheduling_gates::SchedulingGates;
pub use taint_toleration::TaintToleration;

use crate::framework::MAX_NODE_SCORE;

/// Stretches scores so that the highest becomes the maximum; `reverse` makes the lowest best.
fn normalize_by_max(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let stretched = if highest == 0 {
            0
        } else {
            *score * MAX_NODE_SCORE / highest
        };
        *score = if reverse {
            MAX_NODE_SCORE - stretched
        } else {
            stretched
        };
    }
}

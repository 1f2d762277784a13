//! What decisions are made on: nodes, the pods on them, and what those take.

mod node_info;
mod pod_info;
mod resources;
mod state;

pub use node_info::NodeInfo;
pub use pod_info::{HostPort, PodInfo};
pub use resources::Resources;
pub use state::Snapshot;

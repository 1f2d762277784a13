//! What decisions are made on: nodes, the pods on them, what those take, and the other objects that
//! plugins ask about.
//!
//! A [`Snapshot`] is kept up to date change by change. Beside the nodes it has what makes decisions
//! cheap: pods that are alike are one group with a count for each node; a log of the last changes; and
//! tallies (pods by topology domain) and score cards that follow the log instead of counting anew.

mod cells;
pub(crate) mod devices;
mod facts;
mod groups;
mod interned;
mod log;
mod node_info;
mod objects;
mod pod_info;
mod resources;
mod shape;
mod state;
mod tally;
mod terms;
mod volumes;

pub use devices::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice};
pub use interned::Interned;
pub use node_info::NodeInfo;
pub use objects::{Budget, Object, Objects};
pub use pod_info::PodInfo;
pub use resources::Resources;
pub use shape::{Controller, HostPort, NodeShape, PodShape, Terms};
pub use state::Snapshot;
pub use terms::{AffinityTerm, Spread, SpreadConstraint};
pub use volumes::PodVolume;

pub(crate) use cells::{BLOCK, Cells};
pub(crate) use devices::Devices;
pub(crate) use log::Change;
pub(crate) use tally::{By, Tally, TallyKey};

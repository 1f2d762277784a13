//! Pod networking: addresses, bridge, veth pairs, masquerade.

mod cidr;
mod ipam;
pub(crate) mod netns;
pub(crate) mod pod;
mod routes;

pub use cidr::IpCidr;
pub use ipam::AddressPool;
pub use pod::{PodNetwork, PodNetworkOptions};

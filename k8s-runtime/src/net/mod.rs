//! Pod networking: addresses, bridge, veth pairs, masquerade.

mod cidr;
mod ipam;

pub use cidr::IpCidr;
pub use ipam::AddressPool;

//! The nftables backend: [`NftDataplane`].
//!
//! One table, `ip kube-proxy`, whose base chains look a packet's destination up in maps and jump to
//! a chain for each Service port, which picks an endpoint. A change is one nftables
//! transaction with only the chains and map elements that differ. The layout follows upstream's
//! nftables mode (KEP-3866).

mod dataplane;
mod layout;
mod script;

pub use dataplane::NftDataplane;

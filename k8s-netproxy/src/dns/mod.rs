//! Cluster DNS: names for Services and their endpoints.
//!
//! Answers as the specification has it
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>, version 1.1.0), and hands every
//! name outside the cluster domain to the name servers that it is given.

mod forward;
mod records;
mod server;

pub use records::{Answer, Records};
pub use server::{ClusterDns, DnsConfig};

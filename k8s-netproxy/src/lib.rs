//! Services to dataplane rules, and cluster DNS.
//!
//! The node's part of a Service: it watches Services and EndpointSlices through a [`kube::Client`],
//! decides what each packet's way should be ([`rules`], a pure function), and has a [`Dataplane`]
//! carry it out. It is not a load balancer for the outside world, and not a network for
//! pods: it takes pod addresses as it finds them.
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//!
//! use k8s_netproxy::{Dataplane, MemoryDataplane, NodeContext, rules};
//! use k8s_openapi::api::core::v1::Service;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let service: Service = serde_json::from_str(
//!     r#"{"apiVersion": "v1", "kind": "Service",
//!         "metadata": {"name": "web", "namespace": "default"},
//!         "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}}"#,
//! )?;
//! let node = NodeContext { node_name: "node-1".into() };
//! let wanted = rules(&[Arc::new(service)], &BTreeMap::new(), &node);
//! assert_eq!(wanted.services.len(), 1);
//!
//! let mut dataplane = MemoryDataplane::default();
//! dataplane.apply(&wanted).await?;
//! assert_eq!(*dataplane.subscribe().borrow(), wanted);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Map
//!
//! - [`Proxy`] watches the API and drives a dataplane.
//! - [`rules`] decides: Services and slices in, a [`RuleSet`] out.
//! - [`Dataplane`] is the seam; [`NftDataplane`] programs nftables, [`MemoryDataplane`] remembers.
//! - [`dns`] holds [`ClusterDns`](dns::ClusterDns), the name server of a cluster.
//!
//! # Bring your own
//!
//! Implement [`Dataplane`]; `testing::dataplane` (feature `testing`) checks the promises that
//! can be seen from outside.
//!
//! # Relation to upstream
//!
//! Mirrors kube-proxy in its nftables mode (KEP-3866) and CoreDNS's `kubernetes` plugin. IPv4 only so far;
//! topology hints, health-check node ports and IPVS are left out.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `testing` | the dataplane's conformance kit | no |
#![forbid(unsafe_code)]

mod dataplane;
pub mod dns;
mod error;
mod memory;
mod nft;
mod proxy;
mod rules;
mod state;
#[cfg(feature = "testing")]
pub mod testing;

pub use dataplane::Dataplane;
pub use error::Error;
pub use memory::MemoryDataplane;
pub use nft::NftDataplane;
pub use proxy::Proxy;
pub use rules::{
    NodeContext, PROXY_NAME_LABEL, Protocol, RuleSet, SERVICE_NAME_LABEL, ServiceKey,
    ServicePortName, ServiceRule, rules,
};

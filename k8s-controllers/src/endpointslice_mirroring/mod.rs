//! EndpointSlice mirroring: the addresses that somebody wrote into Endpoints by hand, for a
//! Service without a selector, as slices. Proxies read slices only.
//!
//! Mirrors upstream's `pkg/controller/endpointslicemirroring`. [`slices`] is the pure core;
//! [`driver`] reads informers and makes the requests.

pub(crate) mod driver;
mod slices;

/// The controller's name, which its slices carry too.
pub(crate) const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// The label of Endpoints that are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that only serve leader election.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

//! EndpointSlice: the addresses behind each Service with a selector, in slices of at most 100.
//!
//! Mirrors upstream's `pkg/controller/endpointslice`, without topology hints. [`slices`] is the
//! pure core; [`driver`] reads informers and makes the requests.

pub(crate) mod driver;
mod slices;

#[cfg(test)]
mod tests;

/// The controller's name, which its slices carry too.
pub(crate) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Who keeps a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Whose endpoints a slice holds.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

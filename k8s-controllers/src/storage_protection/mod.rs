//! Storage in use outlives its deletion: PersistentVolumeClaims that pods use, PersistentVolumes that claims are
//! bound to, VolumeAttributesClasses that either names.
//!
//! Mirrors upstream's `pkg/controller/volume/pvcprotection`, `pvprotection` and `vacprotection`. Admission gives new
//! objects a finalizer; these controllers give it to older ones, and take it off those that are to go once nobody
//! uses them.

pub(crate) mod claims;
k8s_openapi::k8s_if_ge_1_34! { pub(crate) mod classes; }
mod finalizer;
pub(crate) mod volumes;

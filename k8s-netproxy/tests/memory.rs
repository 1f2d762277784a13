//! The dataplane's promises, kept by the in-memory backend.

use k8s_netproxy::{MemoryDataplane, dataplane_conformance};

dataplane_conformance!(MemoryDataplane::default());

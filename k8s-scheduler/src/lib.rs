//! The Kubernetes scheduling framework and its plugins.

//! The reconcile runtime and the built-in controllers.

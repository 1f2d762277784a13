//! Namespace: empties a namespace that is being deleted, and lets it go.
//!
//! Mirrors upstream's `pkg/controller/namespace`, with pods deleted before all else (KEP-5080).
//! [`conditions`] is the pure core; [`driver`] asks what is served, deletes, and reports.

mod conditions;
pub(crate) mod driver;

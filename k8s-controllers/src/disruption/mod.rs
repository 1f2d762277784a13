//! PodDisruptionBudget: how many pods may be evicted now.
//!
//! Mirrors upstream's `pkg/controller/disruption`. The eviction subresource charges a budget for what it evicts;
//! [`driver`] counts anew whenever pods or budgets change, with [`count`] as the pure core and [`scale`] to ask how
//! many pods there should be. [`stale`] takes back the mark of a disruption that did not come.

mod count;
pub(crate) mod driver;
mod scale;
pub(crate) mod stale;

/// As whom the controller signs its events.
pub(crate) const COMPONENT: &str = "controllermanager";

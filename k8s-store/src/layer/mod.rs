//! Layers: stores around stores.
//!
//! Each is a [`tower_layer::Layer`], so they compose as tower's do, by nesting
//! or with `tower::ServiceBuilder`, around any [`Store`], `Arc<dyn Store>`
//! included.
//!
//! ```
//! use std::sync::Arc;
//!
//! use k8s_store::{MemoryStore, Store, layer::{MetricsLayer, TraceLayer}};
//! use tower_layer::{Layer, Stack};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), k8s_store::Error> {
//! let metrics = MetricsLayer::default();
//! let store = Stack::new(metrics.clone(), TraceLayer).layer(MemoryStore::new());
//! let store: Arc<dyn Store> = Arc::new(store);
//! store.revision().await?;
//! assert!(metrics.text().contains("etcd_requests_total{operation=\"revision\"} 1"));
//! # Ok(())
//! # }
//! ```
//!
//! | layer | what it does | feature |
//! |---|---|---|
//! | [`MetricsLayer`] | counts and times requests | |
//! | [`TraceLayer`] | a span for each request | |
//! | `EncryptionLayer` | AES-GCM for the values below chosen prefixes | `encryption` |
//! | `FaultLayer` | delays, errors, lost answers and watches, from a seed | `testing` |

#[cfg(feature = "encryption")]
mod encryption;
#[cfg(feature = "testing")]
mod faults;
mod metrics;
mod trace;

#[cfg(feature = "encryption")]
pub use encryption::{EncryptedStore, EncryptionKey, EncryptionLayer};
#[cfg(feature = "testing")]
pub use faults::{Crash, FaultLayer, FaultPlan, FaultedStore};
pub use metrics::{MeasuredStore, MetricsLayer};
pub use trace::{TraceLayer, TracedStore};

#[cfg(doc)]
use crate::Store;

//! A revisioned key-value store with watch: bytes in, bytes out.
//!
//! It is what a Kubernetes API server keeps its objects in, and knows nothing of
//! Kubernetes itself. It is not a database server, has no query language, and
//! keeps all data in memory, on disk only in addition.
//!
//! ```
//! use futures::StreamExt;
//! use k8s_store::{Error, Expect, List, MemoryStore, Op, Store, Write};
//!
//! fn write(key: &'static str, expect: Expect, value: &'static str) -> Write {
//!     let op = Op::Put { value: value.into(), ttl: None };
//!     Write { key: key.into(), expect, op }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Error> {
//!     let store = MemoryStore::new();
//!     let mut watch = store.watch("/pods/".into(), store.revision().await?).await?;
//!
//!     // Several guarded writes, all or none, at one revision.
//!     let made = store
//!         .commit(vec![
//!             write("/pods/a", Expect::Absent, "v1"),
//!             write("/pods/b", Expect::Absent, "v1"),
//!         ])
//!         .await?;
//!
//!     // A write that knows what it replaces, and one that is out of date.
//!     let guard = Expect::Modified(made.revision);
//!     store.commit(vec![write("/pods/a", guard, "v2")]).await?;
//!     let late = store.commit(vec![write("/pods/a", guard, "v3")]).await;
//!     assert!(matches!(late, Err(Error::Conflict { actual: Some(_), .. })));
//!
//!     // The past is still there.
//!     let old = store.get(b"/pods/a", Some(made.revision)).await?;
//!     assert_eq!(old.map(|entry| entry.value).as_deref(), Some(&b"v1"[..]));
//!     let page = store.list(List { prefix: "/pods/".into(), ..List::default() }).await?;
//!     assert_eq!(page.entries.len(), 2);
//!
//!     // A watch yields one batch per revision.
//!     for changes in [2, 1] {
//!         let batch = watch.next().await.expect("a watch goes on")?;
//!         assert_eq!(batch.changes.len(), changes);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Map
//!
//! - [`Store`]: the trait, and all that a backend promises. Beside it the data
//!   it speaks in: [`Write`], [`Expect`] and [`Op`] go in, [`Entry`], [`Page`],
//!   [`Committed`] and [`WatchBatch`] come out, [`Revision`] counts.
//! - [`MemoryStore`]: lives and dies with the process;
//!   [`fork`](MemoryStore::fork) copies it in constant time.
//! - [`EmbeddedStore`]: the same in a directory. Durable before visible, with a
//!   write-ahead log, group commit and snapshots (`docs/design.md`).
//! - [`Error`]: what can go wrong, and what to do about it.
//! - [`Limits`], [`HistoryLimits`], [`WatchLimits`]: how much is too much.
//! - [`layer`]: stores around stores, for encryption, metrics, traces and faults.
//! - `testing`: the conformance kit, a checker of histories and a store that fails on command, with the
//!   feature of that name.
//!
//! # Bring your own
//!
//! Implement [`Store`] and run the kit, which has one named test per promise:
//!
//! ```
//! # #[cfg(feature = "testing")]
//! k8s_store::store_conformance!(async || (k8s_store::MemoryStore::new(), ()));
//! # fn main() {}
//! ```
//!
//! # Relation to upstream
//!
//! This is the place of etcd and of `k8s.io/apiserver`'s `storage.Interface`
//! below the decoding. As in etcd, there is one revision counter, a transaction
//! takes one revision, watches start at any revision that is not compacted, and
//! reads can ask for an old one. What differs: revisions start at 1 and every
//! successful commit takes one, even if it changes nothing; a watch has a prefix
//! and no arbitrary range; a time to live belongs to a key and there are no
//! leases; one process at a time, so neither members nor quorum. For several API
//! servers on one store, use etcd.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `encryption` | `layer::EncryptionLayer`, AES-GCM for chosen prefixes | no |
//! | `etcd` | `EtcdStore`, for several API servers on one cluster | no |
//! | `testing` | the conformance kit and `FaultyStore` | no |
#![forbid(unsafe_code)]

mod embedded;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
pub mod layer;
mod memory;
mod state;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use embedded::{EmbeddedOptions, EmbeddedStore, Inventory};
pub use error::Error;
#[cfg(feature = "etcd")]
pub use etcd::{EtcdOptions, EtcdStore, EtcdTls};
pub use memory::{MemoryOptions, MemoryStore};
pub use state::{HistoryLimits, Limits, WatchLimits};
pub use store::{
    Change, Committed, Entry, Expect, List, Op, Page, Revision, Store, WatchBatch, WatchStream,
    Write,
};

//! Both backends keep the store's promises.

use k8s_store::{EmbeddedOptions, EmbeddedStore, MemoryOptions, MemoryStore, WatchLimits};
use tempfile::TempDir;

/// So few that a slow watcher is too slow.
const WATCH: WatchLimits = WatchLimits {
    buffer: 256,
    progress: None,
};

fn memory() -> MemoryStore {
    MemoryStore::with_options(MemoryOptions {
        watch: WATCH,
        ..MemoryOptions::default()
    })
}

mod memory_store {
    k8s_store::store_conformance!(async || (super::memory(), ()));
}

mod forked_memory_store {
    k8s_store::store_conformance!(async || {
        let original = super::memory();
        (original.fork(), original)
    });
}

async fn embedded(dir: &TempDir, snapshot_after: u64) -> EmbeddedStore {
    let options = EmbeddedOptions {
        watch: WATCH,
        snapshot_after,
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open_with(dir.path(), options)
        .await
        .expect("the directory is fresh")
}

mod embedded_store {
    use super::*;

    k8s_store::store_conformance!(async || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        (embedded(&dir, 16 << 20).await, dir)
    });

    k8s_store::durable_store_conformance!(
        || tempfile::tempdir().expect("a temporary directory"),
        async |dir: &TempDir| embedded(dir, 16 << 20).await,
    );
}

/// Snapshots as often as possible.
mod embedded_store_with_many_snapshots {
    use super::*;

    k8s_store::store_conformance!(async || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        (embedded(&dir, 1).await, dir)
    });

    k8s_store::durable_store_conformance!(
        || tempfile::tempdir().expect("a temporary directory"),
        async |dir: &TempDir| embedded(dir, 1).await,
    );
}

/// Everything below every layer that changes or looks at it.
#[cfg(feature = "encryption")]
mod layered_memory_store {
    use k8s_store::layer::{EncryptionKey, EncryptionLayer, MetricsLayer, TraceLayer};
    use tower_layer::{Layer, Stack};

    k8s_store::store_conformance!(async || {
        let key = EncryptionKey::try_new("a", &[7; 32]).expect("a key");
        let encryption = EncryptionLayer::try_new([""], vec![key]).expect("a layer");
        let layers = Stack::new(encryption, Stack::new(MetricsLayer::default(), TraceLayer));
        (layers.layer(super::memory()), ())
    });
}

//! Concurrent clients, faults, and a judgement of all that they saw.
//!
//! `K8S_STORE_HISTORY_ROUNDS=1000 cargo nextest run -p k8s-store --test checked` is a longer run: so
//! many histories of each store, with other seeds.

use std::{sync::Arc, time::Duration};

use k8s_store::{
    EmbeddedOptions, EmbeddedStore, MemoryStore, Store,
    layer::{FaultLayer, FaultPlan},
    testing::{HistoryPlan, Subject, check_history},
};
use tower_layer::Layer;

const FAULTS: FaultPlan = FaultPlan {
    seed: 0,
    delays: 0.1,
    delay: Duration::from_millis(2),
    errors_before: 0.05,
    errors_after: 0.05,
    watch_drops: 0.02,
    watch_duplicates: 0.0,
    crash: None,
};

/// How many histories to judge.
fn rounds() -> u64 {
    let rounds = std::env::var("K8S_STORE_HISTORY_ROUNDS");
    rounds.map_or(5, |rounds| rounds.parse().expect("a number of rounds"))
}

fn plan(seed: u64) -> HistoryPlan {
    HistoryPlan {
        seed,
        ..HistoryPlan::default()
    }
}

fn faulted(seed: u64, store: impl Store) -> Subject {
    let plan = FaultPlan { seed, ..FAULTS };
    Arc::new(FaultLayer::new(plan).layer(store))
}

async fn embedded(dir: &tempfile::TempDir) -> EmbeddedStore {
    let options = EmbeddedOptions {
        // Files come and go all the time.
        snapshot_after: 20_000,
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open_with(dir.path(), options)
        .await
        .expect("a store")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_is_strictly_serializable() {
    for seed in 0..rounds() {
        check_history(Arc::new(MemoryStore::new()), plan(seed)).await;
        check_history(faulted(seed, MemoryStore::new()), plan(seed)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_is_strictly_serializable_across_restarts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for seed in 0..rounds() {
        let store = embedded(&dir).await;
        check_history(Arc::new(store.clone()), plan(2 * seed)).await;
        check_history(faulted(seed, store.clone()), plan(2 * seed + 1)).await;
        store.close().await.expect("all is on disk");
    }
}

#[cfg(feature = "encryption")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_take_nothing_away() {
    use k8s_store::layer::{EncryptionKey, EncryptionLayer, MetricsLayer, TraceLayer};
    use tower_layer::Stack;
    let key = EncryptionKey::try_new("a", &[7; 32]).expect("a key");
    let encryption = EncryptionLayer::try_new(["a/"], vec![key]).expect("a layer");
    let layers = Stack::new(encryption, Stack::new(MetricsLayer::default(), TraceLayer));
    check_history(Arc::new(layers.layer(MemoryStore::new())), plan(1)).await;
}

//! [`Source`]: the webhooks that there are now.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::hook::{Configuration, Hook};
use crate::{
    admission::{
        AdmissionError,
        follow::Follower,
        reader::{ObjectReader, RawEvent},
    },
    webhook::Clients,
};

/// How long a request waits for the first look at the configurations; as upstream.
const PATIENCE: Duration = Duration::from_secs(10);

/// The webhooks that there are now: those of all configurations, which come in the order of their names.
#[derive(Debug)]
pub(super) struct Source {
    hooks: Arc<ArcSwap<Vec<Arc<Hook>>>>,
    follower: Follower,
    ready: OnceCell<()>,
}

impl Source {
    /// Follows the configurations of one sort.
    pub(super) fn follow(reader: &Arc<dyn ObjectReader>, resource: &'static str) -> Self {
        let hooks = Arc::new(ArcSwap::default());
        let mut follower = Follower::new();
        let clients = Clients::new(reader.clone());
        let mut known: BTreeMap<String, Vec<Arc<Hook>>> = BTreeMap::new();
        let shared = hooks.clone();
        let group = "admissionregistration.k8s.io";
        follower.follow(&**reader, group, resource, move |event| {
            match event {
                RawEvent::Snapshot(all) => {
                    let all = all.iter().filter_map(decode);
                    known = all
                        .map(|c| (c.name().to_owned(), c.into_hooks(&clients)))
                        .collect();
                }
                RawEvent::Applied(json) => {
                    if let Some(configuration) = decode(&json) {
                        let name = configuration.name().to_owned();
                        known.insert(name, configuration.into_hooks(&clients));
                    }
                }
                RawEvent::Deleted(json) => {
                    if let Some(configuration) = decode(&json) {
                        known.remove(configuration.name());
                    }
                }
            }
            shared.store(Arc::new(known.values().flatten().cloned().collect()));
        });
        Source {
            hooks,
            follower,
            ready: OnceCell::new(),
        }
    }

    /// The webhooks that there are now.
    pub(super) async fn hooks(&self) -> Result<Arc<Vec<Arc<Hook>>>, AdmissionError> {
        if !self.ready.initialized() {
            tokio::time::timeout(PATIENCE, self.ready.get_or_init(|| self.follower.synced()))
                .await
                .map_err(|_| AdmissionError::forbidden("not yet ready to handle request"))?;
        }
        Ok(self.hooks.load_full())
    }
}

fn decode(json: &Bytes) -> Option<Configuration> {
    match serde_json::from_slice(json) {
        Ok(configuration) => Some(configuration),
        Err(error) => {
            tracing::error!(%error, "a stored webhook configuration cannot be decoded");
            None
        }
    }
}

//! [`Source`]: the policies that are bound now.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{Binding, Policy, binding, policy};
use crate::admission::{
    AdmissionError,
    follow::Follower,
    reader::{ObjectReader, RawEvent},
};

const GROUP: &str = "admissionregistration.k8s.io";
/// How long a request waits for the first look at the policies; as upstream.
const PATIENCE: Duration = Duration::from_secs(10);

/// A policy with its bindings.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

/// The policies that are bound now, in the order of their names.
#[derive(Debug)]
pub(super) struct Source {
    bound: Arc<ArcSwap<Vec<Bound>>>,
    follower: Follower,
    ready: OnceCell<()>,
}

#[derive(Default)]
struct Known {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
}

impl Known {
    fn bound(&self) -> Vec<Bound> {
        let policies = self.policies.values().map(|policy| Bound {
            policy: policy.clone(),
            bindings: self
                .bindings
                .values()
                .filter(|binding| binding.policy == policy.name)
                .cloned()
                .collect(),
        });
        policies
            .filter(|bound| !bound.bindings.is_empty())
            .collect()
    }
}

impl Source {
    /// Follows the policies of one sort and their bindings: the plural names of both.
    pub(super) fn follow(reader: &Arc<dyn ObjectReader>, resources: [&'static str; 2]) -> Self {
        let bound: Arc<ArcSwap<Vec<Bound>>> = Arc::default();
        let known: Arc<Mutex<Known>> = Arc::default();
        let mut follower = Follower::new();
        let [policies, bindings] = resources;
        let (shared, all) = (bound.clone(), known.clone());
        follower.follow(&**reader, GROUP, policies, move |event| {
            let mut known = all.lock();
            take(&mut known.policies, event, |wire: policy::Wire| {
                let policy = Policy::from(wire);
                (policy.name.clone(), policy)
            });
            shared.store(Arc::new(known.bound()));
        });
        let (shared, all) = (bound.clone(), known);
        follower.follow(&**reader, GROUP, bindings, move |event| {
            let mut known = all.lock();
            take(&mut known.bindings, event, |wire: binding::Wire| {
                let binding = Binding::from(wire);
                (binding.name.clone(), binding)
            });
            shared.store(Arc::new(known.bound()));
        });
        Source {
            bound,
            follower,
            ready: OnceCell::new(),
        }
    }

    /// The policies that are bound now.
    pub(super) async fn bound(&self) -> Result<Arc<Vec<Bound>>, AdmissionError> {
        if !self.ready.initialized() {
            tokio::time::timeout(PATIENCE, self.ready.get_or_init(|| self.follower.synced()))
                .await
                .map_err(|_| AdmissionError::forbidden("not yet ready to handle request"))?;
        }
        Ok(self.bound.load_full())
    }
}

/// Keeps up with an event.
fn take<W: DeserializeOwned, T>(
    known: &mut BTreeMap<String, Arc<T>>,
    event: RawEvent,
    compile: impl Fn(W) -> (String, T),
) {
    let compiled = |json: &Bytes| match serde_json::from_slice::<W>(json) {
        Ok(wire) => {
            let (name, compiled) = compile(wire);
            Some((name, Arc::new(compiled)))
        }
        Err(error) => {
            tracing::error!(%error, "a stored admission policy cannot be decoded");
            None
        }
    };
    match event {
        RawEvent::Snapshot(all) => *known = all.iter().filter_map(compiled).collect(),
        RawEvent::Applied(json) => known.extend(compiled(&json)),
        RawEvent::Deleted(json) => {
            if let Some((name, _)) = compiled(&json) {
                known.remove(&name);
            }
        }
    }
}

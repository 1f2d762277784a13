//! [`VolumeBinding`].

mod bind;
mod find;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use kube::Client;

use crate::{
    framework::{
        CycleState, EventKind, Filter, Plugin, PreBind, PreFilter, PreFilterResult, Reserve, Status,
    },
    snapshot::{NodeInfo, PodInfo, PodVolume, Snapshot},
};
use find::{Decision, Wanted};

/// Sees to it that a pod's claims can have their volumes on its node, and binds those that wait for
/// their first consumer (KEP-490).
///
/// Claims with a class of binding mode `WaitForFirstConsumer` are bound here: to a volume that is there and
/// can be reached from the node, or to one that is made for the node.
#[derive(Debug, Default)]
pub struct VolumeBinding {
    /// Volumes that claims will be bound to, by name, with the claims' UIDs: until the API says so itself.
    reserved: Mutex<BTreeMap<String, String>>,
}

/// The names of a pod's claims.
pub(super) fn claims(pod: &PodInfo) -> impl Iterator<Item = String> + '_ {
    pod.shape()
        .volumes
        .iter()
        .filter_map(|volume| match volume {
            PodVolume::Claim(name) => Some(name.clone()),
            PodVolume::Ephemeral(volume) => Some(format!("{}-{volume}", pod.name())),
            PodVolume::Disk { .. } | PodVolume::Csi(_) => None,
        })
}

impl VolumeBinding {
    fn reserved(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Node | EventKind::Storage)
    }
}

impl PreFilter for VolumeBinding {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        if claims(pod).next().is_none() {
            return Ok(PreFilterResult::skip());
        }
        let reserved: BTreeSet<String> = self.reserved().keys().cloned().collect();
        let wanted = Wanted::of(pod, snapshot.objects(), &reserved)?;
        state.put(Arc::new(wanted));
        Ok(PreFilterResult::all())
    }
}

impl Filter for VolumeBinding {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        match state.get::<Arc<Wanted>>() {
            Some(wanted) => wanted.decide(node).map(drop),
            None => Ok(()),
        }
    }
}

impl Reserve for VolumeBinding {
    fn reserve(&self, state: &mut CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let Some(wanted) = state.get::<Arc<Wanted>>().cloned() else {
            return Ok(());
        };
        let decision = wanted.decide(node)?;
        let mut reserved = self.reserved();
        for (volume, claim) in &decision.bindings {
            let uid = claim.metadata.uid.clone().unwrap_or_default();
            reserved.insert(volume.metadata.name.clone().unwrap_or_default(), uid);
        }
        drop(reserved);
        state.put(decision);
        Ok(())
    }

    fn unreserve(&self, state: &CycleState, _: &PodInfo, _: &str) {
        self.release(state);
    }
}

impl VolumeBinding {
    fn release(&self, state: &CycleState) {
        let mut reserved = self.reserved();
        for (volume, claim) in state
            .get::<Decision>()
            .into_iter()
            .flat_map(|d| &d.bindings)
        {
            let name = volume.metadata.name.clone().unwrap_or_default();
            if reserved.get(&name) == claim.metadata.uid.as_ref() {
                reserved.remove(&name);
            }
        }
    }
}

#[async_trait]
impl PreBind for VolumeBinding {
    async fn pre_bind(
        &self,
        client: &Client,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<(), Status> {
        let Some(decision) = state.get::<Decision>() else {
            return Ok(());
        };
        if !decision.is_nothing() {
            bind::write(client, decision, node).await?;
            bind::wait(client, decision, pod, node).await?;
        }
        self.release(state);
        Ok(())
    }
}

//! [`VolumeZone`].

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::volume_binding::claims;
use crate::{
    framework::{CycleState, EventKind, Filter, Plugin, PreFilter, PreFilterResult, Status},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// The labels of volumes that say where they are.
const LABELS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// Pods go to the zones of their volumes, where labels of the volumes name those.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeZone;

/// A label, and the values that will do.
#[derive(Clone, Debug)]
struct Zones(Vec<(&'static str, Vec<String>)>);

fn zones(volume: &PersistentVolume) -> impl Iterator<Item = (&'static str, Vec<String>)> {
    let labels = volume.metadata.labels.as_ref();
    LABELS.into_iter().filter_map(move |key| {
        let value = labels?.get(key)?;
        Some((key, value.split("__").map(str::to_owned).collect()))
    })
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Node | EventKind::Storage)
    }
}

impl PreFilter for VolumeZone {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let objects = snapshot.objects();
        let volume = |name: String| -> Option<&Arc<PersistentVolume>> {
            let claim = objects.claim(pod.namespace(), &name)?;
            objects.volume(claim.spec.as_ref()?.volume_name.as_deref()?)
        };
        let volumes = claims(pod).filter_map(volume);
        let zones: Vec<_> = volumes.flat_map(|v| zones(v)).collect();
        if zones.is_empty() {
            return Ok(PreFilterResult::skip());
        }
        state.put(Zones(zones));
        Ok(PreFilterResult::all())
    }
}

impl Filter for VolumeZone {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        // A cluster without zones has none to violate.
        if !LABELS.iter().any(|key| node.label(key).is_some()) {
            return Ok(());
        }
        let Some(Zones(zones)) = state.get() else {
            return Ok(());
        };
        let is_there = |(key, values): &(&str, Vec<String>)| {
            node.label(key)
                .is_some_and(|zone| values.iter().any(|v| v == zone))
        };
        if zones.iter().all(is_there) {
            Ok(())
        } else {
            Err(Status::unresolvable("node(s) had no available volume zone"))
        }
    }
}

//! [`NodeVolumeLimits`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::volume_binding::claims;
use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Filter, Plugin, PreFilter, PreFilterResult, Status,
    },
    snapshot::{NodeInfo, Objects, PodInfo, Snapshot},
};

/// Keeps the number of a CSI driver's volumes on a node to what the driver says the node can take.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeVolumeLimits;

#[derive(Clone, Debug)]
struct Wanted {
    objects: Arc<Objects>,
    volumes: BTreeSet<(String, String)>,
}

/// The CSI volumes of a pod's claims: driver and handle. A claim that has none yet counts for itself, with the
/// driver that will make it.
fn volumes(pod: &PodInfo, objects: &Objects) -> impl Iterator<Item = (String, String)> {
    let namespace = pod.namespace().to_owned();
    claims(pod).filter_map(move |name| {
        let spec = objects.claim(&namespace, &name)?.spec.as_ref()?;
        match spec.volume_name.as_deref().filter(|v| !v.is_empty()) {
            Some(volume) => {
                let csi = objects.volume(volume)?.spec.as_ref()?.csi.as_ref()?;
                Some((csi.driver.clone(), csi.volume_handle.clone()))
            }
            None => {
                let class = objects.class(spec.storage_class_name.as_deref()?)?;
                Some((class.provisioner.clone(), format!("{namespace}/{name}")))
            }
        }
    })
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::Node | EventKind::Storage | EventKind::AssignedPodDelete
        )
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _: &PodInfo) -> bool {
        match event {
            ClusterEvent::AssignedPodDelete(gone) => claims(gone).next().is_some(),
            _ => true,
        }
    }
}

impl PreFilter for NodeVolumeLimits {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let volumes: BTreeSet<_> = volumes(pod, snapshot.objects()).collect();
        if volumes.is_empty() {
            return Ok(PreFilterResult::skip());
        }
        state.put(Wanted {
            objects: snapshot.shared_objects().clone(),
            volumes,
        });
        Ok(PreFilterResult::all())
    }
}

impl Filter for NodeVolumeLimits {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let Some(wanted) = state.get::<Wanted>() else {
            return Ok(());
        };
        let Some(csi_node) = wanted.objects.csi_node(node.name()) else {
            return Ok(());
        };
        let drivers = csi_node.spec.drivers.iter();
        let limits: BTreeMap<&str, usize> = drivers
            .filter_map(|d| {
                let count = d.allocatable.as_ref()?.count?;
                Some((d.name.as_str(), usize::try_from(count).unwrap_or(0)))
            })
            .collect();
        if limits.is_empty() {
            return Ok(());
        }
        let pods = node.pods().iter();
        let there: BTreeSet<_> = pods.flat_map(|p| volumes(p, &wanted.objects)).collect();
        for (driver, limit) in limits {
            let of = |volumes: &BTreeSet<(String, String)>| {
                volumes.iter().filter(|(d, _)| d == driver).count()
            };
            let new = wanted
                .volumes
                .iter()
                .filter(|v| v.0 == driver && !there.contains(v));
            let new = new.count();
            if new > 0 && of(&there) + new > limit {
                return Err(Status::unschedulable("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }
}

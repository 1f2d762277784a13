//! [`VolumeRestrictions`].

use std::collections::BTreeSet;

use super::volume_binding::claims;
use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Filter, Plugin, PreFilter, PreFilterResult, Status,
    },
    snapshot::{NodeInfo, PodInfo, PodVolume, Snapshot},
};

const DISK: &str = "node(s) had no available disk";
const ONE_POD: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

/// Keeps pods apart that cannot have a volume at the same time: disks that are attached to one node for writing,
/// and claims that only one pod may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeRestrictions;

/// The pod's claims that only one pod may use, and how many other pods use one.
#[derive(Clone, Debug)]
struct OnePod {
    claims: BTreeSet<String>,
    others: i64,
}

impl OnePod {
    fn uses(&self, pod: &PodInfo, other: &PodInfo) -> i64 {
        let is_shared = other.namespace() == pod.namespace()
            && claims(other).any(|claim| self.claims.contains(&claim));
        i64::from(is_shared)
    }
}

fn disks(pod: &PodInfo) -> impl Iterator<Item = &PodVolume> {
    let volumes = pod.shape().volumes.iter();
    volumes.filter(|v| matches!(v, PodVolume::Disk { .. }))
}

fn conflict(a: &PodVolume, b: &PodVolume) -> bool {
    match (a, b) {
        (
            PodVolume::Disk {
                id,
                read_only,
                shares_read_only,
            },
            PodVolume::Disk {
                id: other,
                read_only: other_read_only,
                ..
            },
        ) => id == other && !(*shares_read_only && *read_only && *other_read_only),
        _ => false,
    }
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::Node | EventKind::Storage | EventKind::AssignedPodDelete
        )
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::AssignedPodDelete(gone) => {
                disks(pod).any(|a| disks(gone).any(|b| conflict(a, b)))
                    || (gone.namespace() == pod.namespace()
                        && claims(pod).any(|a| claims(gone).any(|b| a == b)))
            }
            _ => true,
        }
    }
}

impl PreFilter for VolumeRestrictions {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        if pod.shape().volumes.is_empty() {
            return Ok(PreFilterResult::skip());
        }
        let is_for_one = |name: &String| {
            let claim = snapshot.objects().claim(pod.namespace(), name);
            let modes = claim.and_then(|c| c.spec.as_ref()?.access_modes.as_ref());
            modes.is_some_and(|modes| modes.iter().any(|m| m == "ReadWriteOncePod"))
        };
        let mut one_pod = OnePod {
            claims: claims(pod).filter(is_for_one).collect(),
            others: 0,
        };
        if one_pod.claims.is_empty() && disks(pod).next().is_none() {
            return Ok(PreFilterResult::skip());
        }
        if !one_pod.claims.is_empty() {
            let others = snapshot.pods().filter(|other| other.uid() != pod.uid());
            one_pod.others = others.map(|other| one_pod.uses(pod, other)).sum();
        }
        state.put(one_pod);
        Ok(PreFilterResult::all())
    }

    fn add_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        added: &PodInfo,
        _: &NodeInfo,
        _: &Snapshot,
    ) {
        if let Some(one_pod) = state.get_mut::<OnePod>() {
            one_pod.others += one_pod.uses(pod, added);
        }
    }

    fn remove_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        removed: &PodInfo,
        _: &NodeInfo,
        _: &Snapshot,
    ) {
        if let Some(one_pod) = state.get_mut::<OnePod>() {
            one_pod.others -= one_pod.uses(pod, removed);
        }
    }
}

impl Filter for VolumeRestrictions {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let mut others = node.pods().iter().flat_map(|p| disks(p));
        if others.any(|other| disks(pod).any(|disk| conflict(disk, other))) {
            return Err(Status::unschedulable(DISK));
        }
        match state.get::<OnePod>() {
            Some(one_pod) if one_pod.others > 0 => Err(Status::unschedulable(ONE_POD)),
            _ => Ok(()),
        }
    }
}

//! [`ClusterEvent`]: what could let a waiting pod fit.

use crate::snapshot::{NodeInfo, Object, PodInfo, ResourceClaim};

/// Something that changed in the cluster and could let a waiting pod fit.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ClusterEvent<'a> {
    /// A node was added.
    NodeAdd(&'a NodeInfo),
    /// A node changed: its allocatable resources, labels or taints.
    NodeUpdate(&'a NodeInfo),
    /// A node is gone: where spreading counts domains, fewer of them may help.
    NodeDelete(&'a NodeInfo),
    /// A pod came to a node.
    AssignedPodAdd(&'a PodInfo),
    /// A pod on a node changed its labels or requests, or is being deleted.
    AssignedPodUpdate(&'a PodInfo),
    /// A pod that was bound to a node is gone or has ended.
    AssignedPodDelete(&'a PodInfo),
    /// The waiting pod itself changed.
    PodUpdate,
    /// One of the other objects was added or changed.
    Object(&'a Object),
    /// One of the other objects is gone.
    ObjectDelete(&'a Object),
    /// This claim has given its devices back. As it is now; only its name is sure if it is gone.
    DevicesFreed(&'a ResourceClaim),
    /// Another pod was permitted, or began to wait for its permission.
    Permit,
}

/// What kind of [`ClusterEvent`]: plugins name those that concern them at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A node was added or changed.
    Node,
    /// A node is gone.
    NodeDelete,
    /// A pod came to a node.
    AssignedPodAdd,
    /// A pod on a node changed.
    AssignedPodUpdate,
    /// A pod left its node.
    AssignedPodDelete,
    /// The waiting pod itself changed.
    PodUpdate,
    /// An object about volumes changed.
    Storage,
    /// An object about devices changed.
    Devices,
    /// Another object changed.
    Object,
    /// Another pod was permitted.
    Permit,
}

impl ClusterEvent<'_> {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            ClusterEvent::NodeAdd(_) | ClusterEvent::NodeUpdate(_) => EventKind::Node,
            ClusterEvent::NodeDelete(_) => EventKind::NodeDelete,
            ClusterEvent::AssignedPodAdd(_) => EventKind::AssignedPodAdd,
            ClusterEvent::AssignedPodUpdate(_) => EventKind::AssignedPodUpdate,
            ClusterEvent::AssignedPodDelete(_) => EventKind::AssignedPodDelete,
            ClusterEvent::PodUpdate => EventKind::PodUpdate,
            ClusterEvent::Permit => EventKind::Permit,
            ClusterEvent::DevicesFreed(_) => EventKind::Devices,
            ClusterEvent::Object(object) | ClusterEvent::ObjectDelete(object) => match object {
                Object::PersistentVolume(_)
                | Object::PersistentVolumeClaim(_)
                | Object::StorageClass(_)
                | Object::CsiNode(_)
                | Object::CsiDriver(_)
                | Object::CsiStorageCapacity(_) => EventKind::Storage,
                Object::ResourceClaim(_)
                | Object::ResourceSlice(_)
                | Object::DeviceClass(_)
                | Object::DeviceTaintRule(_) => EventKind::Devices,
                _ => EventKind::Object,
            },
        }
    }
}

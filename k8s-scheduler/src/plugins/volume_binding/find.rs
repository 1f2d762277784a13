//! Which volumes a pod's claims can have on a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_model::{labels::Selector, quantity::Amount};
use k8s_openapi::{
    api::{
        core::v1::{
            PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            TopologySelectorTerm,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::claims;
use crate::{
    framework::{Code, Status},
    plugins::selector,
    snapshot::{NodeInfo, Objects, PodInfo},
};

const NODE_CONFLICT: &str = "node(s) had volume node affinity conflict";
const NOT_FOUND: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A claim that waits for its first consumer.
#[derive(Clone, Debug)]
struct Unbound {
    claim: Arc<PersistentVolumeClaim>,
    /// Volumes that would do, the smallest first.
    volumes: Vec<Arc<PersistentVolume>>,
    /// How one is made; `None` if that can't be.
    provision: Option<Provision>,
    /// The node that one is being made for.
    selected: Option<String>,
}

#[derive(Clone, Debug)]
struct Provision {
    topologies: Vec<TopologySelectorTerm>,
    /// Where there is room; `None` if that is not tracked.
    room: Option<Vec<Selector>>,
}

/// What a pod's claims need.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    bound: Vec<Arc<PersistentVolume>>,
    lacks_volumes: bool,
    unbound: Vec<Unbound>,
}

/// What is to be done for them on one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Decision {
    pub(super) bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    pub(super) provisions: Vec<Arc<PersistentVolumeClaim>>,
}

impl Decision {
    pub(super) fn is_nothing(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

fn bytes(quantity: Option<&Quantity>) -> i64 {
    let amount = quantity.and_then(|q| Amount::try_from(q).ok());
    amount.map_or(0, |a| a.value())
}

fn requested(spec: &PersistentVolumeClaimSpec) -> i64 {
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    bytes(requests.and_then(|r| r.get("storage")))
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    bytes(capacity.and_then(|c| c.get("storage")))
}

impl Wanted {
    pub(super) fn of(
        pod: &PodInfo,
        objects: &Objects,
        reserved: &BTreeSet<String>,
    ) -> Result<Self, Status> {
        let mut wanted = Self {
            bound: Vec::new(),
            lacks_volumes: false,
            unbound: Vec::new(),
        };
        let mut is_immediate = false;
        for name in claims(pod) {
            let Some(claim) = objects.claim(pod.namespace(), &name) else {
                let is_ephemeral = !pod.shape().volumes.iter().any(
                    |v| matches!(v, crate::snapshot::PodVolume::Claim(claim) if *claim == name),
                );
                return Err(Status::unresolvable(if is_ephemeral {
                    format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    )
                } else {
                    format!("persistentvolumeclaim \"{name}\" not found")
                }));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                let text = format!("persistentvolumeclaim \"{name}\" is being deleted");
                return Err(Status::unresolvable(text));
            }
            let Some(spec) = &claim.spec else { continue };
            let volume = spec.volume_name.as_deref().filter(|v| !v.is_empty());
            let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
            if phase == Some("Lost") {
                let volume = volume.unwrap_or_default();
                return Err(Status::unresolvable(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                )));
            }
            let annotations = claim.metadata.annotations.as_ref();
            let is_complete =
                annotations.is_some_and(|a| a.contains_key("pv.kubernetes.io/bind-completed"));
            if let Some(volume) = volume {
                if is_complete || phase == Some("Bound") {
                    match objects.volume(volume) {
                        Some(volume) => wanted.bound.push(volume.clone()),
                        None => wanted.lacks_volumes = true,
                    }
                } else {
                    is_immediate = true;
                }
                continue;
            }
            let class = spec
                .storage_class_name
                .as_deref()
                .and_then(|c| objects.class(c));
            match class.filter(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
            {
                None => is_immediate = true,
                Some(class) => {
                    wanted
                        .unbound
                        .push(unbound(claim, spec, class, objects, reserved));
                }
            }
        }
        if is_immediate {
            let text = "pod has unbound immediate PersistentVolumeClaims";
            return Err(Status::unresolvable(text));
        }
        Ok(wanted)
    }

    /// What is to be done on a node.
    pub(super) fn decide(&self, node: &NodeInfo) -> Result<Decision, Status> {
        let mut reasons = Vec::new();
        if !self.bound.iter().all(|volume| is_reachable(volume, node)) {
            reasons.push(NODE_CONFLICT.into());
        }
        let decision = self.find(node);
        match &decision {
            Err(reason) => reasons.push((*reason).into()),
            Ok(_) if self.lacks_volumes => reasons.push(NO_VOLUME.into()),
            Ok(_) => {}
        }
        match decision {
            Ok(decision) if reasons.is_empty() => Ok(decision),
            _ => Err(Status {
                code: Code::UnschedulableAndUnresolvable,
                reasons,
                plugin: "",
            }),
        }
    }

    fn find(&self, node: &NodeInfo) -> Result<Decision, &'static str> {
        let mut decision = Decision::default();
        for unbound in &self.unbound {
            if let Some(selected) = &unbound.selected {
                if selected != node.name() {
                    return Err(NOT_FOUND);
                }
            } else {
                let taken = |volume: &Arc<PersistentVolume>| {
                    decision
                        .bindings
                        .iter()
                        .any(|(v, _)| v.metadata.name == volume.metadata.name)
                };
                let mut volumes = unbound.volumes.iter();
                if let Some(volume) = volumes.find(|v| !taken(v) && is_reachable(v, node)) {
                    decision
                        .bindings
                        .push((volume.clone(), unbound.claim.clone()));
                    continue;
                }
            }
            let Some(provision) = &unbound.provision else {
                return Err(NOT_FOUND);
            };
            if !is_allowed(&provision.topologies, node) {
                return Err(NOT_FOUND);
            }
            if let Some(room) = &provision.room {
                let labels = node.labels().iter();
                let labels: BTreeMap<String, String> = labels
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect();
                if !room.iter().any(|s| s.matches(&labels)) {
                    return Err(NO_SPACE);
                }
            }
            decision.provisions.push(unbound.claim.clone());
        }
        Ok(decision)
    }
}

fn unbound(
    claim: &Arc<PersistentVolumeClaim>,
    spec: &PersistentVolumeClaimSpec,
    class: &StorageClass,
    objects: &Objects,
    reserved: &BTreeSet<String>,
) -> Unbound {
    let volumes = objects.volumes().filter(|volume| {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        !reserved.contains(name) && is_match(volume, claim, spec)
    });
    let mut volumes: Vec<_> = volumes.cloned().collect();
    volumes.sort_by_key(|v| capacity(v));
    let annotations = claim.metadata.annotations.as_ref();
    Unbound {
        claim: claim.clone(),
        volumes,
        provision: (class.provisioner != "kubernetes.io/no-provisioner"
            && !class.provisioner.is_empty())
        .then(|| Provision {
            topologies: class.allowed_topologies.clone().unwrap_or_default(),
            room: room(class, requested(spec), objects),
        }),
        selected: annotations.and_then(|a| a.get(SELECTED_NODE)).cloned(),
    }
}

/// Whether a claim can be bound to a volume, on whatever node.
fn is_match(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    wanted: &PersistentVolumeClaimSpec,
) -> bool {
    let Some(spec) = &volume.spec else {
        return false;
    };
    if let Some(reference) = &spec.claim_ref {
        let is_ours = reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && reference
                .uid
                .as_ref()
                .is_none_or(|uid| Some(uid) == claim.metadata.uid.as_ref());
        if !is_ours {
            return false;
        }
    } else if volume.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Available") {
        return false;
    }
    let modes = |modes: &Option<Vec<String>>| modes.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let has = modes(&spec.access_modes);
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let selector = wanted.selector.as_ref().map(Selector::try_from);
    volume.metadata.deletion_timestamp.is_none()
        && spec.storage_class_name.as_deref().unwrap_or_default()
            == wanted.storage_class_name.as_deref().unwrap_or_default()
        && modes(&wanted.access_modes).iter().all(|m| has.contains(m))
        && mode(&spec.volume_mode) == mode(&wanted.volume_mode)
        && capacity(volume) >= requested(wanted)
        && selector.is_none_or(|s| s.is_ok_and(|s| s.matches(&labels)))
}

/// The nodes where the driver says that there is room; `None` if it says nothing.
fn room(class: &StorageClass, size: i64, objects: &Objects) -> Option<Vec<Selector>> {
    let driver = objects.csi_driver(&class.provisioner)?;
    if driver.spec.storage_capacity != Some(true) {
        return None;
    }
    let capacities = objects.capacities().filter(|c| {
        let largest = c.maximum_volume_size.as_ref().or(c.capacity.as_ref());
        Some(&c.storage_class_name) == class.metadata.name.as_ref() && bytes(largest) >= size
    });
    Some(
        capacities
            .filter_map(|c| Selector::try_from(c.node_topology.as_ref()).ok())
            .collect(),
    )
}

fn is_reachable(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required.as_ref());
    required.is_none_or(|r| {
        r.node_selector_terms
            .iter()
            .any(|t| selector::matches(t, node))
    })
}

fn is_allowed(topologies: &[TopologySelectorTerm], node: &NodeInfo) -> bool {
    topologies.is_empty()
        || topologies.iter().any(|term| {
            term.match_label_expressions.iter().flatten().all(|r| {
                node.label(&r.key)
                    .is_some_and(|value| r.values.iter().any(|v| v == value))
            })
        })
}

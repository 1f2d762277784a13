//! [`DynamicResources`].

mod allocator;
mod bind;
mod books;
mod capacity;
mod claims;
mod constraint;
mod in_flight;
mod result;
mod search;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::NodeSelector;
use kube::Client;

use self::{
    in_flight::{Ahead, InFlight},
    search::{Failure, Search},
};
use super::selector::matches_any;
use crate::{
    framework::{
        ClaimRef, ClusterEvent, CycleState, EventKind, Feasible, Filter, Nominated, Normalization,
        Plugin, PostFilter, PreBind, PreEnqueue, PreFilter, PreFilterResult, PreScore, Reserve,
        Score, Status,
    },
    schedule::{Filters, NodeStatuses},
    snapshot::{
        Devices, NodeInfo, Object, PodInfo, ResourceClaim, Snapshot, devices::wire::Allocation,
    },
};

const ELSEWHERE: &str = "resourceclaim not available on the node";

/// Gives pods the devices that they claim (dynamic resource allocation, KEP-4381).
///
/// A claim asks for devices of classes, by expressions over what drivers say of them in ResourceSlices. One that has none
/// yet gets them together with the node of the first pod that needs it; one that has some keeps its pods where those can be
/// used. Lists of alternatives (KEP-4816), access for administration (KEP-5018), devices that share counters (KEP-4815) or
/// have capacity to share (KEP-5075), taints (KEP-5055) and binding conditions (KEP-5007) are understood. Extended
/// resources that classes stand for (KEP-5004) are not.
///
/// Pods without claims cost nothing here. A pod with claims may have 200,000 devices looked at for each node, and five
/// million in all; upstream gives up after ten seconds instead.
///
/// Remembers what it gave away until the API shows it: all profiles of a scheduler must share one, as clones of one
/// [`Profile`](crate::Profile) and the profiles of one configuration file do.
#[derive(Debug, Default)]
pub struct DynamicResources {
    in_flight: Mutex<InFlight>,
}

/// The claims of a pod in one cycle.
#[derive(Debug)]
struct Known {
    claims: Vec<Arc<ResourceClaim>>,
    /// For those that have no devices.
    search: Option<Search>,
}

/// What is to be written of a claim.
#[derive(Clone, Debug)]
struct Binding {
    claim: Arc<ResourceClaim>,
    /// Its devices, if it has none yet.
    allocation: Option<Allocation>,
}

/// Of all claims that the pod is not noted on.
#[derive(Clone, Debug)]
struct Bindings(Vec<Binding>);

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Node(text) => Status::unresolvable(text),
            Failure::Claim(text) => Status::error(text),
        }
    }
}

fn selector(claim: &ResourceClaim) -> Option<&NodeSelector> {
    claim.status.allocation.as_ref()?.node_selector.as_ref()
}

fn is_elsewhere(claim: &ResourceClaim, node: &NodeInfo) -> bool {
    selector(claim).is_some_and(|selector| !matches_any(selector, node))
}

impl DynamicResources {
    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        let in_flight = self.in_flight.lock();
        in_flight.unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, pod: &PodInfo, devices: &Devices) -> Result<Known, Status> {
        let mut claims = claims::of(pod, devices).map_err(Status::unresolvable)?;
        let mut in_flight = self.in_flight();
        in_flight.catch_up(devices);
        let mut missing = Vec::new();
        for claim in &mut claims {
            match in_flight.ahead(claim.uid()) {
                Some(Ahead::Written(written)) => *claim = written,
                Some(Ahead::Pending) if claim.status.allocation.is_none() => {
                    return Err(Status::unresolvable(format!(
                        "resource claim {} is in the process of being allocated",
                        claim.key()
                    )));
                }
                _ => {}
            }
            if claim.status.allocation.is_none() {
                check_classes(claim, devices)?;
                missing.push(claim.clone());
            }
        }
        let search = match missing.is_empty() {
            true => None,
            false => {
                let taken = in_flight.taken(devices);
                Some(Search::new(missing, devices, taken).map_err(Status::error)?)
            }
        };
        Ok(Known { claims, search })
    }
}

fn check_classes(claim: &ResourceClaim, devices: &Devices) -> Result<(), Status> {
    for request in &claim.spec.devices.requests {
        for wanted in request.alternatives() {
            let name = match &request.exactly {
                Some(_) => request.name.clone(),
                None => format!("{}/{}", request.name, wanted.name),
            };
            let class = &wanted.device_class_name;
            if class.is_empty() {
                let text = format!("request {name}: unsupported request type");
                return Err(Status::error(text));
            }
            if devices.class(class).is_none() {
                let text = format!("request {name}: device class {class} does not exist");
                return Err(Status::unresolvable(text));
            }
        }
        if request.alternatives().is_empty() {
            let text = format!("request {}: unsupported request type", request.name);
            return Err(Status::error(text));
        }
    }
    Ok(())
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::Node
                | EventKind::PodUpdate
                | EventKind::Devices
                | EventKind::AssignedPodDelete
        )
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::Object(Object::ResourceClaim(claim)) => {
                claims::uses(pod, claim.namespace(), claim.name())
            }
            ClusterEvent::ObjectDelete(Object::ResourceClaim(_) | Object::DeviceClass(_)) => false,
            // One whose devices were about to be written, and are free again.
            ClusterEvent::AssignedPodDelete(gone) => !claims::named(gone).is_empty(),
            _ => true,
        }
    }
}

impl PreEnqueue for DynamicResources {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Status> {
        if claims::named(pod).is_empty() || claims::are_made(pod) {
            return Ok(());
        }
        // Nothing to tell anybody: it is made in a moment, or an event says why not.
        Err(Status {
            reasons: Vec::new(),
            ..Status::unresolvable("")
        })
    }
}

impl PreFilter for DynamicResources {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        if claims::named(pod).is_empty() {
            return Ok(PreFilterResult::skip());
        }
        let known = self.known(pod, snapshot.objects().devices())?;
        if known.claims.is_empty() {
            return Ok(PreFilterResult::skip());
        }
        state.put(Arc::new(known));
        Ok(PreFilterResult::all())
    }
}

impl Filter for DynamicResources {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let Some(known) = state.get::<Arc<Known>>() else {
            return Ok(());
        };
        if let Some(search) = &known.search {
            search.check(node)?;
        }
        if known.claims.iter().any(|claim| is_elsewhere(claim, node)) {
            return Err(Status::unresolvable(ELSEWHERE));
        }
        Ok(())
    }
}

impl PostFilter for DynamicResources {
    fn post_filter(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        _: &NodeStatuses,
        _: &Filters<'_>,
        _: u64,
    ) -> Result<Nominated, Status> {
        if claims::named(pod).is_empty() {
            return Err(Status {
                reasons: Vec::new(),
                ..Status::unschedulable("")
            });
        }
        let Some(known) = state.get::<Arc<Known>>() else {
            return Err(Status::unschedulable("no new claims to deallocate"));
        };
        // Devices that nobody else uses, and that keep the pod from some node.
        let mut held = known.claims.iter().filter(|claim| {
            let mut others = claim.status.reserved_for.iter();
            let mut nodes = snapshot.nodes();
            others.all(|c| c.uid == pod.uid()) && nodes.any(|node| is_elsewhere(claim, node))
        });
        let Some(claim) = held.next() else {
            return Err(Status::unschedulable("still not schedulable"));
        };
        Ok(Nominated {
            node: pod.nominated_node().map(str::to_owned),
            message: Some("deallocation of ResourceClaim completed".to_owned()),
            deallocate: vec![ClaimRef {
                namespace: claim.namespace().to_owned(),
                name: claim.name().to_owned(),
                uid: claim.uid().to_owned(),
                resource_version: claim.metadata.resource_version.clone().unwrap_or_default(),
            }],
            ..Nominated::default()
        })
    }
}

impl PreScore for DynamicResources {
    fn applies(&self, pod: &PodInfo, _: &Snapshot) -> bool {
        !claims::named(pod).is_empty()
    }

    fn pre_score(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        _: &Feasible<'_>,
    ) -> Result<bool, Status> {
        let known = state.get::<Arc<Known>>();
        let search = known.and_then(|known| known.search.as_ref());
        Ok(search.is_some_and(Search::has_lists))
    }
}

impl Score for DynamicResources {
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        let known = state.get::<Arc<Known>>();
        let search = known.and_then(|known| known.search.as_ref());
        search.map_or(0, |search| search.score(node))
    }

    fn normalization(&self) -> Normalization {
        Normalization::Highest
    }
}

/// Who shares a device, in the form of a UUID: another one for each time that a claim is given devices.
fn share_id(claim: &ResourceClaim, position: usize) -> String {
    let mut hasher = DefaultHasher::new();
    claim.uid().hash(&mut hasher);
    claim.metadata.resource_version.hash(&mut hasher);
    position.hash(&mut hasher);
    let mut random = fastrand::Rng::with_seed(hasher.finish());
    let (a, b) = (random.u64(..), random.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        ((b >> 48) & 0x3fff) | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

impl Reserve for DynamicResources {
    fn reserve(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let Some(known) = state.get::<Arc<Known>>().cloned() else {
            return Ok(());
        };
        // It shares what the snapshot has, which is to change in place again.
        state.take::<Arc<Known>>();
        let allocations = match &known.search {
            Some(search) => search.allocate(node)?,
            None => Vec::new(),
        };
        let mut allocations = allocations.into_iter();
        let mut bindings = Vec::new();
        let mut in_flight = self.in_flight();
        for claim in &known.claims {
            let mut allocation = match &claim.status.allocation {
                Some(_) => None,
                None => allocations.next(),
            };
            if let Some(allocation) = &mut allocation {
                for (i, given) in allocation.devices.results.iter_mut().enumerate() {
                    given.share_id = given.share_id.take().map(|_| share_id(claim, i));
                }
                in_flight.begin(claim, allocation);
            }
            if allocation.is_some() || !claim.is_reserved_for(pod.uid()) {
                bindings.push(Binding {
                    claim: claim.clone(),
                    allocation,
                });
            }
        }
        drop(in_flight);
        state.put(Bindings(bindings));
        Ok(())
    }

    fn unreserve(&self, state: &CycleState, _: &PodInfo, _: &str) {
        let mut in_flight = self.in_flight();
        for binding in state.get::<Bindings>().iter().flat_map(|b| &b.0) {
            if binding.allocation.is_some() {
                in_flight.abandon(binding.claim.uid());
            }
        }
    }
}

#[async_trait]
impl PreBind for DynamicResources {
    async fn pre_bind(
        &self,
        client: &Client,
        state: &CycleState,
        pod: &PodInfo,
        _: &str,
    ) -> Result<(), Status> {
        let Some(Bindings(bindings)) = state.get::<Bindings>() else {
            return Ok(());
        };
        let mut written = Vec::new();
        for binding in bindings {
            let claim = bind::write(client, binding, pod).await;
            let claim = claim.map_err(Status::error)?;
            if binding.allocation.is_some() {
                self.in_flight().written(Arc::new(claim.clone()));
            }
            written.push(claim);
        }
        for claim in written {
            bind::wait(client, claim).await.map_err(Status::error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

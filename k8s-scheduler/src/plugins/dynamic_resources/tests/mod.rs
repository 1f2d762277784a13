mod reference;
mod search;

use serde_json::{Value, json};

use super::*;
use crate::{
    Profile, Scheduler,
    framework::Plugin,
    snapshot::{DeviceClass, ResourceSlice},
};

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A cluster of nodes with a class that has every device.
pub(super) fn cluster(nodes: &[&str]) -> Snapshot {
    let node = |name: &&str| {
        from(json!({"metadata": {"name": name, "labels": {"name": name}},
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}}}))
    };
    let mut snapshot = Snapshot::new(nodes.iter().map(node), []);
    snapshot.set(class("any", json!({})));
    snapshot
}

pub(super) fn class(name: &str, spec: Value) -> Object {
    Object::DeviceClass(from::<DeviceClass>(
        json!({"metadata": {"name": name}, "spec": spec}),
    ))
}

/// The devices of a node, as the only slice of its pool.
pub(super) fn slice(node: &str, devices: Value) -> Object {
    slice_of(
        json!({"driver": "d.example.com", "nodeName": node, "devices": devices,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}),
    )
}

pub(super) fn slice_of(spec: Value) -> Object {
    let name = format!("{}-{}", spec["pool"]["name"], spec["nodeName"]);
    Object::ResourceSlice(from::<ResourceSlice>(
        json!({"metadata": {"name": name}, "spec": spec}),
    ))
}

pub(super) fn claim(name: &str, devices: Value, status: Value) -> ResourceClaim {
    from(
        json!({"metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"},
        "spec": {"devices": devices}, "status": status}),
    )
}

/// A claim for so many devices of the class that has all.
fn wants(name: &str, count: usize) -> Object {
    let request = json!({"deviceClassName": "any", "allocationMode": "ExactCount", "count": count});
    let devices = json!({"requests": [{"name": "r", "exactly": request}]});
    Object::ResourceClaim(claim(name, devices, json!({})))
}

fn pod(name: &str, claims: &[&str]) -> PodInfo {
    let claims = claims.iter();
    let claims = claims.map(|claim| json!({"name": claim, "resourceClaimName": claim}));
    PodInfo::from(from::<k8s_openapi::api::core::v1::Pod>(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "c"}], "resourceClaims": claims.collect::<Vec<_>>()},
    })))
}

fn scheduler() -> (Arc<DynamicResources>, Scheduler) {
    let plugin = Arc::new(DynamicResources::default());
    let profile = Profile::empty("test", Arc::new(crate::plugins::PrioritySort))
        .with_pre_filter(plugin.clone())
        .with_filter(plugin.clone())
        .with_post_filter(plugin.clone())
        .with_pre_score(plugin.clone())
        .with_score(plugin.clone(), 2)
        .with_reserve(plugin.clone());
    (plugin, Scheduler::new(profile))
}

fn why_not(snapshot: &Snapshot, pod: &PodInfo) -> String {
    let (_, scheduler) = scheduler();
    scheduler
        .schedule(snapshot, pod, 0)
        .unwrap_err()
        .to_string()
}

/// What the claims without devices get on a node.
pub(super) fn allocate(
    snapshot: &Snapshot,
    claims: Vec<ResourceClaim>,
    node: &str,
) -> Result<Vec<Allocation>, Failure> {
    let claims = claims.into_iter().map(Arc::new).collect();
    let taken = crate::snapshot::devices::Taken::default();
    let search = Search::new(claims, snapshot.objects().devices(), taken);
    let search = search.map_err(Failure::Claim)?;
    let node = snapshot.node(node).unwrap();
    let found = search.allocate(node);
    assert_eq!(
        search.check(node),
        found.as_ref().map(drop).map_err(Clone::clone)
    );
    found
}

/// The devices that a claim gets, with the requests that they are for.
fn given(snapshot: &Snapshot, devices: Value, node: &str) -> Result<Vec<String>, Failure> {
    let found = allocate(snapshot, vec![claim("c", devices, json!({}))], node)?;
    let results = found[0].devices.results.iter();
    Ok(results
        .map(|given| format!("{}={}", given.request, given.device))
        .collect())
}

const NONE: &str = "cannot allocate all claims";

fn none<T>() -> Result<T, Failure> {
    Err(Failure::Node(NONE.to_owned()))
}

fn exactly(name: &str, mut request: Value) -> Value {
    request["deviceClassName"] = json!("any");
    if request["allocationMode"].is_null() {
        request["allocationMode"] = json!("ExactCount");
        request["count"] = json!(request["count"].as_i64().unwrap_or(1));
    }
    json!({"name": name, "exactly": request})
}

#[test]
fn a_pod_goes_where_its_devices_are() {
    let mut snapshot = cluster(&["a", "b"]);
    snapshot.set(slice("b", json!([{"name": "gpu-0"}, {"name": "gpu-1"}])));
    snapshot.set(wants("c", 2));
    let (_, scheduler) = scheduler();
    let placed = scheduler.schedule(&snapshot, &pod("p", &["c"]), 0).unwrap();
    assert_eq!((placed.node.as_str(), placed.feasible), ("b", 1));
    snapshot.set(wants("c", 3));
    assert_eq!(
        why_not(&snapshot, &pod("p", &["c"])),
        "0/2 nodes are available: 2 cannot allocate all claims."
    );
}

#[test]
fn what_is_missing_is_said_as_upstream_says_it() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(wants("c", 1));
    assert_eq!(
        why_not(&snapshot, &pod("p", &["d"])),
        "0/1 nodes are available: resourceclaim.resource.k8s.io \"d\" not found."
    );
    let request = json!({"deviceClassName": "no", "allocationMode": "ExactCount", "count": 1});
    let devices = json!({"requests": [{"name": "r", "exactly": request}]});
    snapshot.set(Object::ResourceClaim(claim("d", devices, json!({}))));
    assert_eq!(
        why_not(&snapshot, &pod("p", &["d"])),
        "0/1 nodes are available: request r: device class no does not exist."
    );
    let mut going = claim("e", json!({}), json!({}));
    going.metadata.deletion_timestamp = Some(from(json!("2026-01-01T00:00:00Z")));
    snapshot.set(Object::ResourceClaim(going));
    assert_eq!(
        why_not(&snapshot, &pod("p", &["e"])),
        "0/1 nodes are available: resourceclaim \"e\" is being deleted."
    );
}

#[test]
fn a_generated_claim_must_be_made_and_be_the_pods_own() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(wants("p-c-x", 1));
    let waiting = |status: Value| {
        PodInfo::from(from::<k8s_openapi::api::core::v1::Pod>(json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "p"},
            "spec": {"containers": [], "resourceClaims": [{"name": "c", "resourceClaimTemplateName": "t"}]},
            "status": status,
        })))
    };
    let plugin = DynamicResources::default();
    assert!(plugin.pre_enqueue(&pod("p", &["c"])).is_ok());
    assert!(plugin.pre_enqueue(&pod("p", &[])).is_ok());
    let fresh = waiting(json!({}));
    assert!(plugin.pre_enqueue(&fresh).is_err());
    assert!(
        why_not(&snapshot, &fresh).contains("pod \"default/p\": ResourceClaim not created yet")
    );
    let made =
        waiting(json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "p-c-x"}]}));
    assert!(plugin.pre_enqueue(&made).is_ok());
    assert!(
        why_not(&snapshot, &made).contains("was not created for Pod default/p (Pod is not owner)")
    );
    let needless = waiting(json!({"resourceClaimStatuses": [{"name": "c"}]}));
    let (_, scheduler) = scheduler();
    assert!(scheduler.schedule(&snapshot, &needless, 0).is_ok());
}

#[test]
fn devices_on_their_way_to_one_claim_are_not_given_to_another() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(slice("a", json!([{"name": "gpu"}])));
    snapshot.set(wants("c", 1));
    snapshot.set(wants("d", 1));
    let (plugin, scheduler) = scheduler();
    let (first, second) = (pod("p", &["c"]), pod("q", &["d"]));
    let mut placed = scheduler.schedule(&snapshot, &first, 0).unwrap();
    let node = snapshot.node("a").unwrap().clone();
    plugin.reserve(&mut placed.state, &first, &node).unwrap();
    let refused = scheduler.schedule(&snapshot, &second, 0).unwrap_err();
    assert!(refused.to_string().contains(NONE), "{refused}");
    // Nor is the claim given devices twice.
    let refused = scheduler
        .schedule(&snapshot, &pod("r", &["c"]), 0)
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("resource claim default/c is in the process of being allocated"),
        "{refused}"
    );
    plugin.unreserve(&placed.state, &first, "a");
    assert!(scheduler.schedule(&snapshot, &second, 0).is_ok());
}

#[test]
fn what_was_written_counts_until_the_api_shows_it() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(slice("a", json!([{"name": "gpu"}])));
    snapshot.set(wants("c", 1));
    snapshot.set(wants("d", 1));
    let (plugin, scheduler) = scheduler();
    let (first, second) = (pod("p", &["c"]), pod("q", &["d"]));
    let mut placed = scheduler.schedule(&snapshot, &first, 0).unwrap();
    let node = snapshot.node("a").unwrap().clone();
    plugin.reserve(&mut placed.state, &first, &node).unwrap();
    let binding = placed.state.get::<Bindings>().unwrap().0[0].clone();
    let mut written = (*binding.claim).clone();
    written.status.allocation = binding.allocation;
    written.metadata.resource_version = Some("7".to_owned());
    plugin.in_flight().written(Arc::new(written.clone()));
    // Whatever happens to the pod now.
    plugin.unreserve(&placed.state, &first, "a");
    assert!(scheduler.schedule(&snapshot, &second, 0).is_err());
    // Another pod with the same claim may go there too.
    assert!(scheduler.schedule(&snapshot, &pod("r", &["c"]), 0).is_ok());
    snapshot.set(Object::ResourceClaim(written.clone()));
    assert!(scheduler.schedule(&snapshot, &second, 0).is_err());
    written.status.allocation = None;
    written.metadata.resource_version = Some("8".to_owned());
    snapshot.set(Object::ResourceClaim(written));
    assert!(scheduler.schedule(&snapshot, &second, 0).is_ok());
}

#[test]
fn a_claim_with_devices_keeps_its_pods_where_they_are_or_gives_them_back() {
    let mut snapshot = cluster(&["a", "b"]);
    let selector = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["b"]}]}]});
    let used = |by: Value| {
        let status = json!({"allocation": {"nodeSelector": selector}, "reservedFor": by});
        Object::ResourceClaim(claim("c", json!({}), status))
    };
    let other = json!([{"resource": "pods", "name": "o", "uid": "o"}]);
    snapshot.set(used(other));
    let (_, scheduler) = scheduler();
    let placed = scheduler.schedule(&snapshot, &pod("p", &["c"]), 0).unwrap();
    assert_eq!(placed.node, "b");
    snapshot.remove_node("b");
    let refused = scheduler
        .schedule(&snapshot, &pod("p", &["c"]), 0)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("0/1 nodes are available: 1 {ELSEWHERE}.")
    );
    let room = scheduler.make_room(&snapshot, &pod("p", &["c"]), &refused, 0);
    let said = room.unwrap_err().unwrap().reasons;
    assert_eq!(said, ["still not schedulable"]);
    snapshot.set(used(json!([])));
    let room = scheduler.make_room(&snapshot, &pod("p", &["c"]), &refused, 0);
    assert_eq!(room.unwrap().deallocate[0].name, "c");
}

#[test]
fn hints_wake_those_that_an_event_can_help() {
    let plugin = DynamicResources::default();
    let (mine, other) = (pod("p", &["c"]), pod("q", &["d"]));
    let claim = wants("c", 1);
    let event = ClusterEvent::Object(&claim);
    assert!(plugin.watches(event.kind()));
    assert!(plugin.may_help(&event, &mine));
    assert!(!plugin.may_help(&event, &other));
    let Object::ResourceClaim(freed) = &claim else {
        unreachable!();
    };
    assert!(plugin.may_help(&ClusterEvent::DevicesFreed(freed), &other));
    assert!(!plugin.may_help(&ClusterEvent::ObjectDelete(&claim), &mine));
    let devices = slice("a", json!([]));
    assert!(plugin.may_help(&ClusterEvent::Object(&devices), &mine));
    let gone = pod("o", &[]);
    assert!(!plugin.may_help(&ClusterEvent::AssignedPodDelete(&gone), &mine));
    assert!(plugin.may_help(&ClusterEvent::AssignedPodDelete(&other), &mine));
}

#[test]
fn share_ids_are_uuids_of_one_allocation_each() {
    let mut claim = claim("c", json!({}), json!({}));
    let first = share_id(&claim, 0);
    assert_eq!(first.len(), 36);
    assert_eq!(&first[14..15], "4");
    assert_ne!(first, share_id(&claim, 1));
    claim.metadata.resource_version = Some("2".to_owned());
    assert_ne!(first, share_id(&claim, 0));
}

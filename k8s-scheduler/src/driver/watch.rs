//! What the driver follows.

use std::{collections::HashSet, fmt::Debug};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, StatefulSet},
        core::v1::{
            Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
            Service,
        },
        policy::v1::PodDisruptionBudget,
        storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;

use crate::snapshot::{DeviceClass, DeviceTaintRule, Object, ResourceClaim, ResourceSlice};

/// A change of one of the resources.
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart at once, never stored"
)]
#[derive(Debug)]
pub(super) enum Input {
    Pod(watcher::Event<Pod>),
    Node(watcher::Event<Node>),
    Set(Object),
    /// Gone; only its name is sure.
    Unset(Object),
    /// All objects of one more resource are known.
    Synced,
}

/// How many resources besides pods and nodes are followed.
pub(super) const OBJECTS: usize = 16;

/// Follows all of them for ever.
pub(super) fn inputs(client: &Client) -> BoxStream<'static, Input> {
    // Pods that have ended take nothing and wait for nothing.
    let live = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = follow(Api::<Pod>::all(client.clone()), live).map(Input::Pod);
    let nodes =
        follow(Api::<Node>::all(client.clone()), watcher::Config::default()).map(Input::Node);
    let objects: [BoxStream<'static, Input>; OBJECTS] = [
        objects::<Namespace>(client, Object::Namespace),
        objects::<PodDisruptionBudget>(client, Object::PodDisruptionBudget),
        objects::<Service>(client, Object::Service),
        objects::<ReplicationController>(client, Object::ReplicationController),
        objects::<ReplicaSet>(client, Object::ReplicaSet),
        objects::<StatefulSet>(client, Object::StatefulSet),
        objects::<PersistentVolume>(client, Object::PersistentVolume),
        objects::<PersistentVolumeClaim>(client, Object::PersistentVolumeClaim),
        objects::<StorageClass>(client, Object::StorageClass),
        objects::<CSINode>(client, Object::CsiNode),
        objects::<CSIDriver>(client, Object::CsiDriver),
        objects::<CSIStorageCapacity>(client, Object::CsiStorageCapacity),
        newer::<ResourceClaim>(client, Object::ResourceClaim),
        newer::<ResourceSlice>(client, Object::ResourceSlice),
        newer::<DeviceClass>(client, Object::DeviceClass),
        newer::<DeviceTaintRule>(client, Object::DeviceTaintRule),
    ];
    let objects = stream::select_all(objects);
    // What pods refer to comes before them, if both are there.
    let others = stream::select_with_strategy(objects, nodes, |(): &mut ()| stream::PollNext::Left);
    stream::select(others, pods).boxed()
}

fn follow<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>>
where
    K: kube::Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    watcher(api, config)
        .default_backoff()
        .filter_map(|event| async {
            event
                .inspect_err(|error| tracing::warn!(%error, "watch failed, trying again"))
                .ok()
        })
}

/// An object that the API tells of.
trait Followed:
    kube::Resource<DynamicType = ()>
    + Clone
    + Debug
    + Default
    + Send
    + Sync
    + DeserializeOwned
    + 'static
{
}

impl<K> Followed for K where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + Debug
        + Default
        + Send
        + Sync
        + DeserializeOwned
        + 'static
{
}

/// What is known of one resource, so that a new list shows what is gone.
#[derive(Default)]
struct Known {
    names: HashSet<(Option<String>, Option<String>)>,
    fresh: Option<HashSet<(Option<String>, Option<String>)>>,
    is_synced: bool,
}

fn objects<K: Followed>(client: &Client, wrap: fn(K) -> Object) -> BoxStream<'static, Input> {
    let events = follow(Api::<K>::all(client.clone()), watcher::Config::default());
    inputs_of(events.map(Some), wrap)
}

/// The same of a resource that older servers do not have: where there is none, all of it is known.
fn newer<K: Followed>(client: &Client, wrap: fn(K) -> Object) -> BoxStream<'static, Input> {
    let api = Api::<K>::all(client.clone());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let events = events.filter_map(|event| async {
        match event {
            Ok(event) => Some(Some(event)),
            Err(error) if is_not_there(&error) => {
                tracing::debug!(%error, kind = &*K::kind(&()), "not served");
                Some(None)
            }
            Err(error) => {
                tracing::warn!(%error, "watch failed, trying again");
                None
            }
        }
    });
    inputs_of(events, wrap)
}

/// Whether a server does not have such objects, or has no rule about who may see them.
fn is_not_there(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
            if matches!(status.code, 403 | 404)
    )
}

/// What events come to; `None` is that there are no such objects.
fn inputs_of<K: Followed>(
    events: impl Stream<Item = Option<watcher::Event<K>>> + Send + 'static,
    wrap: fn(K) -> Object,
) -> BoxStream<'static, Input> {
    let mut known = Known::default();
    events
        .map(move |event| {
            let mut inputs = Vec::new();
            let Some(event) = event else {
                if !std::mem::replace(&mut known.is_synced, true) {
                    inputs.push(Input::Synced);
                }
                return stream::iter(inputs);
            };
            match event {
                watcher::Event::Apply(object) => {
                    known.names.insert(name(&object));
                    inputs.push(Input::Set(wrap(object)));
                }
                watcher::Event::Delete(object) => {
                    known.names.remove(&name(&object));
                    inputs.push(Input::Unset(wrap(object)));
                }
                watcher::Event::Init => known.fresh = Some(HashSet::new()),
                watcher::Event::InitApply(object) => {
                    let name = name(&object);
                    known.fresh.get_or_insert_default().insert(name);
                    inputs.push(Input::Set(wrap(object)));
                }
                watcher::Event::InitDone => {
                    let fresh = known.fresh.take().unwrap_or_default();
                    for (namespace, name) in known.names.difference(&fresh) {
                        let mut gone = K::default();
                        *gone.meta_mut() = ObjectMeta {
                            namespace: namespace.clone(),
                            name: name.clone(),
                            ..ObjectMeta::default()
                        };
                        inputs.push(Input::Unset(wrap(gone)));
                    }
                    known.names = fresh;
                    if !std::mem::replace(&mut known.is_synced, true) {
                        inputs.push(Input::Synced);
                    }
                }
            }
            stream::iter(inputs)
        })
        .flatten()
        .boxed()
}

fn name<K: kube::Resource>(object: &K) -> (Option<String>, Option<String>) {
    let metadata = object.meta();
    (metadata.namespace.clone(), metadata.name.clone())
}

//! [`State`]: the Services and EndpointSlices of a cluster, kept up to date.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};

use crate::rules::{SERVICE_NAME_LABEL, ServiceKey};

/// Services by name, and the slices of each.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) services: BTreeMap<ServiceKey, Arc<Service>>,
    /// Slices by their own name, and the Service that each belongs to.
    slices: BTreeMap<ServiceKey, Arc<EndpointSlice>>,
    pub(crate) by_service: BTreeMap<ServiceKey, Vec<Arc<EndpointSlice>>>,
    fresh_services: Option<BTreeMap<ServiceKey, Arc<Service>>>,
    fresh_slices: Option<BTreeMap<ServiceKey, Arc<EndpointSlice>>>,
    synced: [bool; 2],
}

/// One change to the state.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart at once, never stored"
)]
pub(crate) enum Input {
    Service(watcher::Event<Service>),
    Slice(watcher::Event<EndpointSlice>),
}

/// Follows both resources for ever. Failed watches are retried with back-off.
pub(crate) fn inputs(client: &Client) -> BoxStream<'static, Input> {
    let services = follow(Api::<Service>::all(client.clone())).map(Input::Service);
    let slices = follow(Api::<EndpointSlice>::all(client.clone())).map(Input::Slice);
    futures::stream::select(services, slices).boxed()
}

fn follow<K>(api: Api<K>) -> impl Stream<Item = watcher::Event<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(|event| async {
            match event {
                Ok(event) => Some(event),
                Err(error) => {
                    tracing::warn!(%error, "watch failed, trying again");
                    None
                }
            }
        })
}

fn key(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ServiceKey {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

impl State {
    /// Whether both resources have been listed.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == [true, true]
    }

    /// Takes one change in.
    pub(crate) fn take(&mut self, input: Input) {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        match input {
            Input::Service(Apply(service)) => {
                self.services
                    .insert(key(&service.metadata), Arc::new(service));
            }
            Input::Service(Delete(service)) => {
                self.services.remove(&key(&service.metadata));
            }
            Input::Service(Init) => self.fresh_services = Some(BTreeMap::new()),
            Input::Service(InitApply(service)) => {
                self.fresh_services
                    .get_or_insert_default()
                    .insert(key(&service.metadata), Arc::new(service));
            }
            Input::Service(InitDone) => {
                self.services = self.fresh_services.take().unwrap_or_default();
                self.synced[0] = true;
            }
            Input::Slice(Apply(slice)) => {
                let slice = Arc::new(slice);
                let before = self.slices.insert(key(&slice.metadata), slice.clone());
                self.regroup(before.as_ref());
                self.regroup(Some(&slice));
            }
            Input::Slice(Delete(slice)) => {
                let before = self.slices.remove(&key(&slice.metadata));
                self.regroup(before.as_ref());
            }
            Input::Slice(Init) => self.fresh_slices = Some(BTreeMap::new()),
            Input::Slice(InitApply(slice)) => {
                self.fresh_slices
                    .get_or_insert_default()
                    .insert(key(&slice.metadata), Arc::new(slice));
            }
            Input::Slice(InitDone) => {
                self.slices = self.fresh_slices.take().unwrap_or_default();
                self.by_service.clear();
                for slice in self.slices.values() {
                    if let Some(owner) = owner(slice) {
                        self.by_service
                            .entry(owner)
                            .or_default()
                            .push(slice.clone());
                    }
                }
                self.synced[1] = true;
            }
        }
    }

    /// Collects anew the slices of the Service that this one belongs to.
    fn regroup(&mut self, slice: Option<&Arc<EndpointSlice>>) {
        let Some(owner) = slice.and_then(|s| owner(s)) else {
            return;
        };
        let range = (owner.0.clone(), String::new())..;
        let slices: Vec<_> = self
            .slices
            .range(range)
            .take_while(|((namespace, _), _)| *namespace == owner.0)
            .map(|(_, slice)| slice)
            .filter(|s| self::owner(s).as_ref() == Some(&owner))
            .cloned()
            .collect();
        if slices.is_empty() {
            self.by_service.remove(&owner);
        } else {
            self.by_service.insert(owner, slices);
        }
    }
}

fn owner(slice: &EndpointSlice) -> Option<ServiceKey> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some((slice.metadata.namespace.clone()?, service.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, service: &str) -> EndpointSlice {
        serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
            "metadata": {"name": name, "namespace": "shop", "labels": {SERVICE_NAME_LABEL: service}},
        }))
        .unwrap()
    }

    #[test]
    fn a_slice_that_changes_its_service_leaves_the_old_one() {
        let mut state = State::default();
        state.take(Input::Slice(watcher::Event::Apply(slice("a", "web"))));
        state.take(Input::Slice(watcher::Event::Apply(slice("b", "web"))));
        state.take(Input::Slice(watcher::Event::Apply(slice("a", "db"))));
        let names = |service: &str| {
            let slices = state.by_service.get(&("shop".into(), service.into()));
            slices
                .into_iter()
                .flatten()
                .map(|s| s.metadata.name.clone().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("web"), ["b"]);
        assert_eq!(names("db"), ["a"]);
    }

    #[test]
    fn a_relist_forgets_what_is_gone() {
        let mut state = State::default();
        state.take(Input::Slice(watcher::Event::Apply(slice("a", "web"))));
        state.take(Input::Slice(watcher::Event::Init));
        state.take(Input::Slice(watcher::Event::InitApply(slice("b", "web"))));
        state.take(Input::Slice(watcher::Event::InitDone));
        assert_eq!(state.by_service[&("shop".into(), "web".into())].len(), 1);
        assert!(!state.is_synced(), "the Services were not listed yet");
    }
}

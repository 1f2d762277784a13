//! Root CA: every namespace has the ConfigMap `kube-root-ca.crt`, by which its pods know the API
//! server.
//!
//! Mirrors upstream's `pkg/controller/certificates/rootcacertpublisher`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, Client, api::PostParams, runtime::watcher};

use crate::{
    Error,
    common::{context::Context, owner},
    error::{is_already_exists, is_namespace_terminating},
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The ConfigMap's name.
const NAME: &str = "kube-root-ca.crt";
/// Its key.
const KEY: &str = "ca.crt";
/// Says on the ConfigMap what it is for, and what not; the text is upstream's, because tools show
/// it.
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

pub(crate) struct RootCa {
    client: Client,
    bundle: Arc<str>,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
}

/// The controller, its handlers in place. Keys are namespaces; `bundle` is PEM.
pub(crate) fn controller(context: &Context, bundle: Arc<str>) -> Controller<RootCa> {
    let only_ours = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let reconciler = RootCa {
        client: context.client.clone(),
        bundle,
        namespaces: context.informers.informer(),
        maps: context.informers.informer_with(only_ours),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.namespaces.add_handler(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let adds = queue.clone();
    reconciler.maps.add_handler(move |change| {
        adds.add(ObjectKey::new(
            "",
            owner::namespace(&change.object().metadata),
        ))
    });
    let ready = (reconciler.namespaces.synced(), reconciler.maps.synced());
    Controller::new(
        "root-ca-certificate-publisher-controller",
        reconciler,
        queue,
    )
    .with_workers(1)
    .wait_for(ready.0)
    .wait_for(ready.1)
}

/// The ConfigMap as it should be, made from the one that is there; `None` when it is right as it
/// is. The pure core.
fn wanted(bundle: &str, current: Option<&ConfigMap>) -> Option<ConfigMap> {
    let mut map = current.cloned().unwrap_or_default();
    map.metadata.name = Some(NAME.to_owned());
    map.metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
    map.data = Some([(KEY.to_owned(), bundle.to_owned())].into());
    (current != Some(&map)).then_some(map)
}

impl Reconciler for RootCa {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(namespace) = self.namespaces.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::OnChange);
        }
        let current = self.maps.find(key.name(), NAME);
        let Some(map) = wanted(&self.bundle, current.as_deref()) else {
            return Ok(Requeue::OnChange);
        };
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), key.name());
        let written = match current {
            None => api.create(&PostParams::default(), &map).await,
            Some(_) => api.replace(NAME, &PostParams::default(), &map).await,
        };
        match written {
            Err(error) if !is_already_exists(&error) && !is_namespace_terminating(&error) => {
                Err(error.into())
            }
            _ => Ok(Requeue::OnChange),
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_bundle_is_put_right_and_a_right_one_left_alone() {
        let map = wanted("PEM", None).unwrap();
        assert_eq!(map.data.as_ref().unwrap()[KEY], "PEM");
        assert_eq!(wanted("PEM", Some(&map)), None);
        assert!(wanted("OTHER", Some(&map)).is_some());
    }
}

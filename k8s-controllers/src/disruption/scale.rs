//! How many pods those who control them ask for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
};
use parking_lot::Mutex;

use crate::{
    Error,
    common::{compat, context::Context, owner},
    error::is_not_found,
    runtime::Informer,
};

/// Who controls pods, by UID, and how many it asks for.
type Scale = (String, i32);

/// What the controllers of some pods ask for together.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) replicas: i32,
    /// Whether some pods have no controller: they are not counted.
    pub(super) unmanaged: bool,
}

/// Finds out how many pods those who control them ask for: from informers for the kinds that are built in, from the
/// scale subresource for others.
pub(super) struct Scales {
    client: Client,
    controllers: Informer<ReplicationController>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful_sets: Informer<StatefulSet>,
    /// By version and kind.
    resources: Mutex<HashMap<(String, String), ApiResource>>,
}

impl Scales {
    pub(super) fn new(context: &Context) -> Self {
        Scales {
            client: context.client.clone(),
            controllers: context.informers.informer(),
            sets: context.informers.informer(),
            deployments: context.informers.informer(),
            stateful_sets: context.informers.informer(),
            resources: Mutex::default(),
        }
    }

    /// Waits until the informers are complete. The future does not borrow this.
    pub(super) fn synced(&self) -> impl Future<Output = ()> + Send + use<> {
        let controllers = (self.controllers.synced(), self.sets.synced());
        let others = (self.deployments.synced(), self.stateful_sets.synced());
        async move {
            tokio::join!(controllers.0, controllers.1, others.0, others.1);
        }
    }

    /// What the controllers of these pods ask for together.
    pub(super) async fn asked(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<Asked, Error> {
        let mut unmanaged = false;
        let mut known = HashSet::new();
        let mut scales = HashMap::new();
        for pod in pods {
            let Some(controller) = owner::controller_of(&pod.metadata) else {
                unmanaged = true;
                continue;
            };
            if !known.insert(controller.uid.as_str()) {
                continue;
            }
            let scale = match self.built_in(namespace, controller) {
                Some(scale) => Some(scale),
                None => self.subresource(namespace, controller).await?,
            };
            let Some((uid, replicas)) = scale else {
                let name = owner::name(&pod.metadata);
                return Err(Error::NotYet(format!(
                    "found no controllers for pod {name:?}"
                )));
            };
            scales.insert(uid, replicas);
        }
        Ok(Asked {
            replicas: scales.into_values().fold(0, i32::saturating_add),
            unmanaged,
        })
    }

    /// What a controller of a built-in kind asks for; of a ReplicaSet that a Deployment controls, the Deployment.
    fn built_in(&self, namespace: &str, controller: &OwnerReference) -> Option<Scale> {
        let is = |group: &str, kind: &str| {
            let (own, _) = split(&controller.api_version);
            own == group && controller.kind == kind
        };
        let (name, uid) = (&controller.name, &controller.uid);
        let same = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
                    uid: &str| { owner::uid(meta) == uid };
        if is("", "ReplicationController") {
            let found = self.controllers.find(namespace, name)?;
            let replicas = found.spec.as_ref().and_then(|spec| spec.replicas);
            return same(&found.metadata, uid).then(|| (uid.clone(), replicas.unwrap_or(1)));
        }
        if is("apps", "StatefulSet") {
            let found = self.stateful_sets.find(namespace, name)?;
            let replicas = compat::stateful_set_spec(&found).and_then(|spec| spec.replicas);
            return same(&found.metadata, uid).then(|| (uid.clone(), replicas.unwrap_or(1)));
        }
        if is("apps", "ReplicaSet") {
            let found = self.sets.find(namespace, name)?;
            if !same(&found.metadata, uid) {
                return None;
            }
            let above = owner::controller_of(&found.metadata);
            let Some(above) = above.filter(|above| above.kind == "Deployment") else {
                let replicas = compat::replica_set_spec(&found).and_then(|spec| spec.replicas);
                return Some((uid.clone(), replicas.unwrap_or(1)));
            };
            let deployment = self.deployments.find(namespace, &above.name)?;
            let replicas = compat::deployment_spec(&deployment).and_then(|spec| spec.replicas);
            return same(&deployment.metadata, &above.uid)
                .then(|| (above.uid.clone(), replicas.unwrap_or(1)));
        }
        None
    }

    /// What a controller's scale subresource says; nothing if the controller is gone.
    async fn subresource(
        &self,
        namespace: &str,
        controller: &OwnerReference,
    ) -> Result<Option<Scale>, Error> {
        let resource = self.resource(controller).await?;
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
        let scale = match api.get_scale(&controller.name).await {
            Ok(scale) => scale,
            Err(error) if is_not_found(&error) => {
                // No such object, or none of that kind has a scale, or the kind is no longer served.
                self.resources.lock().remove(&key(controller));
                if self.has_scale(&resource).await? {
                    return Ok(None);
                }
                let name = group_resource(&resource);
                let text = format!("{name} does not implement the scale subresource");
                return Err(Error::NotYet(text));
            }
            Err(error) => return Err(error.into()),
        };
        if owner::uid(&scale.metadata) != controller.uid {
            return Ok(None);
        }
        let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok(Some((controller.uid.clone(), replicas)))
    }

    /// The resource of a controller's kind.
    async fn resource(&self, controller: &OwnerReference) -> Result<ApiResource, Error> {
        let key = key(controller);
        if let Some(resource) = self.resources.lock().get(&key) {
            return Ok(resource.clone());
        }
        let (group, version) = split(&controller.api_version);
        let resources = self.resources_of(&controller.api_version).await?;
        let found = resources
            .into_iter()
            .find(|found| found.kind == controller.kind && !found.name.contains('/'));
        let Some(found) = found else {
            let (kind, version) = (&controller.kind, &controller.api_version);
            let text = format!("no matches for kind {kind:?} in version {version:?}");
            return Err(Error::NotYet(text));
        };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: controller.api_version.clone(),
            kind: controller.kind.clone(),
            plural: found.name,
        };
        self.resources.lock().insert(key, resource.clone());
        Ok(resource)
    }

    async fn has_scale(&self, resource: &ApiResource) -> Result<bool, Error> {
        let name = format!("{}/scale", resource.plural);
        let resources = self.resources_of(&resource.api_version).await?;
        Ok(resources
            .iter()
            .any(|found| found.name == name && found.kind == "Scale"))
    }

    /// All that is served of a group's version; nothing if that is not served.
    async fn resources_of(
        &self,
        api_version: &str,
    ) -> Result<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource>, Error> {
        let found = if api_version.contains('/') {
            self.client.list_api_group_resources(api_version).await
        } else {
            self.client.list_core_api_resources(api_version).await
        };
        match found {
            Ok(list) => Ok(list.resources),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn key(controller: &OwnerReference) -> (String, String) {
    (controller.api_version.clone(), controller.kind.clone())
}

/// Group and version.
fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// As upstream writes a resource of a group.
fn group_resource(resource: &ApiResource) -> String {
    match resource.group.as_str() {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    }
}

//! A kube-rs controller, unmodified, against a control plane inside its own process.
//!
//! The controller gives every Namespace a ConfigMap named `welcome`, and puts it right when somebody changes
//! or deletes it. It knows nothing of where its [`Client`] leads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        controller::{Action, Controller},
        watcher,
    },
};

/// The name of the ConfigMap.
pub const NAME: &str = "welcome";

/// The controller: a stream of what it did, to be driven by whoever runs it.
pub fn controller(client: Client) -> impl Stream<Item = Result<(), String>> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let config_maps = Api::<ConfigMap>::all(client.clone());
    Controller::new(namespaces, watcher::Config::default())
        .owns(config_maps, watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .map(|result| result.map(drop).map_err(|e| e.to_string()))
}

async fn reconcile(namespace: Arc<Namespace>, client: Arc<Client>) -> Result<Action, kube::Error> {
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let name = namespace.name_any();
    let api = Api::<ConfigMap>::namespaced(Client::clone(&client), &name);
    let wanted = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            owner_references: namespace.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "text".to_owned(),
            format!("welcome to {name}"),
        )])),
        ..ConfigMap::default()
    };
    match api.get_opt(NAME).await? {
        None => {
            api.create(&PostParams::default(), &wanted).await?;
        }
        Some(found) if found.data != wanted.data => {
            let patch = serde_json::json!({"data": wanted.data});
            api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
        }
        Some(_) => {}
    }
    Ok(Action::await_change())
}

/// Makes a Namespace and breaks what the controller made in it; ends when all is right again.
///
/// # Errors
///
/// Whatever the API answers.
pub async fn provoke(client: Client, name: &str) -> Result<ConfigMap, kube::Error> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..Default::default()
        },
        ..Default::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let api = Api::<ConfigMap>::namespaced(client, name);
    let first = appears(&api, |_| true).await?;
    api.delete(NAME, &DeleteParams::default()).await?;
    let uid = first.metadata.uid;
    let second = appears(&api, move |found| found.metadata.uid != uid).await?;
    let patch = serde_json::json!({"data": {"text": "go away"}});
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let data = second.data.clone();
    appears(&api, move |found| found.data == data).await
}

/// The ConfigMap, as soon as it is there and as it should be.
async fn appears(
    api: &Api<ConfigMap>,
    right: impl Fn(&ConfigMap) -> bool + Send + Sync,
) -> Result<ConfigMap, kube::Error> {
    let condition = |found: Option<&ConfigMap>| found.is_some_and(&right);
    let found = kube::runtime::wait::await_condition(api.clone(), NAME, condition).await;
    found
        .map_err(|e| kube::Error::Service(e.into()))
        .map(Option::unwrap_or_default)
}

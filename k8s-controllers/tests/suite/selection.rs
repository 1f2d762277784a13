//! A manager with some of its controllers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::support::{Cluster, client_for, until};
use k8s_controllers::{ControllerManager, Selection};
use k8s_openapi::api::core::v1::ServiceAccount;

#[tokio::test]
async fn controllers_that_are_not_chosen_do_not_touch_the_api() {
    let cluster = Cluster::bare().await;
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let (server, asking) = (cluster.server.clone(), asked.clone());
    let manager = ControllerManager::builder(move |name| {
        asking.lock().unwrap().insert(name.to_owned());
        client_for(&server, name)
    })
    .root_ca("PEM")
    .controllers("serviceaccount,namespace".parse::<Selection>().unwrap())
    .build();
    let stop = cluster.stop.clone();
    let running = tokio::spawn(manager.run(stop.clone()));
    let accounts = cluster.api::<ServiceAccount>("default");
    until(&accounts, "default", |account| account.is_some()).await;
    stop.cancel();
    running.await.unwrap();
    let asked = asked.lock().unwrap();
    let names: Vec<_> = asked.iter().map(String::as_str).collect();
    let shared = ControllerManager::SHARED;
    assert_eq!(
        names,
        [shared, "namespace-controller", "service-account-controller"]
    );
}

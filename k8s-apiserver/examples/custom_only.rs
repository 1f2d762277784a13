//! An API server for custom resources alone: no pods, no nodes.
//!
//! ```text
//! cargo run -p k8s-apiserver --example custom_only
//! ```
//!
//! Defines a kind of its own, makes an object of it and prints that.

use std::error::Error;

use k8s_apiserver::{ApiServer, auth::Identity, resources};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, CustomResource, CustomResourceExt,
    api::PostParams,
    runtime::wait::{await_condition, conditions},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a lamp is to be.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Lamp", namespaced)]
struct LampSpec {
    colour: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rows = resources::for_custom_resources();
    let server = ApiServer::builder().resources(rows).build().await?;
    let client = server.client(Identity::system_masters());
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &Lamp::crd())
        .await?;
    await_condition(
        definitions,
        Lamp::crd_name(),
        conditions::is_crd_established(),
    )
    .await?;

    let lamps: Api<Lamp> = Api::namespaced(client, "default");
    let spec = LampSpec {
        colour: "blue".into(),
    };
    let lamp = lamps
        .create(&PostParams::default(), &Lamp::new("desk", spec))
        .await?;
    eprintln!(
        "{} {}",
        lamp.metadata.name.unwrap_or_default(),
        lamp.spec.colour
    );
    server.shutdown().await;
    Ok(())
}

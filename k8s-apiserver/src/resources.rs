//! Choices of built-in resources, for [`ApiServerBuilder::resources`](crate::ApiServerBuilder::resources).

use std::sync::Arc;

use k8s_model::{Resource, ResourceTable};

/// Every built-in resource: the default.
pub fn all() -> Vec<Arc<Resource>> {
    ResourceTable::builtin().rows().to_vec()
}

/// What a server for custom resources needs: their definitions, namespaces, roles, reviews, and what
/// operators keep beside their own kinds (config maps, secrets, service accounts, events, leases).
/// No pods, no nodes, no services: nothing that runs anything.
///
/// ```
/// use k8s_apiserver::{ApiServer, auth::Identity, resources};
/// use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
/// use kube::{Api, api::ListParams};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = ApiServer::builder()
///     .resources(resources::for_custom_resources())
///     .build()
///     .await?;
/// let client = server.client(Identity::system_masters());
/// let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
/// assert!(definitions.list(&ListParams::default()).await?.items.is_empty());
/// let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::all(client);
/// assert!(pods.list(&ListParams::default()).await.is_err());
/// # Ok(())
/// # }
/// ```
pub fn for_custom_resources() -> Vec<Arc<Resource>> {
    const GROUPS: [&str; 6] = [
        "apiextensions.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "coordination.k8s.io",
        "events.k8s.io",
        "rbac.authorization.k8s.io",
    ];
    const CORE: [&str; 5] = [
        "configmaps",
        "events",
        "namespaces",
        "secrets",
        "serviceaccounts",
    ];
    let rows = ResourceTable::builtin().rows().iter();
    rows.filter(|row| {
        GROUPS.contains(&row.group) || (row.group.is_empty() && CORE.contains(&row.resource))
    })
    .cloned()
    .collect()
}

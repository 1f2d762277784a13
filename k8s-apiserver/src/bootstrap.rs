//! The objects that every cluster has: system namespaces, priority classes, and the
//! `kubernetes` Service with its endpoints.

use k8s_model::{Object, metadata};
use k8s_openapi::{
    api::{
        core::v1::{
            ConfigMap, EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace,
            Service, ServicePort, ServiceSpec,
        },
        discovery::v1::{self as discovery, EndpointConditions, EndpointSlice},
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use k8s_store::{Expect, Op, Write};

use crate::{
    ApiServer, Result,
    auth::Identity,
    authz::rbac,
    builder::Advertised,
    compat,
    registry::{Internal, Registry, key, update::Rules},
    services::{self, Family},
};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing.
pub(crate) async fn run(registry: &Registry, advertised: Option<&Advertised>) -> Result<()> {
    // At once, so that they share the store's writes to disk.
    let mut made = Vec::new();
    for name in NAMESPACES {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: Some([("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        made.push(ensure(registry, "", "namespaces", Box::new(namespace)));
    }
    for (name, value, description) in [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let class = PriorityClass {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            value: compat::field(value),
            description: Some(description.into()),
            ..PriorityClass::default()
        };
        made.push(ensure(
            registry,
            "scheduling.k8s.io",
            "priorityclasses",
            Box::new(class),
        ));
    }
    let tracking = crate::legacy_tokens::tracking(registry.now());
    made.push(ensure(registry, "", "configmaps", Box::new(tracking)));
    let range = services::make_default_range(registry);
    let service = async {
        match advertised {
            Some(advertised) => kubernetes_service(registry, advertised).await,
            None => Ok(()),
        }
    };
    futures::try_join!(futures::future::try_join_all(made), range, service).map(drop)
}

/// Makes the roles and bindings that are missing: all at once where there are none yet.
pub(crate) async fn roles(server: &ApiServer) -> Result<(), kube::Error> {
    let registry = &server.inner.registry;
    if !fresh_roles(registry).await.unwrap_or(false) {
        rbac::bootstrap::reconcile(&server.client(Identity::system_masters())).await?;
    }
    Ok(())
}

/// Makes all roles and bindings in one commit. False if some were there already.
async fn fresh_roles(registry: &Registry) -> Result<bool> {
    let policy = rbac::bootstrap::policy();
    let mut objects: Vec<(&'static str, Box<dyn Object>)> = Vec::new();
    let boxed = |o: &dyn Object| o.boxed_clone();
    objects.extend((policy.cluster_roles.iter()).map(|o| ("clusterroles", boxed(o))));
    objects.extend(policy.roles.iter().map(|o| ("roles", boxed(o))));
    let bindings = policy.cluster_role_bindings.iter();
    objects.extend(bindings.map(|o| ("clusterrolebindings", boxed(o))));
    objects.extend((policy.role_bindings.iter()).map(|o| ("rolebindings", boxed(o))));
    fresh(registry, "rbac.authorization.k8s.io", objects).await
}

/// Makes all objects, with their resources' plural names, in one commit. False if some were there already.
pub(crate) async fn fresh(
    registry: &Registry,
    group: &str,
    objects: Vec<(&'static str, Box<dyn Object>)>,
) -> Result<bool> {
    let (now, mut random) = (registry.now(), registry.fork_random());
    let mut writes = Vec::new();
    for (resource, mut object) in objects {
        let Some(row) = registry.stored_row(group, resource) else {
            return Ok(false);
        };
        row.resource.strategy.default(&mut *object);
        let meta = object.metadata_mut();
        metadata::prepare_for_create(meta, now, &mut random);
        let namespace = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let internal = Internal::new();
        let target = internal.target(&row, &namespace, &name);
        let managed = registry.own_new(&target, &mut *object);
        writes.push(Write {
            key: key::object_key(&row.prefix, &row.resource, &namespace, &name),
            expect: Expect::Absent,
            op: Op::Put {
                value: row.encode(&mut object, &managed)?,
                ttl: None,
            },
        });
    }
    match registry.commit(writes).await {
        Ok(_) => Ok(true),
        Err(k8s_store::Error::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Upstream's `kubernetesservice` controller, once.
async fn kubernetes_service(registry: &Registry, advertised: &Advertised) -> Result<()> {
    let labels = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    };
    let meta = |pairs: &[(&str, &str)]| ObjectMeta {
        name: Some("kubernetes".into()),
        namespace: Some("default".into()),
        labels: labels(pairs),
        ..ObjectMeta::default()
    };
    let port = i32::from(advertised.port);
    let first = advertised.addresses.first();
    let family = first.map_or(Family::V4, |address| Family::of(*address));
    let service = Service {
        metadata: meta(&[("component", "apiserver"), ("provider", "kubernetes")]),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some(registry.services.cidr.first_host().to_string()),
            session_affinity: Some("None".into()),
            ports: Some(vec![ServicePort {
                name: Some("https".into()),
                protocol: Some("TCP".into()),
                port: 443,
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let service = async {
        match ensure(registry, "", "services", Box::new(service)).await {
            // Its address is another's, or in no range: of a ServiceCIDR that was made with other flags.
            Err(error) if error.code() == 422 => {
                tracing::warn!(%error, "the kubernetes Service cannot be made");
                Ok(())
            }
            other => other,
        }
    };
    let addresses: Vec<String> = advertised
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let endpoints = Endpoints {
        metadata: meta(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(vec![EndpointSubset {
            addresses: Some(
                addresses
                    .iter()
                    .map(|ip| EndpointAddress {
                        ip: ip.clone(),
                        ..EndpointAddress::default()
                    })
                    .collect(),
            ),
            ports: Some(vec![EndpointPort {
                name: Some("https".into()),
                port,
                protocol: Some("TCP".into()),
                ..EndpointPort::default()
            }]),
            ..EndpointSubset::default()
        }]),
    };
    let made_endpoints = replace(registry, "", "endpoints", Box::new(endpoints));
    let endpoints: Vec<discovery::Endpoint> = addresses
        .iter()
        .map(|ip| discovery::Endpoint {
            addresses: vec![ip.clone()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                ..EndpointConditions::default()
            }),
            ..discovery::Endpoint::default()
        })
        .collect();
    let slice = EndpointSlice {
        metadata: meta(&[("kubernetes.io/service-name", "kubernetes")]),
        address_type: family.name().to_owned(),
        endpoints: compat::field(endpoints),
        ports: Some(vec![discovery::EndpointPort {
            name: Some("https".into()),
            port: Some(port),
            protocol: Some("TCP".into()),
            ..discovery::EndpointPort::default()
        }]),
    };
    let slice = replace(
        registry,
        "discovery.k8s.io",
        "endpointslices",
        Box::new(slice),
    );
    futures::try_join!(service, made_endpoints, slice).map(drop)
}

/// Says how API servers behind this one know it.
pub(crate) async fn authentication(registry: &Registry, map: ConfigMap) -> Result<()> {
    replace(registry, "", "configmaps", Box::new(map)).await
}

pub(crate) async fn ensure(
    registry: &Registry,
    group: &str,
    resource: &str,
    mut object: Box<dyn Object>,
) -> Result<()> {
    let Some(row) = registry.stored_row(group, resource) else {
        return Ok(());
    };
    let internal = Internal::new();
    let namespace = object.metadata().namespace.clone().unwrap_or_default();
    let name = object.metadata().name.clone().unwrap_or_default();
    let target = internal.target(&row, &namespace, &name);
    if registry.read(&target).await?.is_some() {
        return Ok(());
    }
    row.resource.strategy.default(&mut *object);
    match registry.create(&target, object).await {
        // Another server on the same store was faster.
        Err(error) if error.code() == 409 => Ok(()),
        other => other.map(drop),
    }
}

async fn replace(
    registry: &Registry,
    group: &str,
    resource: &str,
    mut object: Box<dyn Object>,
) -> Result<()> {
    ensure(registry, group, resource, object.boxed_clone()).await?;
    let Some(row) = registry.stored_row(group, resource) else {
        return Ok(());
    };
    row.resource.strategy.default(&mut *object);
    let internal = Internal::new();
    let namespace = object.metadata().namespace.clone().unwrap_or_default();
    let name = object.metadata().name.clone().unwrap_or_default();
    let target = internal.target(&row, &namespace, &name);
    registry
        .update(&target, Rules::Object, |_| Ok(object.boxed_clone()))
        .await
        .map(drop)
}

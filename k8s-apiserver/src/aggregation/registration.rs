//! APIServices for the groups that the server serves itself: `kubectl get apiservices` shows them as local.
//!
//! Mirrors kube-aggregator's `autoregister` and the CRD registration of kube-apiserver: those of
//! built-in groups are made or put right once, at the start; those of custom resources come and go with
//! them. An APIService without the label of the one or the other is somebody's own and left alone.

use std::{collections::BTreeMap, sync::Arc};

use k8s_model::{Object, metadata};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kube_aggregator::pkg::apis::apiregistration::v1::{
        APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus,
    },
};
use k8s_store::{Expect, Op, Write};
use tokio::sync::watch;

use super::{GROUP, RESOURCE};
use crate::{
    Error, Result,
    http::options::DeleteOptions,
    registry::{Internal, Registry, Row, key, update::Rules},
    retry::Retry,
};

/// The label that says how an APIService is kept.
const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Made and put right at the start.
const ON_START: &str = "onstart";
/// Kept as it should be, always.
const ALWAYS: &str = "true";

/// Where built-in groups and versions stand among all, as upstream has them.
const PRIORITIES: &[(&str, &str, i32, i32)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("resource.k8s.io", "v1", 15900, 21),
    ("storagemigration.k8s.io", "v1", 15800, 15),
];

/// Where custom resources stand.
const OTHERS: (i32, i32) = (1000, 100);

/// Where a group and a version of it stand that the server serves itself.
pub(super) fn priorities(group: &str, version: &str) -> (i32, i32) {
    let known = PRIORITIES
        .iter()
        .find(|(g, v, ..)| *g == group && *v == version);
    known.map_or(OTHERS, |(_, _, group, version)| (*group, *version))
}

/// The APIServices of what is served, by name.
fn wanted(registry: &Registry, custom: bool) -> BTreeMap<String, APIService> {
    let served = registry.served.load();
    let mut out = BTreeMap::new();
    for row in served.rows() {
        let (group, version) = (row.resource.group, row.resource.version);
        // Those that definitions add are not among the fixed rows.
        if group == GROUP || registry.fixed.contains(&(group, version)) == custom {
            continue;
        }
        out.entry(format!("{version}.{group}"))
            .or_insert_with_key(|name| {
                local(name, (group, version), priorities(group, version), custom)
            });
    }
    out
}

/// A local APIService.
fn local(
    name: &str,
    (group, version): (&str, &str),
    priority: (i32, i32),
    custom: bool,
) -> APIService {
    let label = if custom { ALWAYS } else { ON_START };
    APIService {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(LABEL.to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            group: Some(group.to_owned()).filter(|group| !group.is_empty()),
            version: Some(version.to_owned()),
            group_priority_minimum: priority.0,
            version_priority: priority.1,
            ..APIServiceSpec::default()
        }),
        status: None,
    }
}

/// Makes those of the fixed rows that are missing, and puts right those that are not as they should be.
pub(crate) async fn at_start(registry: &Registry) -> Result<()> {
    let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
        return Ok(());
    };
    let found = found(registry, &row).await?;
    let wanted = wanted(registry, false);
    let mut random = registry.fork_random();
    settle(registry, &row, &found, &wanted, ON_START, &mut random).await
}

/// Keeps those of custom resources, as often as what is served changes, or what failed is to be tried again. Before the
/// definitions are known, those that are there look as if nobody wanted them.
pub(super) async fn run(
    registry: Arc<Registry>,
    mut random: fastrand::Rng,
    mut defined: watch::Receiver<bool>,
) {
    if defined.wait_for(|defined| *defined).await.is_err() {
        return;
    }
    let mut retry = Retry::default();
    loop {
        let changed = registry.served_changed.notified();
        if let Some(row) = registry.stored_row(GROUP, RESOURCE) {
            let outcome = async {
                let found = found(&registry, &row).await?;
                let wanted = wanted(&registry, true);
                settle(&registry, &row, &found, &wanted, ALWAYS, &mut random).await
            };
            let outcome = outcome.await;
            retry.after(outcome.is_ok());
            if let Err(error) = outcome {
                tracing::warn!(%error, "the APIServices of custom resources cannot be written");
            }
        }
        tokio::select! {
            () = changed => {}
            () = retry.due() => {}
        }
    }
}

/// All that there are.
async fn found(registry: &Registry, row: &Row) -> Result<BTreeMap<String, APIService>> {
    let list = k8s_store::List {
        prefix: row.prefix.clone().into(),
        ..Default::default()
    };
    let page = registry.store.list(list).await?;
    let mut out = BTreeMap::new();
    for entry in &page.entries {
        let object = row.decode_entry(entry)?;
        if let Some(service) = object.downcast_ref::<APIService>() {
            let name = service.metadata.name.clone().unwrap_or_default();
            out.insert(name, service.clone());
        }
    }
    Ok(out)
}

/// Makes, changes and deletes, so that those with that label are those that are wanted.
async fn settle(
    registry: &Registry,
    row: &Row,
    found: &BTreeMap<String, APIService>,
    wanted: &BTreeMap<String, APIService>,
    label: &str,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let mut writes = Vec::new();
    for (name, service) in wanted {
        match found.get(name) {
            None => writes.push(made(registry, row, name, service.clone(), random)?),
            Some(before) if kept(before).is_some() && before.spec != service.spec => {
                update(registry, row, name, service).await?;
            }
            Some(_) => {}
        }
    }
    // Another server may be as quick: then the other's are as good.
    if !writes.is_empty()
        && let Err(error) = registry.commit(writes).await
        && !matches!(error, k8s_store::Error::Conflict { .. })
    {
        return Err(error.into());
    }
    for (name, service) in found {
        if kept(service) == Some(label) && !wanted.contains_key(name) {
            let internal = Internal::new();
            let target = internal.target(row, "", name);
            match registry.delete(&target, &DeleteOptions::default()).await {
                Err(error) if error.code() != 404 => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// How an APIService is kept, if the server keeps it.
fn kept(service: &APIService) -> Option<&str> {
    let labels = service.metadata.labels.as_ref()?;
    labels.get(LABEL).map(String::as_str)
}

/// The write that makes one, available already: a server that is up serves what it serves.
fn made(
    registry: &Registry,
    row: &Row,
    name: &str,
    mut service: APIService,
    random: &mut fastrand::Rng,
) -> Result<Write> {
    let now = registry.now();
    metadata::prepare_for_create(&mut service.metadata, now, random);
    service.status = Some(APIServiceStatus {
        conditions: Some(vec![APIServiceCondition {
            type_: "Available".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(metadata::to_second(now)),
            reason: Some("Local".to_owned()),
            message: Some("Local APIServices are always available".to_owned()),
        }]),
    });
    let mut object: Box<dyn Object> = Box::new(service);
    let internal = Internal::new();
    let managed = registry.own_new(&internal.target(row, "", name), &mut *object);
    Ok(Write {
        key: key::object_key(&row.prefix, &row.resource, "", name),
        expect: Expect::Absent,
        op: Op::Put {
            value: row.encode(&mut object, &managed)?,
            ttl: None,
        },
    })
}

async fn update(registry: &Registry, row: &Row, name: &str, service: &APIService) -> Result<()> {
    let internal = Internal::new();
    let target = internal.target(row, "", name);
    let change = |old: &dyn Object| {
        let mut new = old.boxed_clone();
        let found = new
            .downcast_mut::<APIService>()
            .ok_or_else(|| Error::internal("not an APIService"))?;
        found.spec.clone_from(&service.spec);
        Ok(new)
    };
    registry
        .update(&target, Rules::None, change)
        .await
        .map(drop)
}

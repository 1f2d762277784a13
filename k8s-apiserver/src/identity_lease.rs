//! The server's identity: a Lease in `kube-system` by which others know that it is there.
//!
//! See KEP-1965 and <https://kubernetes.io/docs/concepts/architecture/leases/#api-server-identity>. Each server renews its
//! own; those that nobody renews any more are deleted by any of them.

use std::{sync::Arc, time::Duration};

use data_encoding::BASE32_NOPAD;
use k8s_model::{Object, labels::Selector};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::{SignedDuration, Timestamp},
};
use k8s_store::List;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Result, bootstrap,
    http::options::DeleteOptions,
    registry::{Internal, Registry, key, update::Rules, value::Stored},
};

const GROUP: &str = "coordination.k8s.io";
const RESOURCE: &str = "leases";
const NAMESPACE: &str = "kube-system";
/// Tells the leases of servers from others.
const LABEL: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// For how long a lease says that its server is there, as upstream has it.
const SECONDS: i32 = 3600;
/// How often it is renewed, as upstream has it, and as much as 4 % later.
const RENEW: Duration = Duration::from_secs(10);
/// How often those of others are looked at, as upstream has it.
const COLLECT: Duration = Duration::from_secs(3600);

/// The name of the server of that machine, which is that of its lease.
fn id(hostname: &str) -> String {
    let mut hash = Sha256::new();
    for part in [hostname, COMPONENT] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part);
    }
    let encoded = BASE32_NOPAD.encode(&hash.finalize()[..16]);
    format!("apiserver-{}", encoded.to_ascii_lowercase())
}

/// Keeps the lease of the server of that machine, and deletes those that have run out, until the server stops.
pub(crate) fn start(
    registry: &Arc<Registry>,
    hostname: String,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    if registry.stored_row(GROUP, RESOURCE).is_none() {
        return;
    }
    let keeping = keep(registry.clone(), hostname);
    tasks.spawn(stop.clone().run_until_cancelled_owned(keeping));
}

async fn keep(registry: Arc<Registry>, hostname: String) {
    let name = id(&hostname);
    let mut random = registry.fork_random();
    let unique = uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid();
    let holder = format!("{name}_{unique}");
    let mut collect = Instant::now();
    loop {
        if let Err(error) = renew(&registry, &name, &holder, &hostname).await {
            tracing::warn!(%error, lease = name, "the server's lease could not be renewed");
        }
        if collect <= Instant::now() {
            collect += COLLECT;
            if let Err(error) = delete_expired(&registry).await {
                tracing::warn!(%error, "leases of servers that are gone could not be deleted");
            }
        }
        tokio::time::sleep(RENEW.mul_f64(1.0 + 0.04 * random.f64())).await;
    }
}

/// Makes the lease, or says in it that the server is still there.
async fn renew(registry: &Registry, name: &str, holder: &str, hostname: &str) -> Result<()> {
    let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
        return Ok(());
    };
    let internal = Internal::new();
    let target = internal.target(&row, NAMESPACE, name);
    let now = registry.now();
    let done = registry.update(&target, Rules::Object, |live| {
        let Some(lease) = live.downcast_ref::<Lease>() else {
            return Ok(live.boxed_clone());
        };
        let mut lease = lease.clone();
        mark(&mut lease, hostname, now);
        Ok(Box::new(lease))
    });
    match done.await {
        Err(error) if error.code() == 404 => {}
        other => return other.map(drop),
    }
    let mut lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(SECONDS),
            ..LeaseSpec::default()
        }),
    };
    mark(&mut lease, hostname, now);
    bootstrap::ensure(registry, GROUP, RESOURCE, Box::new(lease)).await
}

fn mark(lease: &mut Lease, hostname: &str, now: Timestamp) {
    let labels = lease.metadata.labels.get_or_insert_default();
    for (label, value) in [(LABEL, COMPONENT), (HOSTNAME, hostname)] {
        labels.insert(label.to_owned(), value.to_owned());
    }
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
}

fn has_expired(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    match (renewed, seconds) {
        (Some(MicroTime(renewed)), Some(seconds)) => {
            now.duration_since(*renewed) > SignedDuration::from_secs(seconds.into())
        }
        _ => true,
    }
}

/// Deletes the leases of servers that have run out.
async fn delete_expired(registry: &Registry) -> Result<()> {
    let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
        return Ok(());
    };
    let ours: Selector = format!("{LABEL}={COMPONENT}")
        .parse()
        .unwrap_or_else(|_| Selector::nothing());
    let list = List {
        prefix: key::namespace_prefix(&row.prefix, &row.resource, NAMESPACE),
        ..List::default()
    };
    for entry in registry.store.list(list).await?.entries {
        let stored = row.settle(Stored::of(&entry)?).await?;
        let object: Box<dyn Object> = row.decode(&stored, entry.modified.0)?;
        let Some(lease) = object.downcast_ref::<Lease>() else {
            continue;
        };
        let labels = lease.metadata.labels.clone().unwrap_or_default();
        if !ours.matches(&labels) || !has_expired(lease, registry.now()) {
            continue;
        }
        let mut options = DeleteOptions::default();
        // Whoever renews it meanwhile keeps it.
        options.preconditions.resource_version = lease.metadata.resource_version.clone();
        let internal = Internal::new();
        let name = lease.metadata.name.clone().unwrap_or_default();
        let target = internal.target(&row, NAMESPACE, &name);
        match registry.delete(&target, &options).await {
            Err(error) if !matches!(error.code(), 404 | 409) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    use kube::{
        Api,
        api::{ListParams, PostParams},
    };

    use super::*;
    use crate::{ApiServer, auth::Identity};

    #[test]
    fn a_server_is_named_after_its_machine_as_upstreams_is() {
        assert_eq!(id("node-1"), "apiserver-lgabes5ywnaqeagh5dny4zlzs4");
        assert_ne!(id("node-1"), id("node-2"));
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    async fn leases(server: &ApiServer) -> (Api<Lease>, Vec<Lease>) {
        let client = server.client(Identity::system_masters());
        let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
        let params =
            ListParams::default().labels("apiserver.kubernetes.io/identity=kube-apiserver");
        let all = api.list(&params).await.unwrap().items;
        (api, all)
    }

    async fn until(server: &ApiServer, wanted: impl Fn(&[Lease]) -> bool) -> Vec<Lease> {
        loop {
            let (_, all) = leases(server).await;
            if wanted(&all) {
                return all;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }

    fn renewed(lease: &Lease) -> Timestamp {
        lease.spec.as_ref().unwrap().renew_time.as_ref().unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_keeps_its_lease_and_ends_those_that_have_run_out() {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let clock = now.clone();
        let server = ApiServer::builder()
            .clock(Arc::new(move || at(clock.load(SeqCst))))
            .identity("node-1")
            .build()
            .await
            .unwrap();
        let all = until(&server, |all| all.len() == 1).await;
        let (lease, spec) = (&all[0], all[0].spec.clone().unwrap());
        let name = lease.metadata.name.clone().unwrap();
        assert_eq!(name, id("node-1"));
        assert_eq!(lease.metadata.labels.as_ref().unwrap()[HOSTNAME], "node-1");
        assert_eq!(spec.lease_duration_seconds, Some(3600));
        assert!(
            spec.holder_identity
                .unwrap()
                .starts_with(&format!("{name}_"))
        );
        assert_eq!(renewed(lease), at(1_000_000));
        // Two others: one is gone, one was there not long ago.
        let (api, _) = leases(&server).await;
        for (other, since) in [("gone", 0), ("there", 1_000_000)] {
            let mut lease = lease.clone();
            lease.metadata = ObjectMeta {
                name: Some(other.to_owned()),
                ..ObjectMeta::default()
            };
            mark(&mut lease, other, at(since));
            api.create(&PostParams::default(), &lease).await.unwrap();
        }
        now.store(1_000_010, SeqCst);
        let mine = |all: &[Lease]| {
            all.iter()
                .find(|l| l.metadata.name.as_ref() == Some(&name))
                .map(renewed)
        };
        until(&server, |all| mine(all) == Some(at(1_000_010))).await;
        let left = until(&server, |all| all.len() == 2).await;
        assert!(
            left.iter()
                .any(|l| l.metadata.name.as_deref() == Some("there"))
        );
        // What somebody has deleted is made again.
        api.delete(&name, &Default::default()).await.unwrap();
        until(&server, |all| mine(all).is_some()).await;
        server.shutdown().await;
    }

    #[tokio::test]
    async fn a_server_without_a_name_or_without_leases_has_none() {
        let server = ApiServer::builder().build().await.unwrap();
        assert!(leases(&server).await.1.is_empty());
        let resources = crate::resources::for_custom_resources();
        let server = ApiServer::builder().resources(resources).identity("node-1");
        server.build().await.unwrap().shutdown().await;
    }
}

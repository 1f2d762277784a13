//! Writes what claims get.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Binding;
use crate::snapshot::{
    PodInfo, ResourceClaim,
    devices::wire::{Allocation, Consumer, GivenDevice},
};

/// Keeps a claim that has devices from going before they are free (upstream's name).
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// How often a write is tried again that somebody else's came before.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long until the API is asked again what became of a write.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// How often is looked whether devices are ready.
const PERIOD: Duration = Duration::from_secs(1);

enum Failure {
    /// Somebody else wrote before.
    Conflict(String),
    /// It was not done.
    Refused(String),
    /// It may have been done.
    Unsure(String),
}

impl Failure {
    fn of(what: &str, error: &kube::Error) -> Self {
        let text = format!("{what}: {error}");
        match error {
            kube::Error::Api(status) if status.code == 409 => Failure::Conflict(text),
            kube::Error::Api(status) if status.code == 429 => Failure::Conflict(text),
            kube::Error::Api(status) if (400..500).contains(&status.code) => Failure::Refused(text),
            _ => Failure::Unsure(text),
        }
    }
}

fn api(client: &Client, claim: &ResourceClaim) -> Api<ResourceClaim> {
    Api::namespaced(client.clone(), claim.namespace())
}

/// A patch for this very state of a claim.
fn patch(claim: &ResourceClaim, mut fields: Value) -> Patch<Value> {
    fields["metadata"]["uid"] = json!(claim.metadata.uid);
    fields["metadata"]["resourceVersion"] = json!(claim.metadata.resource_version);
    Patch::Merge(fields)
}

async fn timed<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(result) => result.map_err(|error| Failure::of(what, &error)),
        Err(_) => Err(Failure::Unsure(format!("{what}: request timed out"))),
    }
}

/// Gives a claim its devices, if it has none yet, and the pod the claim.
pub(super) async fn write(
    client: &Client,
    binding: &Binding,
    pod: &PodInfo,
) -> Result<ResourceClaim, String> {
    let api = api(client, &binding.claim);
    let mut claim = (*binding.claim).clone();
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(BETWEEN_TRIES).await;
            let what = format!("get updated claim {} after conflict", claim.key());
            let fresh = timed(&what, api.get(claim.name())).await;
            claim = fresh.map_err(|failure| match failure {
                Failure::Conflict(text) | Failure::Refused(text) | Failure::Unsure(text) => text,
            })?;
        }
        match try_once(&api, claim.clone(), binding, pod).await {
            Ok(written) => return Ok(written),
            Err(Failure::Conflict(text)) => last = text,
            Err(Failure::Refused(text)) => return Err(text),
            Err(Failure::Unsure(text)) => return look(&api, binding, pod, text).await,
        }
    }
    Err(last)
}

async fn try_once(
    api: &Api<ResourceClaim>,
    mut claim: ResourceClaim,
    binding: &Binding,
    pod: &PodInfo,
) -> Result<ResourceClaim, Failure> {
    let (key, params) = (claim.key(), PatchParams::default());
    if claim.metadata.deletion_timestamp.is_some() || claim.uid() != binding.claim.uid() {
        let text = format!("claim {key} got deleted in the meantime");
        return Err(Failure::Refused(text));
    }
    let mut what = format!("add reservation to claim {key}");
    let mut status = json!({});
    if let Some(allocation) = &binding.allocation {
        if claim.status.allocation.is_some() {
            let text = format!("claim {key} got allocated elsewhere in the meantime");
            return Err(Failure::Refused(text));
        }
        let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
            let fields = json!({"metadata": {"finalizers": finalizers}});
            let what = format!("add finalizer to claim {key}");
            let patch = patch(&claim, fields);
            claim = timed(&what, api.patch(claim.name(), &params, &patch)).await?;
        }
        let timed = Allocation {
            allocation_timestamp: Some(now()),
            ..allocation.clone()
        };
        status["allocation"] = json!(timed);
        what = format!("add allocation and reservation to claim {key}");
    }
    let mut reserved = claim.status.reserved_for.clone();
    if !claim.is_reserved_for(pod.uid()) {
        reserved.push(Consumer {
            resource: "pods".to_owned(),
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            ..Consumer::default()
        });
    }
    status["reservedFor"] = json!(reserved);
    let patch = patch(&claim, json!({"status": status}));
    timed(&what, api.patch_status(claim.name(), &params, &patch)).await
}

/// The time, in whole seconds as the API keeps it.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// What became of a write whose answer was lost: until that is known, the devices are not given to anybody else.
async fn look(
    api: &Api<ResourceClaim>,
    binding: &Binding,
    pod: &PodInfo,
    error: String,
) -> Result<ResourceClaim, String> {
    loop {
        match timed("get claim", api.get(binding.claim.name())).await {
            Ok(found) => {
                let is_ours = match (&binding.allocation, &found.status.allocation) {
                    (Some(wanted), Some(is)) => wanted.devices.results == is.devices.results,
                    (None, is) => is.is_some(),
                    (Some(_), None) => false,
                };
                let is_done = is_ours
                    && found.uid() == binding.claim.uid()
                    && found.is_reserved_for(pod.uid());
                return if is_done { Ok(found) } else { Err(error) };
            }
            Err(Failure::Refused(_)) => return Err(error),
            Err(Failure::Conflict(_) | Failure::Unsure(_)) => {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
    }
}

/// Whether a claim's devices are bound: those that are, once drivers say so (KEP-5007).
fn is_bound(claim: &ResourceClaim) -> Result<bool, String> {
    let results = claim.status.allocation.iter();
    let mut is_bound = true;
    for given in results.flat_map(|allocation| &allocation.devices.results) {
        let holds = |condition: &String| {
            let statuses = claim.status.devices.iter();
            let mut statuses = statuses.filter(|status| {
                (&status.driver, &status.pool, &status.device)
                    == (&given.driver, &given.pool, &given.device)
            });
            statuses.any(|status| {
                let mut conditions = status.conditions.iter();
                conditions.any(|c| c.type_ == *condition && c.status == "True")
            })
        };
        let GivenDevice {
            driver,
            pool,
            device,
            ..
        } = given;
        if let Some(failed) = given.binding_failure_conditions.iter().find(|c| holds(c)) {
            return Err(format!(
                "claim {}: device {driver}/{pool}/{device} can't be bound: {failed}",
                claim.key()
            ));
        }
        is_bound &= given.binding_conditions.iter().all(holds);
    }
    Ok(is_bound)
}

/// Waits until a claim's devices are bound; if they can't be, takes them back. The driver's `bind_timeout` is its limit.
pub(super) async fn wait(client: &Client, mut claim: ResourceClaim) -> Result<(), String> {
    let api = api(client, &claim);
    loop {
        match is_bound(&claim) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(text) => {
                let fields = json!({"status": {"allocation": null, "reservedFor": null}});
                let patch = patch(&claim, fields);
                let params = PatchParams::default();
                let freed = api.patch_status(claim.name(), &params, &patch).await;
                if let Err(error) = freed {
                    tracing::warn!(%error, object.ref = claim.key(), "claim not deallocated");
                }
                return Err(text);
            }
        }
        tokio::time::sleep(PERIOD).await;
        match timed("get claim", api.get(claim.name())).await {
            Ok(found) if found.uid() == claim.uid() => claim = found,
            Ok(_) => return Err(format!("claim {} got deleted in the meantime", claim.key())),
            Err(Failure::Refused(text)) => return Err(text),
            Err(Failure::Conflict(_) | Failure::Unsure(_)) => {}
        }
    }
}

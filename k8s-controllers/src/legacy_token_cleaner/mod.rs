//! Legacy token cleaner: Secrets with tokens that were once made for every service account are marked invalid when
//! nobody has used them for a year, and removed when nobody has asked for them for another.
//!
//! Mirrors upstream's `legacy-serviceaccount-token-cleaner`. See KEP-2799 and
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-cleaner>.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::watcher,
};
use serde_json::{Value, json};

use crate::{
    Error,
    common::{context::Context, owner},
    error::unless_outdated,
    runtime::{Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// For how long nobody may have used a token; upstream's `--legacy-service-account-token-clean-up-period`.
pub(crate) const PERIOD: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often each Secret is looked at, as upstream.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The label that the API server writes: the day of the last use.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label of tokens that the API server takes no more.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Where API servers say since when they have written down uses.
const TRACKING: (&str, &str) = (
    "kube-system",
    "kube-apiserver-legacy-service-account-token-tracking",
);

pub(crate) struct LegacyTokenCleaner {
    client: Client,
    clock: Clock,
    period: Duration,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    pods: Informer<Pod>,
    tracking: Informer<ConfigMap>,
}

/// The controller, its handlers in place. Keys are Secrets.
pub(crate) fn controller(context: &Context, period: Duration) -> Controller<LegacyTokenCleaner> {
    let fields = |fields: &str| watcher::Config::default().fields(fields);
    let (namespace, name) = TRACKING;
    let tracking = fields(&format!(
        "metadata.namespace={namespace},metadata.name={name}"
    ));
    let reconciler = LegacyTokenCleaner {
        client: context.client.clone(),
        clock: context.clock,
        period,
        secrets: (context.informers).informer_with(fields(&format!("type={TYPE}"))),
        accounts: context.informers.informer(),
        pods: context.informers.informer(),
        tracking: context.informers.informer_with(tracking),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.secrets.add_handler(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let adds = queue.clone();
    let secrets = reconciler.secrets.clone();
    reconciler.tracking.add_handler(move |_| {
        for secret in secrets.list() {
            adds.add(ObjectKey::of(&secret.metadata));
        }
    });
    let ready = (
        reconciler.secrets.synced(),
        reconciler.accounts.synced(),
        reconciler.pods.synced(),
        reconciler.tracking.synced(),
    );
    Controller::new("legacy-serviceaccount-token-cleaner", reconciler, queue)
        .with_workers(1)
        .wait_for(ready.0)
        .wait_for(ready.1)
        .wait_for(ready.2)
        .wait_for(ready.3)
}

/// What becomes of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Its token is taken no more from now on.
    Invalidate,
    Delete,
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Whether a Secret that was made for the account has been left alone for long enough: the pure core. `since` is
/// the day from which on uses are written down.
fn judge(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    since: Option<Date>,
    period: Duration,
    now: Timestamp,
) -> Verdict {
    let Some(before) = SignedDuration::try_from(period)
        .ok()
        .and_then(|period| now.checked_sub(period).ok())
    else {
        return Verdict::Keep;
    };
    let meta = &secret.metadata;
    // All of the first day has to be over.
    let tracked = since
        .and_then(|since| since.tomorrow().ok())
        .and_then(|day| day.to_zoned(TimeZone::UTC).ok())
        .is_some_and(|start| start.timestamp() <= before);
    let old = (meta.creation_timestamp.as_ref()).is_some_and(|made| made.0 < before);
    if !tracked || !old || meta.deletion_timestamp.is_some() {
        return Verdict::Keep;
    }
    let label = |name: &str| secret.labels().get(name).map(|text| text.parse::<Date>());
    match label(LAST_USED) {
        Some(Ok(used)) if used < day(before) => {}
        None => {}
        // It was used lately, or nobody can tell.
        Some(_) => return Verdict::Keep,
    }
    let made_for_account = account.is_some_and(|account| {
        let secrets = account.secrets.iter().flatten();
        secrets
            .filter_map(|reference| reference.name.as_deref())
            .any(|name| meta.name.as_deref() == Some(name))
    });
    if !made_for_account {
        return Verdict::Keep;
    }
    match label(INVALID_SINCE) {
        Some(Ok(invalid)) if invalid < day(before) => Verdict::Delete,
        Some(Ok(_)) => Verdict::Keep,
        _ => Verdict::Invalidate,
    }
}

/// The names of the Secrets that a pod uses, wherever it names them.
fn secrets_of(pod: &Pod) -> BTreeSet<String> {
    fn named(value: &Value, out: &mut BTreeSet<String>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| named(value, out)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    let name = match key.as_str() {
                        "secretName" => value.as_str(),
                        "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                            value["name"].as_str()
                        }
                        _ => None,
                    };
                    out.extend(name.map(str::to_owned));
                    if key == "imagePullSecrets" {
                        let secrets = value.as_array().into_iter().flatten();
                        let names = secrets.filter_map(|secret| secret["name"].as_str());
                        out.extend(names.map(str::to_owned));
                    }
                    named(value, out);
                }
            }
            _ => {}
        }
    }
    let mut out = BTreeSet::new();
    named(
        &serde_json::to_value(&pod.spec).unwrap_or_default(),
        &mut out,
    );
    out
}

impl LegacyTokenCleaner {
    /// The account that the Secret is about.
    fn account(&self, secret: &Secret) -> Option<std::sync::Arc<ServiceAccount>> {
        let name = secret.annotations().get(ACCOUNT)?;
        let account = (self.accounts).find(owner::namespace(&secret.metadata), name)?;
        let uid = secret.annotations().get(ACCOUNT_UID);
        let same =
            uid.is_none_or(|uid| uid.is_empty() || account.metadata.uid.as_ref() == Some(uid));
        same.then_some(account)
    }

    fn is_mounted(&self, secret: &Secret) -> bool {
        let pods = self.pods.list_namespace(owner::namespace(&secret.metadata));
        pods.iter()
            .any(|pod| secrets_of(pod).contains(owner::name(&secret.metadata)))
    }
}

impl Reconciler for LegacyTokenCleaner {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(secret) = self.secrets.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let tracking = self.tracking.find(TRACKING.0, TRACKING.1);
        let since = tracking.and_then(|map| map.data.as_ref()?.get("since")?.parse().ok());
        let now = self.clock.now();
        let account = self.account(&secret);
        let verdict = judge(&secret, account.as_deref(), since, self.period, now);
        if verdict == Verdict::Keep || self.is_mounted(&secret) {
            return Ok(Requeue::After(AGAIN));
        }
        let meta = &secret.metadata;
        let api = Api::<Secret>::namespaced(self.client.clone(), owner::namespace(meta));
        let done = if verdict == Verdict::Delete {
            let params = DeleteParams::default().preconditions(Preconditions {
                resource_version: meta.resource_version.clone(),
                ..Preconditions::default()
            });
            api.delete(owner::name(meta), &params).await.map(drop)
        } else {
            let labels = json!({"metadata": {
                "uid": meta.uid,
                "labels": {INVALID_SINCE: day(now).to_string()},
            }});
            let params = PatchParams::default();
            let patch = Patch::Merge(labels);
            (api.patch(owner::name(meta), &params, &patch).await).map(drop)
        };
        unless_outdated(done)?;
        Ok(Requeue::After(AGAIN))
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(labels: Value) -> Secret {
        serde_json::from_value(json!({"metadata": {
            "name": "builder-token-abcde", "namespace": "ns", "labels": labels,
            "creationTimestamp": "2024-01-01T00:00:00Z",
        }}))
        .unwrap()
    }

    fn account(secret: &str) -> ServiceAccount {
        serde_json::from_value(json!({"metadata": {}, "secrets": [{"name": secret}]})).unwrap()
    }

    fn at(now: &str, secret: &Secret, account: Option<&ServiceAccount>) -> Verdict {
        let since = "2024-06-01".parse().unwrap();
        judge(secret, account, Some(since), PERIOD, now.parse().unwrap())
    }

    #[test]
    fn what_nobody_uses_for_a_year_is_marked_and_a_year_later_removed() {
        let own = account("builder-token-abcde");
        let judge = |now: &str, labels: Value| at(now, &secret(labels), Some(&own));
        // Uses have not been written down for long enough.
        assert_eq!(judge("2025-06-01T23:00:00Z", json!({})), Verdict::Keep);
        assert_eq!(
            judge("2025-06-02T01:00:00Z", json!({})),
            Verdict::Invalidate
        );
        let used = json!({LAST_USED: "2024-12-31"});
        assert_eq!(judge("2025-12-31T12:00:00Z", used.clone()), Verdict::Keep);
        assert_eq!(judge("2026-01-01T12:00:00Z", used), Verdict::Invalidate);
        let odd = json!({LAST_USED: "yesterday"});
        assert_eq!(judge("2027-01-01T12:00:00Z", odd), Verdict::Keep);
        let marked = json!({INVALID_SINCE: "2026-01-01"});
        assert_eq!(judge("2027-01-01T12:00:00Z", marked.clone()), Verdict::Keep);
        assert_eq!(judge("2027-01-02T12:00:00Z", marked), Verdict::Delete);
        let odd = json!({INVALID_SINCE: "yes"});
        assert_eq!(judge("2027-01-02T12:00:00Z", odd), Verdict::Invalidate);
    }

    #[test]
    fn what_somebody_made_themselves_stays() {
        let late = "2030-01-01T00:00:00Z";
        assert_eq!(at(late, &secret(json!({})), None), Verdict::Keep);
        let other = account("other");
        assert_eq!(at(late, &secret(json!({})), Some(&other)), Verdict::Keep);
        let own = account("builder-token-abcde");
        let mut young = secret(json!({}));
        young.metadata.creation_timestamp =
            serde_json::from_value(json!("2029-06-01T00:00:00Z")).unwrap();
        assert_eq!(at(late, &young, Some(&own)), Verdict::Keep);
        let now = late.parse().unwrap();
        assert_eq!(
            judge(&secret(json!({})), Some(&own), None, PERIOD, now),
            Verdict::Keep
        );
    }

    #[test]
    fn a_pod_uses_what_it_names_anywhere() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "a"}],
            "containers": [{"name": "c",
                "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}},
                    {"name": "y", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}],
                "envFrom": [{"secretRef": {"name": "c"}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "d"}},
                {"name": "w", "projected": {"sources": [{"secret": {"name": "e"}}]}},
                {"name": "u", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "f"}}}],
        }}))
        .unwrap();
        let found: Vec<String> = secrets_of(&pod).into_iter().collect();
        assert_eq!(found, ["a", "b", "c", "d", "e", "f"]);
    }
}

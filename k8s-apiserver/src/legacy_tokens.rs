//! What the server writes down of tokens in Secrets: since when it does, and on which day each was last used.
//!
//! See KEP-2799. Upstream's `legacy_token_tracking_controller`, and the part of its authenticator that labels Secrets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Result,
    auth::token::{LAST_USED, ServiceAccountTokens, UsedSecret, is_written_down},
    registry::{Internal, Registry, update::Rules},
};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
const SINCE: &str = "since";
/// How often the object is looked for; upstream makes it again no sooner either.
const AGAIN: Duration = Duration::from_secs(30 * 60);

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// What says since when uses are written down.
pub(crate) fn tracking(now: Timestamp) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([(SINCE.to_owned(), day(now).to_string())].into()),
        ..ConfigMap::default()
    }
}

/// Follows the uses of tokens, and sees to the object that says since when, until the server stops. Where there are no
/// Secrets there is nothing to do.
pub(crate) fn start(
    registry: &Arc<Registry>,
    tokens: &ServiceAccountTokens,
    tracks: bool,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    if registry.stored_row("", "secrets").is_none() {
        return;
    }
    let used = tokens.used_secrets();
    let following = follow(registry.clone(), used, tracks);
    tasks.spawn(stop.clone().run_until_cancelled_owned(following));
}

async fn follow(registry: Arc<Registry>, mut used: mpsc::Receiver<UsedSecret>, tracks: bool) {
    let mut again = tokio::time::interval(AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            secret = used.recv() => {
                let Some(secret) = secret else {
                    return;
                };
                if let Err(error) = label(&registry, &secret).await {
                    tracing::warn!(%error, secret = secret.name, "the use of a token could not be written down");
                }
            }
            _ = again.tick(), if tracks => {
                if let Err(error) = keep(&registry).await {
                    tracing::warn!(%error, "since when uses of tokens are written down could not be said");
                }
            }
        }
    }
}

/// Says in a Secret that its token was used.
async fn label(registry: &Registry, used: &UsedSecret) -> Result<()> {
    let Some(row) = registry.stored_row("", "secrets") else {
        return Ok(());
    };
    let internal = Internal::new();
    let target = internal.target(&row, &used.namespace, &used.name);
    let done = registry.update(&target, Rules::Object, |live| {
        let Some(secret) = live.downcast_ref::<Secret>() else {
            return Ok(live.boxed_clone());
        };
        let mut secret = secret.clone();
        let meta = &mut secret.metadata;
        // Another of that name is not the one whose token was used.
        if meta.uid.as_deref() == Some(&used.uid) && !is_written_down(meta, used.day) {
            let labels = meta.labels.get_or_insert_default();
            labels.insert(LAST_USED.to_owned(), used.day.to_string());
        }
        Ok(Box::new(secret))
    });
    gone_is_fine(done.await.map(drop))
}

/// Makes the object if it is not there, and mends it if it says nothing.
async fn keep(registry: &Registry) -> Result<()> {
    let now = registry.now();
    let fresh = tracking(now);
    crate::bootstrap::ensure(registry, "", "configmaps", Box::new(fresh)).await?;
    let Some(row) = registry.stored_row("", "configmaps") else {
        return Ok(());
    };
    let internal = Internal::new();
    let target = internal.target(&row, NAMESPACE, NAME);
    let done = registry.update(&target, Rules::Object, |live| {
        let Some(map) = live.downcast_ref::<ConfigMap>() else {
            return Ok(live.boxed_clone());
        };
        let mut map = map.clone();
        let data: &mut BTreeMap<String, String> = map.data.get_or_insert_default();
        let since = data.entry(SINCE.to_owned()).or_default();
        if since.parse::<Date>().is_err() {
            *since = day(now).to_string();
        }
        Ok(Box::new(map))
    });
    gone_is_fine(done.await.map(drop))
}

fn gone_is_fine(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.code() == 404 => Ok(()),
        other => other,
    }
}

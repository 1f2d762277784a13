//! Token cleaner: bootstrap tokens that have expired are removed.
//!
//! Mirrors upstream's `pkg/controller/bootstrap` token cleaner. See
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
    runtime::watcher,
};

use crate::{
    Error,
    common::{context::Context, owner},
    error::unless_outdated,
    runtime::{Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

pub(crate) struct TokenCleaner {
    client: Client,
    clock: Clock,
    tokens: Informer<Secret>,
}

/// The controller, its handlers in place. Keys are secrets.
pub(crate) fn controller(context: &Context) -> Controller<TokenCleaner> {
    let tokens =
        watcher::Config::default().fields(&format!("metadata.namespace={NAMESPACE},type={TYPE}"));
    let reconciler = TokenCleaner {
        client: context.client.clone(),
        clock: context.clock,
        tokens: context.informers.informer_with(tokens),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.tokens.add_handler(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let ready = reconciler.tokens.synced();
    Controller::new("token-cleaner-controller", reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

/// How long the token is good; `None` if for ever. What cannot be read as a time is over. The pure core.
fn time_left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let text = &secret.data.as_ref()?.get("expiration")?.0;
    if text.is_empty() {
        return None;
    }
    let ends = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let left = ends.map(|ends| ends.duration_since(now));
    Some(
        left.and_then(|left| Duration::try_from(left).ok())
            .unwrap_or_default(),
    )
}

impl Reconciler for TokenCleaner {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(secret) = self.tokens.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        match time_left(&secret, self.clock.now()) {
            None => return Ok(Requeue::OnChange),
            Some(left) if !left.is_zero() => return Ok(Requeue::After(left)),
            Some(_) => {}
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: secret.metadata.uid.clone(),
            ..Preconditions::default()
        });
        let api = Api::<Secret>::namespaced(self.client.clone(), NAMESPACE);
        unless_outdated(api.delete(owner::name(&secret.metadata), &params).await)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_lasts_until_its_time_and_for_ever_without_one() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let left = |expiration: Option<&str>| {
            let mut secret: Secret = serde_json::from_value(json!({"metadata": {}})).unwrap();
            if let Some(text) = expiration {
                let text = k8s_openapi::ByteString(text.as_bytes().to_vec());
                secret.data = Some([("expiration".to_owned(), text)].into());
            }
            time_left(&secret, now)
        };
        assert_eq!(left(None), None);
        assert_eq!(
            left(Some("2026-01-01T00:01:00Z")),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            left(Some("2026-01-01T02:00:00+03:00")),
            Some(Duration::ZERO)
        );
        assert_eq!(left(Some("soon")), Some(Duration::ZERO));
    }
}

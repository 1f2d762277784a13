//! ServiceAccount: every namespace has the account `default`.
//!
//! Mirrors upstream's `pkg/controller/serviceaccount`.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client, api::PostParams};

use crate::{
    Error,
    common::{context::Context, owner},
    error::{is_already_exists, is_namespace_terminating},
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The account that pods get when they ask for none.
const NAME: &str = "default";

pub(crate) struct ServiceAccounts {
    client: Client,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

/// The controller, its handlers in place. Keys are namespaces.
pub(crate) fn controller(context: &Context) -> Controller<ServiceAccounts> {
    let reconciler = ServiceAccounts {
        client: context.client.clone(),
        namespaces: context.informers.informer(),
        accounts: context.informers.informer(),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.namespaces.add_handler(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let adds = queue.clone();
    reconciler.accounts.add_handler(move |change| {
        if let Change::Deleted(account) = change
            && owner::name(&account.metadata) == NAME
        {
            adds.add(ObjectKey::new("", owner::namespace(&account.metadata)));
        }
    });
    let ready = (reconciler.namespaces.synced(), reconciler.accounts.synced());
    Controller::new("serviceaccount-controller", reconciler, queue)
        .with_workers(1)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

/// Whether an account must be made: the pure core.
fn is_missing(namespace: Option<&Namespace>, account: Option<&ServiceAccount>) -> bool {
    let active = |namespace: &Namespace| {
        namespace.metadata.deletion_timestamp.is_none()
            && namespace
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                != Some("Terminating")
    };
    namespace.is_some_and(active) && account.is_none()
}

impl Reconciler for ServiceAccounts {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let account = self.accounts.find(key.name(), NAME);
        if !is_missing(self.namespaces.get(&key).as_deref(), account.as_deref()) {
            return Ok(Requeue::OnChange);
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(NAME.to_owned());
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), key.name());
        match api.create(&PostParams::default(), &account).await {
            Err(error) if !is_already_exists(&error) && !is_namespace_terminating(&error) => {
                Err(error.into())
            }
            _ => Ok(Requeue::OnChange),
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_that_stays_gets_an_account() {
        let mut namespace = Namespace::default();
        assert!(is_missing(Some(&namespace), None));
        assert!(!is_missing(
            Some(&namespace),
            Some(&ServiceAccount::default())
        ));
        assert!(!is_missing(None, None));
        namespace.metadata.deletion_timestamp =
            Some(crate::common::fixture::time("2026-01-01T00:00:00Z"));
        assert!(!is_missing(Some(&namespace), None));
    }
}

//! Service account tokens: who makes a Secret of the type `kubernetes.io/service-account-token` finds a token of the
//! account in it that lasts as long as the Secret.
//!
//! Mirrors upstream's `pkg/controller/serviceaccount` tokens controller, without the Secrets that upstream once made
//! for every account. See <https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets>.

use std::{error::Error as StdError, sync::Arc};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::watcher,
};

use crate::{
    Error,
    common::{context::Context, owner},
    error::{is_not_found, unless_outdated},
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

const TYPE: &str = "kubernetes.io/service-account-token";
/// The annotations that say whose token it is.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Holds the key by which tokens of service accounts are signed.
///
/// # Purpose
/// The controller that fills Secrets with tokens decides which are to be filled, and asks this for the token. Write
/// your own to keep the key elsewhere.
///
/// # Guarantees
/// The API server takes the token for the account's as long as the account and the Secret are there and the Secret
/// has that token.
///
/// # Concurrency
/// Calls overlap, and should not block.
pub trait ServiceAccountTokenSigner: Send + Sync + 'static {
    /// The token of an account for the Secret of that name in its namespace.
    ///
    /// # Errors
    /// An error means that the Secret is tried again later.
    fn sign(
        &self,
        account: &ServiceAccount,
        secret: &str,
    ) -> Result<String, Box<dyn StdError + Send + Sync>>;
}

pub(crate) struct Tokens {
    client: Client,
    signer: Arc<dyn ServiceAccountTokenSigner>,
    bundle: Option<Arc<str>>,
    accounts: Informer<ServiceAccount>,
    secrets: Informer<Secret>,
}

/// The controller, its handlers in place. Keys are Secrets; `bundle` is PEM.
pub(crate) fn controller(
    context: &Context,
    signer: Arc<dyn ServiceAccountTokenSigner>,
    bundle: Option<Arc<str>>,
) -> Controller<Tokens> {
    let only_tokens = watcher::Config::default().fields(&format!("type={TYPE}"));
    let reconciler = Tokens {
        client: context.client.clone(),
        signer,
        bundle,
        accounts: context.informers.informer(),
        secrets: context.informers.informer_with(only_tokens),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.secrets.add_handler(move |change| {
        adds.add(ObjectKey::of(&change.object().metadata));
    });
    let adds = queue.clone();
    let secrets = reconciler.secrets.clone();
    reconciler.accounts.add_handler(move |change| {
        if let Change::Deleted(account) = change {
            let (namespace, name) = (
                owner::namespace(&account.metadata),
                owner::name(&account.metadata),
            );
            for secret in secrets.list_namespace(namespace) {
                if account_of(&secret) == Some(name) {
                    adds.add(ObjectKey::of(&secret.metadata));
                }
            }
        }
    });
    let ready = (reconciler.accounts.synced(), reconciler.secrets.synced());
    Controller::new("serviceaccount-token-controller", reconciler, queue)
        .with_workers(2)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

/// The name of the account whose token the Secret is for.
fn account_of(secret: &Secret) -> Option<&str> {
    secret.annotations().get(ACCOUNT).map(String::as_str)
}

/// Whether the Secret is about that account, and not one of that name before it.
fn is_about(secret: &Secret, account: &ServiceAccount) -> bool {
    let uid = secret.annotations().get(ACCOUNT_UID);
    uid.is_none_or(|uid| uid.is_empty() || account.metadata.uid.as_ref() == Some(uid))
}

/// What a Secret lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lacks {
    bundle: bool,
    namespace: bool,
    token: bool,
}

/// The pure core.
fn lacks(secret: &Secret, bundle: Option<&str>) -> Lacks {
    let data = |key: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(key));
        found.map_or(&[][..], |value| value.0.as_slice())
    };
    Lacks {
        bundle: bundle.is_some_and(|pem| !pem.is_empty() && data("ca.crt") != pem.as_bytes()),
        namespace: data("namespace").is_empty(),
        token: data("token").is_empty(),
    }
}

impl Tokens {
    /// The account, from the server itself where memory has none: it may be new.
    async fn account(&self, secret: &Secret) -> Result<Option<Arc<ServiceAccount>>, Error> {
        let Some(name) = account_of(secret) else {
            return Ok(None);
        };
        let namespace = owner::namespace(&secret.metadata);
        let known = self.accounts.find(namespace, name);
        if let Some(known) = known.filter(|account| is_about(secret, account)) {
            return Ok(Some(known));
        }
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await?.map(Arc::new);
        Ok(found.filter(|account| is_about(secret, account)))
    }

    /// A Secret that is gone is no longer named by accounts.
    async fn forget(&self, key: &ObjectKey) -> Result<(), Error> {
        for account in self.accounts.list_namespace(key.namespace()) {
            let names = |account: &ServiceAccount| {
                let mut secrets = account.secrets.iter().flatten();
                secrets.any(|secret| secret.name.as_deref() == Some(key.name()))
            };
            if !names(&account) {
                continue;
            }
            let mut account = ServiceAccount::clone(&account);
            if let Some(secrets) = &mut account.secrets {
                secrets.retain(|secret| secret.name.as_deref() != Some(key.name()));
            }
            let api = Api::<ServiceAccount>::namespaced(self.client.clone(), key.namespace());
            let name = account.name_any();
            match api.replace(&name, &PostParams::default(), &account).await {
                Err(error) if !is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: secret.metadata.uid.clone(),
            ..Preconditions::default()
        });
        let namespace = owner::namespace(&secret.metadata);
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        unless_outdated(api.delete(owner::name(&secret.metadata), &params).await)
    }

    async fn fill(&self, secret: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        let lacks = lacks(secret, self.bundle.as_deref());
        if !(lacks.bundle || lacks.namespace || lacks.token) {
            return Ok(());
        }
        let (namespace, name) = (
            owner::namespace(&secret.metadata),
            owner::name(&secret.metadata),
        );
        let mut filled = secret.clone();
        let data = filled.data.get_or_insert_default();
        let mut put = |key: &str, value: &str| {
            data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        };
        if let Some(bundle) = self.bundle.as_deref().filter(|_| lacks.bundle) {
            put("ca.crt", bundle);
        }
        if lacks.namespace {
            put("namespace", namespace);
        }
        if lacks.token {
            let token = self.signer.sign(account, name);
            let token = token.map_err(|error| Error::NotYet(error.to_string()))?;
            put("token", &token);
        }
        let annotations = filled.annotations_mut();
        annotations.insert(ACCOUNT.to_owned(), account.name_any());
        annotations.insert(
            ACCOUNT_UID.to_owned(),
            account.metadata.uid.clone().unwrap_or_default(),
        );
        // The version is that of the copy: whoever has changed it since makes this come again.
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        unless_outdated(api.replace(name, &PostParams::default(), &filled).await)
    }
}

impl Reconciler for Tokens {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        match self.secrets.get(&key) {
            None => self.forget(&key).await?,
            Some(secret) if secret.metadata.deletion_timestamp.is_some() => {}
            Some(secret) => match self.account(&secret).await? {
                None => self.delete(&secret).await?,
                Some(account) => self.fill(&secret, &account).await?,
            },
        }
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

    fn secret(data: serde_json::Value) -> Secret {
        serde_json::from_value(json!({
            "metadata": { "annotations": { ACCOUNT: "a", ACCOUNT_UID: "1" } },
            "data": data,
        }))
        .unwrap()
    }

    #[test]
    fn a_secret_lacks_what_is_empty_and_a_bundle_that_is_another() {
        let all = |bundle, namespace, token| Lacks {
            bundle,
            namespace,
            token,
        };
        assert_eq!(
            lacks(&secret(json!({})), Some("pem")),
            all(true, true, true)
        );
        assert_eq!(lacks(&secret(json!({})), None), all(false, true, true));
        let full = json!({ "ca.crt": "cGVt", "namespace": "bnM=", "token": "dA==" });
        assert_eq!(
            lacks(&secret(full.clone()), Some("pem")),
            all(false, false, false)
        );
        assert_eq!(lacks(&secret(full), Some("new")), all(true, false, false));
    }

    #[test]
    fn a_secret_of_an_account_before_is_not_about_this_one() {
        let account = |uid: &str| -> ServiceAccount {
            serde_json::from_value(json!({ "metadata": { "name": "a", "uid": uid } })).unwrap()
        };
        assert!(is_about(&secret(json!({})), &account("1")));
        assert!(!is_about(&secret(json!({})), &account("2")));
        assert!(is_about(&Secret::default(), &account("2")));
    }
}

//! [`eventually`]: waiting, and not for ever.

use std::fmt::Debug;

use kube::{
    Api,
    runtime::wait::{Condition, await_condition},
};
use serde::de::DeserializeOwned;

use crate::{Error, cluster::PATIENCE};

/// Waits until an object is as it should be, and gives it; `None` where it should be gone.
///
/// It is kube's [`await_condition`] that does not wait for ever: after a minute it fails, and the error shows the object
/// as it is. On a paused tokio clock the minute is over as soon as nothing else is left to do.
///
/// What is waited for is one of [`kube::runtime::conditions`], or a closure that says whom it looks at:
/// `|pod: Option<&Pod>| …`.
///
/// ```
/// use k8s_openapi::api::core::v1::ServiceAccount;
/// use k8s_testing::{TestCluster, eventually};
/// use kube::Api;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = TestCluster::builder().controllers().start().await?;
/// let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
/// let there = |found: Option<&ServiceAccount>| found.is_some();
/// assert!(eventually(&accounts, "default", there).await?.is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::NotReady`] if it does not come about, or cannot be watched.
///
/// # Cancel safety
///
/// Dropping the future changes nothing.
pub async fn eventually<K>(
    api: &Api<K>,
    name: &str,
    condition: impl Condition<K>,
) -> Result<Option<K>, Error>
where
    K: Clone + Debug + Send + DeserializeOwned + kube::Resource + 'static,
{
    let done = await_condition(api.clone(), name, condition);
    match tokio::time::timeout(PATIENCE, done).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Error::NotReady(format!("{name}: {error}"))),
        Err(_) => Err(Error::NotReady(match api.get_opt(name).await {
            Ok(Some(found)) => format!("{name}, which is {found:#?}"),
            Ok(None) => format!("{name}, which is not there"),
            Err(error) => format!("{name}: {error}"),
        })),
    }
}

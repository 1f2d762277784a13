//! [`Dataplane`]: what turns rules into packets' ways.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Error, RuleSet};

/// Carries connections to Services as a [`RuleSet`] says.
///
/// # Purpose
///
/// The [`Proxy`](crate::Proxy) calls it whenever the rules have changed, from one task, one call at a
/// time. Write your own to program something other than nftables: eBPF, a switch, a user-space
/// proxy.
///
/// # Guarantees
///
/// - `apply` takes the **whole** desired state. What an earlier call set and this one does not name is
///   gone when it returns.
/// - It is atomic: a connection sees the old rules or the new ones, never a mixture, and never
///   none.
/// - It is incremental: applying a rule set equal to the last one does nothing, and the cost of
///   a small change does not grow with the number of Services.
/// - Established connections go on, to endpoints that are no longer in the rules too.
/// - The first call takes over from whatever an earlier process left behind.
///
/// # Errors
///
/// After an error the dataplane is as it was before the call. The caller tries again later with the
/// newest rules.
///
/// # Cancellation
///
/// A dropped `apply` may or may not have taken effect; the next one starts from scratch.
///
/// # Example
///
/// ```
/// use k8s_netproxy::{Dataplane, Error, RuleSet};
///
/// /// Only tells what it would do.
/// #[derive(Debug, Default)]
/// struct Counter(usize);
///
/// #[async_trait::async_trait]
/// impl Dataplane for Counter {
///     async fn apply(&mut self, rules: &RuleSet) -> Result<(), Error> {
///         self.0 = rules.services.len();
///         Ok(())
///     }
///
///     async fn clear(&mut self) -> Result<(), Error> {
///         self.0 = 0;
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Dataplane: Debug + Send + 'static {
    /// Makes these the rules.
    ///
    /// # Errors
    ///
    /// [`Error::Dataplane`] with the cause in the backend's own words.
    async fn apply(&mut self, rules: &RuleSet) -> Result<(), Error>;

    /// Removes everything that this dataplane ever made. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::Dataplane`], as for [`Dataplane::apply`].
    async fn clear(&mut self) -> Result<(), Error>;
}

const _: fn(Box<dyn Dataplane>) = |_| {};

//! What goes wrong on a client's way to the server, by a seed.
//!
//! [`Faults`] says what and how often. Whether a fault hits is decided by the seed, the request's method
//! and path, and how many times that was asked before: not by which task was faster. So the same program with
//! the same seed meets the same faults, and [`Faults::injected`] tells which.

mod fate;
mod layer;
mod request;
mod tunnel;
mod watch;

use std::{sync::Arc, time::Duration};

pub use fate::Injected;
pub use layer::{FaultLayer, FaultService};

use self::fate::Fates;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// A watch event comes late, and those after it with it.
    DelayedEvent,
    /// A watch event does not come at all.
    DroppedEvent,
    /// A watch event comes twice.
    RepeatedEvent,
    /// A watch's connection is lost before the event.
    LostWatch,
    /// A read is answered as it was before.
    StaleRead,
    /// A write is refused with 409, and does not take place.
    Conflict,
    /// A write takes place, and is answered with 500.
    ErrorAfterWrite,
    /// The connection is lost before the request arrives.
    LostRequest,
    /// The connection is lost after the request was answered.
    LostAnswer,
}

/// What goes wrong on a client's way, and how often. A chance is between 0 and 1.
///
/// Cloning it is cheap; clones share what they count.
///
/// ```
/// use k8s_testing::{Faults, Identity, TestCluster, faults::Fault};
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::{Api, api::PostParams};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = TestCluster::builder().start().await?;
/// let faults = Faults::seeded(1).errors_after_writes(1.0).at_most(1);
/// let client = cluster.client_with_faults(Identity::system_masters(), &faults);
/// let maps: Api<ConfigMap> = Api::default_namespaced(client);
/// let mut map = ConfigMap::default();
/// map.metadata.name = Some("x".into());
///
/// // The answer says that it failed, and yet the object is there.
/// assert!(maps.create(&PostParams::default(), &map).await.is_err());
/// assert!(maps.get_opt("x").await?.is_some());
/// assert_eq!(faults.injected()[0].fault, Fault::ErrorAfterWrite);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    fates: Arc<Fates>,
    chances: Chances,
    delay: Duration,
    at_most: u64,
    only: Option<Arc<str>>,
}

/// How often each fault hits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chances {
    delayed: f64,
    dropped: f64,
    repeated: f64,
    stale: f64,
    conflicts: f64,
    errors: f64,
    lost: f64,
}

impl Faults {
    /// No faults yet, decided by a seed.
    pub fn seeded(seed: u64) -> Self {
        Faults {
            fates: Arc::new(Fates::new(seed)),
            chances: Chances::default(),
            delay: Duration::ZERO,
            at_most: u64::MAX,
            only: None,
        }
    }

    /// Watch events that come late by so much, those after them too: their order stays.
    #[must_use]
    pub fn delayed_events(mut self, chance: f64, by: Duration) -> Self {
        self.chances.delayed = chance;
        self.delay = by;
        self
    }

    /// Watch events that never come. No server does that; a client that survives it lists again now
    /// and then. Bookmarks and errors are not dropped.
    #[must_use]
    pub fn dropped_events(mut self, chance: f64) -> Self {
        self.chances.dropped = chance;
        self
    }

    /// Watch events that come twice in a row.
    #[must_use]
    pub fn repeated_events(mut self, chance: f64) -> Self {
        self.chances.repeated = chance;
        self
    }

    /// Reads that are answered as the same read was before, on this client's way. The first of a kind
    /// is always fresh.
    #[must_use]
    pub fn stale_reads(mut self, chance: f64) -> Self {
        self.chances.stale = chance;
        self
    }

    /// Updates and patches that are refused with 409, as if somebody else had been faster.
    #[must_use]
    pub fn conflicts(mut self, chance: f64) -> Self {
        self.chances.conflicts = chance;
        self
    }

    /// Writes that take place and are answered with 500 all the same.
    #[must_use]
    pub fn errors_after_writes(mut self, chance: f64) -> Self {
        self.chances.errors = chance;
        self
    }

    /// Connections that are lost: before the request arrives or after it was answered, and in the middle
    /// of watches.
    #[must_use]
    pub fn lost_connections(mut self, chance: f64) -> Self {
        self.chances.lost = chance;
        self
    }

    /// Each fault hits each path at most so many times: after that all goes well.
    #[must_use]
    pub fn at_most(mut self, times: u64) -> Self {
        self.at_most = times;
        self
    }

    /// Only requests whose path contains this text are hit.
    #[must_use]
    pub fn only_paths_with(mut self, text: &str) -> Self {
        self.only = Some(text.into());
        self
    }

    /// From now on nothing gets through: requests fail, those under way too, and watches, logs and tunnels end, until
    /// [`heal`](Self::heal). This is for a network that is parted, for instance to see that a leader that cannot renew
    /// its Lease stops before another begins. It holds for all clients with these faults or clones of them, is not
    /// decided by the seed, and not told of by [`injected`](Self::injected).
    ///
    /// ```
    /// use k8s_testing::{Faults, Identity, TestCluster};
    /// use k8s_openapi::api::core::v1::Namespace;
    /// use kube::Api;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = TestCluster::builder().start().await?;
    /// let network = Faults::seeded(1);
    /// let client = cluster.client_with_faults(Identity::system_masters(), &network);
    /// let namespaces: Api<Namespace> = Api::all(client);
    ///
    /// network.cut();
    /// assert!(namespaces.get("default").await.is_err());
    /// network.heal();
    /// assert!(namespaces.get("default").await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn cut(&self) {
        self.fates.set_cut(true);
    }

    /// Ends what [`cut`](Self::cut) began.
    pub fn heal(&self) {
        self.fates.set_cut(false);
    }

    /// What has been done so far, in the order in which it was done.
    pub fn injected(&self) -> Vec<Injected> {
        self.fates.injected()
    }
}

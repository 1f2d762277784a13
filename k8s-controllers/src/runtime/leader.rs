//! [`LeaderElection`]: one of several replicas leads, by a Lease.

use std::{fmt, time::Duration};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Clock;
use crate::error::is_not_found;

/// Whose lease, and how long it holds. The durations' defaults are upstream's.
#[derive(Clone, Debug)]
pub struct LeaderElectionConfig {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who this replica is; unique among all.
    pub identity: String,
    /// How long others wait for a leader that no longer renews. 15 s.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it gives up leading. 10 s.
    pub renew_deadline: Duration,
    /// How long between tries. 2 s.
    pub retry_period: Duration,
}

impl LeaderElectionConfig {
    /// A lease of that name in `kube-system`, with upstream's durations.
    pub fn new(name: impl Into<String>, identity: impl Into<String>) -> Self {
        LeaderElectionConfig {
            namespace: "kube-system".to_owned(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// One of several replicas leads, by a Lease, with the semantics of client-go's leader election:
/// expiry is judged by how long *this* process has seen no change of the Lease, so clocks need not
/// agree; a leader that cannot renew stops leading before another may start; a leader that stops
/// in order gives the Lease back.
pub struct LeaderElection {
    api: Api<Lease>,
    config: LeaderElectionConfig,
    clock: Clock,
    observed: Option<(LeaseSpec, Instant)>,
    seed: fastrand::Rng,
}

impl fmt::Debug for LeaderElection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderElection")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Who leads, as a try to lead has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// This replica.
    Leads,
    /// Another.
    Follows,
    /// The try failed.
    Unknown,
}

impl LeaderElection {
    /// A candidate. Nothing happens before [`run`](Self::run).
    pub fn new(client: Client, config: LeaderElectionConfig, clock: Clock) -> Self {
        let seed = config.identity.bytes().fold(0u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
        LeaderElection {
            api: Api::namespaced(client, &config.namespace),
            config,
            clock,
            observed: None,
            seed: fastrand::Rng::with_seed(seed),
        }
    }

    /// Waits to become the leader, then runs what `lead` gives until the lead is lost or `stop` is
    /// cancelled, whichever is first. The token handed to `lead` is cancelled in either case, and
    /// the work gets until the renew deadline to end, but no longer than others are sure to wait for
    /// this replica; what is left of it then is dropped. The Lease is given back after that. Returns
    /// whether the lead was lost; then the process must not go on as if it still led.
    pub async fn run<F>(
        mut self,
        stop: CancellationToken,
        lead: impl FnOnce(CancellationToken) -> F,
    ) -> bool
    where
        F: Future<Output = ()>,
    {
        let mut renewed = loop {
            let begun = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return false,
                standing = self.acquire_or_renew() => if standing == Standing::Leads { break begun },
            }
            let pause = self
                .config
                .retry_period
                .mul_f64(1.0 + 1.2 * self.seed.f64());
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(pause) => {}
            }
        };
        info!(
            identity = self.config.identity,
            lease = self.config.name,
            "became the leader"
        );
        let leading = CancellationToken::new();
        let mut work = Box::pin(lead(leading.clone()));
        let (done, lost) = tokio::select! {
            () = &mut work => (true, None),
            () = stop.cancelled() => (false, None),
            standing = self.keep(&mut renewed) => (false, Some(standing)),
        };
        leading.cancel();
        if !done {
            let patience = Instant::now() + self.config.renew_deadline;
            let end = match lost {
                // Another leads already.
                Some(Standing::Follows) => Instant::now(),
                _ => patience.min(renewed + self.config.lease_duration),
            };
            if timeout_at(end, &mut work).await.is_err() {
                warn!("work did not end in time after the lead ended; dropping it");
            }
        }
        drop(work);
        if lost.is_some() {
            warn!(
                identity = self.config.identity,
                lease = self.config.name,
                "lost the lead"
            );
        } else {
            self.release().await;
        }
        lost.is_some()
    }

    /// Renews until that has failed for the renew deadline, or another leads; says which. `renewed` is when
    /// the last try began that succeeded: others may count from then on.
    async fn keep(&mut self, renewed: &mut Instant) -> Standing {
        loop {
            sleep(self.config.retry_period).await;
            let begun = Instant::now();
            let left = self.config.renew_deadline.saturating_sub(begun - *renewed);
            match timeout(left, self.acquire_or_renew()).await {
                Ok(Standing::Leads) => *renewed = begun,
                Ok(Standing::Follows) => return Standing::Follows,
                Ok(Standing::Unknown) if renewed.elapsed() < self.config.renew_deadline => {}
                _ => return Standing::Unknown,
            }
        }
    }

    /// One try; says who leads now.
    async fn acquire_or_renew(&mut self) -> Standing {
        match self.try_acquire_or_renew().await {
            Ok(standing) => standing,
            Err(error) => {
                debug!(error = %error, lease = self.config.name, "lease not taken or renewed");
                Standing::Unknown
            }
        }
    }

    async fn try_acquire_or_renew(&mut self) -> Result<Standing, kube::Error> {
        let now = self.clock.micro_time();
        let mine = LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.config.lease_duration.as_secs()).unwrap_or(i32::MAX),
            ),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..Default::default()
        };
        let mut lease = match self.api.get(&self.config.name).await {
            Ok(lease) => lease,
            Err(error) if is_not_found(&error) => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.config.name.clone());
                lease.spec = Some(mine.clone());
                self.api.create(&PostParams::default(), &lease).await?;
                self.observed = Some((mine, Instant::now()));
                return Ok(Standing::Leads);
            }
            Err(error) => return Err(error),
        };
        let theirs = lease.spec.clone().unwrap_or_default();
        if self
            .observed
            .as_ref()
            .is_none_or(|(seen, _)| *seen != theirs)
        {
            self.observed = Some((theirs.clone(), Instant::now()));
        }
        let seen_at = self
            .observed
            .as_ref()
            .map_or_else(Instant::now, |(_, at)| *at);
        let holder = theirs.holder_identity.as_deref().unwrap_or_default();
        let held = seen_at
            + Duration::from_secs(
                theirs
                    .lease_duration_seconds
                    .unwrap_or(0)
                    .max(0)
                    .unsigned_abs()
                    .into(),
            );
        let is_mine = holder == self.config.identity;
        if !is_mine && !holder.is_empty() && held > Instant::now() {
            return Ok(Standing::Follows);
        }
        let transitions = theirs.lease_transitions.unwrap_or(0);
        let spec = if is_mine {
            LeaseSpec {
                acquire_time: theirs.acquire_time,
                lease_transitions: Some(transitions),
                ..mine
            }
        } else {
            LeaseSpec {
                lease_transitions: Some(transitions + 1),
                ..mine
            }
        };
        lease.spec = Some(spec.clone());
        self.api
            .replace(&self.config.name, &PostParams::default(), &lease)
            .await?;
        self.observed = Some((spec, Instant::now()));
        Ok(Standing::Leads)
    }

    /// Gives the Lease back, so that the next leader need not wait.
    async fn release(&mut self) {
        let give_back = async {
            let mut lease = self.api.get(&self.config.name).await?;
            let Some(spec) = lease.spec.as_mut() else {
                return Ok(());
            };
            if spec.holder_identity.as_ref() != Some(&self.config.identity) {
                return Ok(());
            }
            let now = self.clock.micro_time();
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(now.clone());
            spec.acquire_time = Some(now);
            self.api
                .replace(&self.config.name, &PostParams::default(), &lease)
                .await
                .map(drop)
        };
        if let Ok(Err(error)) = timeout(self.config.renew_deadline, give_back).await {
            debug!(error = %error, lease = self.config.name, "lease not given back");
        }
    }
}

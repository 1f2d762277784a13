//! [`LeaderElection`]: one of several replicas leads, by a Lease.

use std::{fmt, time::Duration};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout};
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
    /// the work gets until the renew deadline to end. Returns whether the lead was lost; then the
    /// process must not go on as if it still led.
    pub async fn run<F>(
        mut self,
        stop: CancellationToken,
        lead: impl FnOnce(CancellationToken) -> F,
    ) -> bool
    where
        F: Future<Output = ()>,
    {
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                leading = self.acquire_or_renew() => if leading { break },
            }
            let pause = self
                .config
                .retry_period
                .mul_f64(1.0 + 1.2 * self.seed.f64());
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(pause) => {}
            }
        }
        info!(
            identity = self.config.identity,
            lease = self.config.name,
            "became the leader"
        );
        let leading = CancellationToken::new();
        let mut work = std::pin::pin!(lead(leading.clone()));
        let lost = tokio::select! {
            () = &mut work => false,
            () = stop.cancelled() => false,
            () = self.keep() => true,
        };
        leading.cancel();
        if timeout(self.config.renew_deadline, work).await.is_err() {
            warn!("work did not end within the renew deadline after the lead ended");
        }
        if lost {
            warn!(
                identity = self.config.identity,
                lease = self.config.name,
                "lost the lead"
            );
        } else {
            self.release().await;
        }
        lost
    }

    /// Renews until that has failed for the renew deadline.
    async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.config.retry_period).await;
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match timeout(left, self.acquire_or_renew()).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) if renewed.elapsed() < self.config.renew_deadline => {}
                _ => return,
            }
        }
    }

    /// One try; says whether this replica leads now.
    async fn acquire_or_renew(&mut self) -> bool {
        match self.try_acquire_or_renew().await {
            Ok(leads) => leads,
            Err(error) => {
                debug!(error = %error, lease = self.config.name, "lease not taken or renewed");
                false
            }
        }
    }

    async fn try_acquire_or_renew(&mut self) -> Result<bool, kube::Error> {
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
                return Ok(true);
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
            return Ok(false);
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
        Ok(true)
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

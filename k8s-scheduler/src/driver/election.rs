//! [`LeaderElection`]: one of several schedulers works, the others stand by.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How a lease is held. The times are upstream's; the lease is `kube-scheduler` in `kube-system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Who this is: unique among the schedulers of a cluster.
    pub identity: String,
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Others may take over when it was not renewed for so long; 15 s by default.
    pub lease_duration: Duration,
    /// Who can't renew it for so long stops working; 10 s by default.
    pub renew_deadline: Duration,
    /// The time between tries; 2 s by default.
    pub retry_period: Duration,
}

impl LeaderElection {
    /// With the defaults.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            namespace: "kube-system".into(),
            name: "kube-scheduler".into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    fn api(&self, client: &Client) -> Api<Lease> {
        Api::namespaced(client.clone(), &self.namespace)
    }

    /// Waits until the lease is held; `None` if `stop` came first.
    pub(super) async fn acquire(&self, client: &Client, stop: &CancellationToken) -> Option<Term> {
        let mut seen = Seen::default();
        loop {
            let tried = tokio::select! {
                () = stop.cancelled() => return None,
                tried = self.try_hold(client, &mut seen) => tried,
            };
            if tried {
                tracing::info!(identity = self.identity, "leading");
                return Some(self.hold(client.clone()));
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(self.retry_period) => {}
            }
        }
    }

    /// Renews the lease for as long as the term is kept.
    fn hold(&self, client: Client) -> Term {
        let lost = CancellationToken::new();
        let stop = CancellationToken::new();
        let (election, ended, stopped) = (self.clone(), lost.clone(), stop.clone());
        tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut renewed = Instant::now();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = sleep(election.retry_period) => {}
                }
                let tried = tokio::time::timeout(
                    election.renew_deadline,
                    election.try_hold(&client, &mut seen),
                );
                if tried.await == Ok(true) {
                    renewed = Instant::now();
                } else if renewed.elapsed() >= election.renew_deadline {
                    return ended.cancel();
                }
            }
        });
        Term {
            lost,
            _stop: stop.drop_guard(),
        }
    }

    /// Makes or renews the lease, if it is free, ours or has run out.
    async fn try_hold(&self, client: &Client, seen: &mut Seen) -> bool {
        let api = self.api(client);
        let mut lease = match api.get_opt(&self.name).await {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.name.clone());
                lease.metadata.namespace = Some(self.namespace.clone());
                lease.spec = Some(self.spec(None));
                return api.create(&PostParams::default(), &lease).await.is_ok();
            }
            Err(error) => {
                tracing::debug!(%error, "lease not read");
                return false;
            }
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !seen.has_run_out(&spec) {
            return false;
        }
        lease.spec = Some(self.spec(Some(spec)));
        // The resource version sees to it that only one of several succeeds.
        let params = PostParams::default();
        api.replace(&self.name, &params, &lease).await.is_ok()
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mut spec = before.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            let first = spec.acquire_time.is_none();
            let before = spec.lease_transitions.unwrap_or(0);
            spec.lease_transitions = Some(if first { 0 } else { before.saturating_add(1) });
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds =
            Some(i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        spec
    }

    /// Ends the term and, if it still is ours, frees the lease.
    pub(super) async fn release(&self, client: &Client, term: Term) {
        let lost = term.lost.is_cancelled();
        drop(term);
        if lost {
            return;
        }
        let api = self.api(client);
        if let Ok(Some(mut lease)) = api.get_opt(&self.name).await
            && let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_deref() == Some(&self.identity)
        {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            if let Err(error) = api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
            {
                tracing::debug!(%error, "lease not released");
            }
        }
    }
}

/// A lease that is held.
pub(super) struct Term {
    lost: CancellationToken,
    _stop: DropGuard,
}

impl Term {
    /// Resolves when the lease is not held any more.
    pub(super) async fn cancelled(&self) {
        self.lost.cancelled().await;
    }
}

/// Another's lease as it was seen last: whether it has run out is a matter of this process's clock alone.
#[derive(Default)]
struct Seen {
    lease: Option<(LeaseSpec, Instant)>,
}

impl Seen {
    fn has_run_out(&mut self, spec: &LeaseSpec) -> bool {
        match &self.lease {
            Some((known, since)) if known == spec => {
                let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
                since.elapsed() >= Duration::from_secs(seconds)
            }
            _ => {
                self.lease = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }
}

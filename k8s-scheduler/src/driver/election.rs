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
            let begun = Instant::now();
            let standing = tokio::select! {
                () = stop.cancelled() => return None,
                standing = self.try_hold(client, &mut seen) => standing,
            };
            if standing == Standing::Leads {
                tracing::info!(identity = self.identity, "leading");
                return Some(self.hold(client.clone(), begun));
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(self.retry_period) => {}
            }
        }
    }

    /// Renews the lease for as long as the term is kept. `renewed` is when the last try began that succeeded: others may
    /// count from then on.
    fn hold(&self, client: Client, mut renewed: Instant) -> Term {
        let lost = CancellationToken::new();
        let stop = CancellationToken::new();
        let (election, ended, stopped) = (self.clone(), lost.clone(), stop.clone());
        tokio::spawn(async move {
            let mut seen = Seen::default();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = sleep(election.retry_period) => {}
                }
                let begun = Instant::now();
                let left = election.renew_deadline.saturating_sub(begun - renewed);
                let tried = tokio::time::timeout(left, election.try_hold(&client, &mut seen));
                match tried.await {
                    Ok(Standing::Leads) => renewed = begun,
                    Ok(Standing::Unknown) if renewed.elapsed() < election.renew_deadline => {}
                    _ => return ended.cancel(),
                }
            }
        });
        Term {
            lost,
            _stop: stop.drop_guard(),
        }
    }

    /// Makes or renews the lease, if it is free, ours or has run out.
    async fn try_hold(&self, client: &Client, seen: &mut Seen) -> Standing {
        let held = |done: Result<Lease, kube::Error>| match done {
            Ok(_) => Standing::Leads,
            Err(error) => {
                tracing::debug!(%error, "lease not written");
                Standing::Unknown
            }
        };
        let api = self.api(client);
        let mut lease = match api.get_opt(&self.name).await {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.name.clone());
                lease.metadata.namespace = Some(self.namespace.clone());
                lease.spec = Some(self.spec(None));
                return held(api.create(&PostParams::default(), &lease).await);
            }
            Err(error) => {
                tracing::debug!(%error, "lease not read");
                return Standing::Unknown;
            }
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !seen.has_run_out(&spec) {
            return Standing::Follows;
        }
        lease.spec = Some(self.spec(Some(spec)));
        // The resource version sees to it that only one of several succeeds.
        let params = PostParams::default();
        held(api.replace(&self.name, &params, &lease).await)
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

/// Who leads, as a try to hold the lease has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// This one.
    Leads,
    /// Another.
    Follows,
    /// The try failed.
    Unknown,
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// What a server answers that has one lease.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Server {
        HasNone,
        SaysThatAnotherHoldsIt,
        Refuses,
        IsSilent,
    }

    fn client(server: &Arc<Mutex<Server>>) -> Client {
        let server = server.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let now = *server.lock().unwrap();
            async move {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": "kube-scheduler", "resourceVersion": "2"},
                    "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15},
                });
                let failed = |code: u16, reason: &str| {
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason,
                        "message": reason})
                };
                let (code, body) = match now {
                    Server::IsSilent => std::future::pending().await,
                    Server::HasNone if *request.method() == Method::GET => {
                        (404, failed(404, "NotFound"))
                    }
                    Server::HasNone | Server::SaysThatAnotherHoldsIt => (200, lease),
                    Server::Refuses => (503, failed(503, "ServiceUnavailable")),
                };
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    async fn term(server: &Arc<Mutex<Server>>) -> Term {
        let (client, never) = (client(server), CancellationToken::new());
        let election = LeaderElection::new("one");
        election.acquire(&client, &never).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_renew_stops_before_others_may_begin() {
        let server = Arc::new(Mutex::new(Server::HasNone));
        let (begun, term) = (Instant::now(), term(&server).await);
        *server.lock().unwrap() = Server::Refuses;
        sleep(Duration::from_millis(7500)).await;
        *server.lock().unwrap() = Server::IsSilent;
        term.cancelled().await;
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(11), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_when_another_holds_the_lease() {
        let server = Arc::new(Mutex::new(Server::HasNone));
        let term = term(&server).await;
        *server.lock().unwrap() = Server::SaysThatAnotherHoldsIt;
        let since = Instant::now();
        term.cancelled().await;
        let took = since.elapsed();
        assert!(took <= Duration::from_secs(3), "{took:?}");
    }
}

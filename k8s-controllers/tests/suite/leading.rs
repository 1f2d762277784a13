//! What becomes of a leader's work when it leads no more: no two replicas work at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_controllers::runtime::{Clock, LeaderElection, LeaderElectionConfig};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::support::Cluster;

/// A client whose requests are shown before they are sent; they never come back where that says so.
fn shown(server: &ApiServer, show: impl Fn() -> bool + Clone + Send + 'static) -> Client {
    let service = server.service(Identity::system_masters());
    let service = tower::service_fn(move |request| {
        let (mut service, is_answered) = (service.clone(), show());
        async move {
            if !is_answered {
                std::future::pending::<()>().await;
            }
            service.call(request).await
        }
    });
    Client::new(service, "default")
}

fn election(client: Client) -> LeaderElection {
    let config = LeaderElectionConfig::new("test", "one");
    LeaderElection::new(client, config, Clock::system())
}

async fn holder(cluster: &Cluster) -> Option<String> {
    let lease = cluster.api::<Lease>("kube-system").get("test").await;
    lease.unwrap().spec.unwrap().holder_identity
}

/// Work that never ends.
async fn endless(begins: mpsc::UnboundedSender<()>, dropped: Arc<AtomicBool>) {
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let _held = Held(dropped);
    begins.send(()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn who_sees_that_another_leads_stops_at_once() {
    let cluster = Cluster::bare().await;
    let (begins, mut begun) = mpsc::unbounded_channel();
    let ended = CancellationToken::new();
    let (election, end) = (election(cluster.client.clone()), ended.clone());
    let running = election.run(CancellationToken::new(), |leading| async move {
        begins.send(()).unwrap();
        leading.cancelled().await;
        end.cancel();
    });
    let running = tokio::spawn(running);
    begun.recv().await.unwrap();
    let leases: Api<Lease> = cluster.api("kube-system");
    let taken = json!({"spec": {"holderIdentity": "two", "leaseDurationSeconds": 15}});
    leases
        .patch("test", &PatchParams::default(), &Patch::Merge(taken))
        .await
        .unwrap();
    let since = Instant::now();
    ended.cancelled().await;
    let took = since.elapsed();
    assert!(took <= Duration::from_secs(5), "{took:?}");
    assert!(running.await.unwrap());
    assert_eq!(holder(&cluster).await.as_deref(), Some("two"));
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_dropped_before_the_lease_is_given_back() {
    let cluster = Cluster::bare().await;
    let (stop, dropped) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let too_early = Arc::new(AtomicBool::new(false));
    let (stopped, is_dropped, early) = (stop.clone(), dropped.clone(), too_early.clone());
    let client = shown(&cluster.server, move || {
        if stopped.is_cancelled() && !is_dropped.load(SeqCst) {
            early.store(true, SeqCst);
        }
        true
    });
    let (begins, mut begun) = mpsc::unbounded_channel();
    let running = election(client).run(stop.clone(), |_| endless(begins, dropped));
    let running = tokio::spawn(running);
    begun.recv().await.unwrap();
    stop.cancel();
    assert!(!running.await.unwrap());
    assert!(!too_early.load(SeqCst), "it was still working");
    assert_eq!(holder(&cluster).await.as_deref(), Some(""));
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_has_ended_when_others_may_begin() {
    let cluster = Cluster::bare().await;
    let is_answered = Arc::new(AtomicBool::new(true));
    let answered = is_answered.clone();
    let client = shown(&cluster.server, move || answered.load(SeqCst));
    let dropped = Arc::new(AtomicBool::new(false));
    let (begins, mut begun) = mpsc::unbounded_channel();
    let work = dropped.clone();
    let running = election(client).run(CancellationToken::new(), |_| endless(begins, work));
    let running = tokio::spawn(running);
    begun.recv().await.unwrap();
    is_answered.store(false, SeqCst);
    let since = Instant::now();
    assert!(running.await.unwrap());
    let took = since.elapsed();
    assert!(took <= Duration::from_secs(15), "{took:?}");
    assert!(dropped.load(SeqCst));
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_by_itself_gives_the_lease_back() {
    let cluster = Cluster::bare().await;
    let election = election(cluster.client.clone());
    let lost = election.run(CancellationToken::new(), |_| async {}).await;
    assert!(!lost);
    assert_eq!(holder(&cluster).await.as_deref(), Some(""));
    cluster.shut_down().await;
}

//! [`Manager`]: which pods there are, and their workers.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_runtime::{ContainerStatus, RuntimeEvent, SandboxStatus};
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::mpsc,
    task::{self, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Message, orphans, worker::Worker};
use crate::{
    clock::Clock,
    context::Context,
    events::Kind,
    eviction::Eviction,
    pod::{PodView, admission, labels, sysctl},
    sync::backoff::Backoff,
};

/// Messages that may wait for one worker. It takes them in without waiting for anything slow.
const INBOX: usize = 256;
/// Events make things fast, listing makes them sure.
pub(crate) const RELIST: Duration = Duration::from_secs(60);
/// When a worker is begun anew that could not be because the runtime does not answer.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Handle {
    sender: mpsc::Sender<Message>,
    view: Arc<PodView>,
    refused: bool,
    /// The API has told that it is deleted: no more events will come.
    gone: bool,
}

/// Feeds pods, runtime events and changes of sources to the pods' workers.
#[derive(Debug)]
pub(crate) struct Manager {
    cx: Arc<Context>,
    changes: mpsc::UnboundedReceiver<String>,
    evictions: mpsc::Receiver<Eviction>,
    handles: HashMap<String, Handle>,
    workers: JoinSet<()>,
    /// The pods of the workers.
    tasks: HashMap<task::Id, String>,
    /// How often workers broke off, by pod UID, and when those are begun anew that did.
    broken: HashMap<String, Backoff>,
    waiting: HashMap<String, Timestamp>,
    /// Deleted by their workers; events about them may still come.
    done: HashSet<String>,
    /// Left over from before this kubelet, by pod UID.
    left: HashMap<String, (Vec<SandboxStatus>, Vec<ContainerStatus>)>,
    listing: Option<HashMap<String, Pod>>,
    listed_once: bool,
}

impl Manager {
    pub(crate) fn new(
        cx: Arc<Context>,
        changes: mpsc::UnboundedReceiver<String>,
        evictions: mpsc::Receiver<Eviction>,
    ) -> Self {
        Self {
            cx,
            changes,
            evictions,
            handles: HashMap::new(),
            workers: JoinSet::new(),
            tasks: HashMap::new(),
            broken: HashMap::new(),
            waiting: HashMap::new(),
            done: HashSet::new(),
            left: HashMap::new(),
            listing: None,
            listed_once: false,
        }
    }

    /// Runs until `stop`; then, with `stop_pods`, until every pod has ended or `abort` comes.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        abort: CancellationToken,
        stop_pods: bool,
    ) -> Result<(), k8s_runtime::Error> {
        let mut events = self.cx.runtime.events().await?;
        self.left = list(&self.cx).await?;
        let api: Api<Pod> = Api::all(self.cx.client.clone());
        let fields = format!("spec.nodeName={}", self.cx.settings.node_name);
        let mut pods = watcher(api, watcher::Config::default().fields(&fields)).boxed();
        let mut relist = interval_at(Instant::now() + RELIST, RELIST);
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delay = Duration::from_millis(50);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = pods.next() => match event {
                    Ok(event) => {
                        delay = Duration::from_millis(50);
                        self.pod_event(event).await;
                    }
                    Err(error) => {
                        debug!(%error, "watch of pods broke");
                        let pause = tokio::time::sleep(delay);
                        delay = (delay * 2).min(Duration::from_secs(5));
                        tokio::select! { () = pause => {}, () = stop.cancelled() => break }
                    }
                },
                event = events.next() => self.runtime_event(event, &mut events).await,
                Some(uid) = self.changes.recv() => self.tell(&uid, Message::SourceChanged).await,
                Some(e) = self.evictions.recv() => self.tell(&e.uid, Message::Evict(e.message)).await,
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
                uid = due(&self.waiting, self.cx.clock) => self.begin_anew(&uid).await,
                _ = relist.tick() => self.relist().await,
            }
        }
        if stop_pods {
            self.stop_pods(&mut events, &abort).await;
        }
        Ok(())
    }

    /// Ends all pods, each in its grace period.
    async fn stop_pods(
        &mut self,
        events: &mut BoxStream<'static, Result<RuntimeEvent, k8s_runtime::Error>>,
        abort: &CancellationToken,
    ) {
        for uid in self.handles.keys().cloned().collect::<Vec<_>>() {
            self.tell(&uid, Message::Stop).await;
        }
        while !self.workers.is_empty() || !self.waiting.is_empty() {
            tokio::select! {
                () = abort.cancelled() => return,
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
                uid = due(&self.waiting, self.cx.clock) => {
                    self.begin_anew(&uid).await;
                    self.tell(&uid, Message::Stop).await;
                }
                event = events.next() => self.runtime_event(event, events).await,
            }
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(uid) = self.tasks.remove(&id) else {
            return;
        };
        match ended {
            Ok(_) => {
                self.broken.remove(&uid);
                let gone = self.handles.remove(&uid).is_some_and(|h| h.gone);
                if !gone {
                    self.done.insert(uid);
                }
            }
            Err(error) => self.broke_off(uid, &error),
        }
    }

    /// A worker has panicked. Its pod gets another one, at once the first time and then after a while.
    fn broke_off(&mut self, uid: String, error: &JoinError) {
        let Some(handle) = self.handles.get(&uid) else {
            return;
        };
        warn!(%error, pod = %handle.view.describe(), "pod worker broke off");
        let message = "The worker of the pod broke off, and is begun anew";
        (self.cx.recorder).pod(&handle.view, None, Kind::Warning, "FailedSync", message);
        let now = self.cx.clock.now();
        let before = self.broken.get(&uid);
        let at = Backoff::wait_until(before, now, now).unwrap_or(now);
        let backoff = Backoff::next(before, now, now);
        self.broken.insert(uid.clone(), backoff);
        self.waiting.insert(uid, at);
    }

    /// Gives a pod a new worker, as a new kubelet would: it takes over what the runtime has.
    async fn begin_anew(&mut self, uid: &str) {
        self.waiting.remove(uid);
        let left = match list(&self.cx).await {
            Ok(mut all) => all.remove(uid),
            Err(error) => {
                warn!(%error, "runtime not listed");
                let now = self.cx.clock.now();
                let at = now.saturating_add(RETRY).unwrap_or(now);
                self.waiting.insert(uid.to_owned(), at);
                return;
            }
        };
        let Some(before) = self.handles.remove(uid) else {
            return;
        };
        if let Some(left) = left {
            self.left.insert(uid.to_owned(), left);
        }
        self.add(before.view);
        if before.gone {
            self.gone(uid).await;
        }
    }

    /// The API has it no more.
    async fn gone(&mut self, uid: &str) {
        if let Some(handle) = self.handles.get_mut(uid) {
            handle.gone = true;
            self.tell(uid, Message::Gone).await;
        }
    }

    async fn tell(&self, uid: &str, message: Message) {
        if let Some(handle) = self.handles.get(uid) {
            // It has just ended, then.
            let _ = handle.sender.send(message).await;
        }
    }

    async fn runtime_event(
        &mut self,
        event: Option<Result<RuntimeEvent, k8s_runtime::Error>>,
        events: &mut BoxStream<'static, Result<RuntimeEvent, k8s_runtime::Error>>,
    ) {
        match event {
            Some(Ok(event)) => {
                let uid = event.pod_uid.clone();
                self.tell(&uid, Message::Runtime(event)).await;
            }
            Some(Err(error)) => {
                debug!(%error, "runtime events were lost");
                self.relist().await;
            }
            None => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                match self.cx.runtime.events().await {
                    Ok(new) => *events = new,
                    Err(error) => warn!(%error, "no runtime events"),
                }
                self.relist().await;
            }
        }
    }

    async fn pod_event(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listing = Some(HashMap::new()),
            Event::InitApply(pod) => {
                if let (Some(listing), Some(uid)) = (&mut self.listing, pod.metadata.uid.clone()) {
                    listing.insert(uid, pod);
                }
            }
            Event::InitDone => {
                let listing = self.listing.take().unwrap_or_default();
                let gone: Vec<String> = self
                    .handles
                    .keys()
                    .filter(|uid| !listing.contains_key(*uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.gone(&uid).await;
                }
                self.done.retain(|uid| listing.contains_key(uid));
                let mut pods: Vec<Pod> = listing.into_values().collect();
                // Those that were there first have the first right to the node.
                pods.sort_by_key(|p| p.metadata.creation_timestamp.clone());
                for pod in pods {
                    self.apply(pod).await;
                }
                if !self.listed_once {
                    self.listed_once = true;
                    self.remove_orphans();
                }
            }
            Event::Apply(pod) => self.apply(pod).await,
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.done.remove(&uid);
                if let Some(handle) = self.handles.get_mut(&uid) {
                    let view = Arc::new(PodView::new(pod));
                    handle.view = view.clone();
                    self.tell(&uid, Message::Pod(view)).await;
                    self.gone(&uid).await;
                }
            }
        }
    }

    async fn apply(&mut self, pod: Pod) {
        let view = Arc::new(PodView::new(pod));
        let uid = view.uid().to_owned();
        if self.done.contains(&uid) {
            return;
        }
        if let Some(handle) = self.handles.get_mut(&uid) {
            handle.view = view.clone();
            self.tell(&uid, Message::Pod(view)).await;
            return;
        }
        self.add(view);
    }

    fn add(&mut self, view: Arc<PodView>) {
        let uid = view.uid().to_owned();
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut worker = Worker::new(self.cx.clone(), view.clone(), sender.clone(), inbox);
        let left = self.left.remove(&uid);
        let settled = view.is_terminal() || view.deletion_timestamp().is_some();
        let verdict = if settled { Ok(()) } else { self.admit(&view) };
        let refused = verdict.is_err()
            || (view.is_terminal() && left.is_none() && view.start_time().is_none());
        match verdict {
            Err(refusal) => worker.refuse(refusal.reason, refusal.message),
            Ok(()) => worker.state.refused = refused,
        }
        if let Some((sandboxes, containers)) = left {
            worker.adopt(sandboxes, containers);
        }
        self.handles.insert(
            uid.clone(),
            Handle {
                sender,
                view,
                refused,
                gone: false,
            },
        );
        let task = self.workers.spawn(worker.run());
        self.tasks.insert(task.id(), uid);
    }

    fn admit(&self, view: &PodView) -> Result<(), admission::Refusal> {
        let active: Vec<&PodView> = self
            .handles
            .values()
            .filter(|h| !h.refused && !h.view.is_terminal())
            .map(|h| h.view.as_ref())
            .collect();
        sysctl::admit(view, &self.cx.settings.unsafe_sysctls)?;
        admission::admit(view, active.iter().copied(), &self.cx.node())
    }

    /// After the first listing, what is left belongs to nobody.
    fn remove_orphans(&mut self) {
        let left = std::mem::take(&mut self.left);
        let known: HashSet<String> = self.handles.keys().cloned().collect();
        // Listed before any further pod can come.
        let directories = orphans::directories(&self.cx, &known);
        let cx = self.cx.clone();
        tokio::spawn(async move {
            for (sandboxes, containers) in left.values() {
                orphans::remove(&cx, sandboxes, containers).await;
            }
            let _ = tokio::task::spawn_blocking(move || orphans::remove_directories(&directories))
                .await;
        });
    }

    async fn relist(&mut self) {
        let mut all = match list(&self.cx).await {
            Ok(all) => all,
            Err(error) => return warn!(%error, "runtime not listed"),
        };
        for (uid, handle) in &self.handles {
            let (sandboxes, containers) = all.remove(uid).unwrap_or_default();
            let _ = handle
                .sender
                .send(Message::Listed {
                    sandboxes,
                    containers,
                })
                .await;
        }
    }
}

/// Waits until one of them is due.
async fn due(waiting: &HashMap<String, Timestamp>, clock: Clock) -> String {
    match waiting.iter().min_by_key(|(_, at)| **at) {
        Some((uid, at)) => {
            sleep_until(clock.instant(*at)).await;
            uid.clone()
        }
        None => std::future::pending().await,
    }
}

/// Everything the runtime has, by pod UID.
async fn list(
    cx: &Context,
) -> Result<HashMap<String, (Vec<SandboxStatus>, Vec<ContainerStatus>)>, k8s_runtime::Error> {
    let mut out: HashMap<String, (Vec<SandboxStatus>, Vec<ContainerStatus>)> = HashMap::new();
    for sandbox in cx.runtime.sandboxes().await? {
        out.entry(sandbox.config.uid.clone())
            .or_default()
            .0
            .push(sandbox);
    }
    for container in cx.runtime.containers().await? {
        out.entry(labels::pod_uid(&container).to_owned())
            .or_default()
            .1
            .push(container);
    }
    Ok(out)
}

//! [`Asker`]: calls Permit plugins where they may take their time, or never come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::{
    framework::{Code, CycleState, PermitDecision, Status},
    profile::Profile,
    schedule::guarded,
    snapshot::{PodInfo, Snapshot},
};

/// How many calls may be given up before no more are made.
const MOST_LOST: usize = 16;

/// What the plugins are asked about.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) profile: Arc<Profile>,
    pub(super) pod: Arc<PodInfo>,
    pub(super) node: String,
    /// The other pods that wait.
    pub(super) others: Vec<Arc<PodInfo>>,
}

/// What all plugins together say.
#[derive(Debug)]
pub(super) enum Answer {
    Allow,
    /// The shortest wait, and whose it is.
    Wait(Duration, &'static str),
    Reject(Status, &'static str),
}

/// What the plugins look at, lent to the thread.
type Lent = Arc<(Snapshot, CycleState)>;

struct Job {
    question: Question,
    lent: Lent,
    /// Which plugin is asked, by its position.
    asked: Arc<AtomicUsize>,
    reply: mpsc::Sender<Answer>,
}

/// A thread that asks Permit plugins. One that does not come back is left behind, and another one takes over.
#[derive(Debug, Default)]
pub(super) struct Asker {
    worker: Option<Worker>,
    /// The threads that were left behind and have not ended yet.
    lost: Arc<AtomicUsize>,
}

/// One such thread. It ends when this is dropped, or as soon as it comes back after that.
#[derive(Debug)]
struct Worker {
    jobs: mpsc::Sender<Job>,
    is_lost: Arc<AtomicBool>,
}

fn ask(question: &Question, lent: &Lent, asked: &AtomicUsize) -> Answer {
    let Question {
        profile,
        pod,
        node,
        others,
    } = question;
    let (snapshot, cycle) = &**lent;
    let mut answer = Answer::Allow;
    for (i, plugin) in profile.permit.iter().enumerate() {
        asked.store(i, Ordering::Relaxed);
        let decision = guarded(|| plugin.permit(cycle, pod, node, snapshot, others));
        let decision =
            decision.unwrap_or_else(|panic| PermitDecision::Reject(Status::error(panic)));
        match (decision, &answer) {
            (PermitDecision::Allow, _) => {}
            (PermitDecision::Wait(time), Answer::Wait(shortest, _)) if time >= *shortest => {}
            (PermitDecision::Wait(time), _) => answer = Answer::Wait(time, plugin.name()),
            (PermitDecision::Reject(status), _) => return Answer::Reject(status, plugin.name()),
        }
    }
    answer
}

fn work(jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let answer = ask(&job.question, &job.lent, &job.asked);
        // Before the answer, so that whoever lent it can have it back without a copy.
        drop(job.lent);
        // Nobody listens if it took too long.
        let _ = job.reply.send(answer);
    }
}

impl Asker {
    /// Asks the profile's Permit plugins. One that does not answer in time rejects the pod.
    pub(super) async fn ask(
        &mut self,
        question: Question,
        snapshot: &mut Snapshot,
        cycle: &mut CycleState,
        patience: Duration,
    ) -> Answer {
        if self.lost.load(Ordering::Relaxed) >= MOST_LOST {
            let text = format!("{MOST_LOST} calls of Permit plugins have not returned yet");
            return Answer::Reject(Status::error(text), "");
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let lent = Arc::new((std::mem::take(snapshot), std::mem::take(cycle)));
        let (reply, answer) = mpsc::channel();
        let profile = question.profile.clone();
        let job = Job {
            question,
            lent: lent.clone(),
            asked: asked.clone(),
            reply,
        };
        let answer = match self.send(job) {
            // By the real clock, even where tokio's is paused: threads know no other.
            Ok(()) => tokio::task::spawn_blocking(move || answer.recv_timeout(patience))
                .await
                .unwrap_or(Err(mpsc::RecvTimeoutError::Disconnected)),
            Err(text) => Ok(Answer::Reject(Status::error(text), "")),
        };
        (*snapshot, *cycle) = Arc::unwrap_or_clone(lent);
        match answer {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                self.worker = None;
                Answer::Reject(Status::error("the thread for Permit ended"), "")
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(worker) = self.worker.take() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    worker.is_lost.store(true, Ordering::Release);
                }
                let plugin = profile.permit.get(asked.load(Ordering::Relaxed));
                let plugin = plugin.map_or("", |p| p.name());
                Answer::Reject(too_long(plugin, patience), plugin)
            }
        }
    }

    fn send(&mut self, job: Job) -> Result<(), String> {
        let worker = match &self.worker {
            Some(worker) => worker,
            None => {
                let (jobs, receiver) = mpsc::channel();
                let is_lost = Arc::new(AtomicBool::new(false));
                let (lost, flag) = (self.lost.clone(), is_lost.clone());
                std::thread::Builder::new()
                    .name("permit".into())
                    .spawn(move || {
                        work(&receiver);
                        if flag.load(Ordering::Acquire) {
                            lost.fetch_sub(1, Ordering::Relaxed);
                        }
                    })
                    .map_err(|e| e.to_string())?;
                self.worker.insert(Worker { jobs, is_lost })
            }
        };
        let sent = worker.jobs.send(job);
        sent.map_err(|_| "the thread for Permit ended".into())
    }
}

fn too_long(plugin: &str, patience: Duration) -> Status {
    Status {
        code: Code::Error,
        reasons: vec![format!("{plugin:?} did not return within {patience:?}").into()],
        plugin: "",
    }
}

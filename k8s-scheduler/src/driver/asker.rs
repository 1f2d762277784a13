//! [`Asker`]: calls Permit plugins where they may take their time, or never come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::oneshot;

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
    reply: oneshot::Sender<Answer>,
}

/// A thread that asks Permit plugins. One that does not come back is left behind, and another one takes over.
#[derive(Debug, Default)]
pub(super) struct Asker {
    jobs: Option<mpsc::Sender<Job>>,
    /// The threads that were left behind and have not ended yet.
    lost: Arc<AtomicUsize>,
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

fn work(jobs: &mpsc::Receiver<Job>, lost: &AtomicUsize) {
    while let Ok(job) = jobs.recv() {
        let answer = ask(&job.question, &job.lent, &job.asked);
        // Before the answer, so that whoever lent it can have it back without a copy.
        drop(job.lent);
        if job.reply.send(answer).is_err() {
            // Given up meanwhile.
            lost.fetch_sub(1, Ordering::Relaxed);
            return;
        }
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
        let (reply, answer) = oneshot::channel();
        let profile = question.profile.clone();
        let job = Job {
            question,
            lent: lent.clone(),
            asked: asked.clone(),
            reply,
        };
        let answer = match self.send(job) {
            Ok(()) => tokio::time::timeout(patience, answer).await,
            Err(text) => Ok(Ok(Answer::Reject(Status::error(text), ""))),
        };
        (*snapshot, *cycle) = Arc::unwrap_or_clone(lent);
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::Reject(Status::error("the thread for Permit ended"), ""),
            Err(_) => {
                self.jobs = None;
                self.lost.fetch_add(1, Ordering::Relaxed);
                let plugin = profile.permit.get(asked.load(Ordering::Relaxed));
                let plugin = plugin.map_or("", |p| p.name());
                Answer::Reject(too_long(plugin, patience), plugin)
            }
        }
    }

    fn send(&mut self, job: Job) -> Result<(), String> {
        let jobs = match &self.jobs {
            Some(jobs) => jobs,
            None => {
                let (sender, receiver) = mpsc::channel();
                let lost = self.lost.clone();
                std::thread::Builder::new()
                    .name("permit".into())
                    .spawn(move || work(&receiver, &lost))
                    .map_err(|e| e.to_string())?;
                self.jobs.insert(sender)
            }
        };
        jobs.send(job)
            .map_err(|_| "the thread for Permit ended".into())
    }
}

fn too_long(plugin: &str, patience: Duration) -> Status {
    Status {
        code: Code::Error,
        reasons: vec![format!("{plugin:?} did not return within {patience:?}").into()],
        plugin: "",
    }
}

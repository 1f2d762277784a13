//! What a cycle comes to, before anything is done about it.

use std::{sync::Arc, time::Instant};

use crate::{
    framework::{Nominated, Status},
    schedule::{FitError, Placement, Scheduler, guarded},
    snapshot::{PodInfo, Snapshot},
};

/// What a cycle comes to.
#[derive(Debug)]
pub(super) enum Decision {
    Place(Placement),
    /// No node fits. With the room that can be made, where somebody tried.
    Refuse(FitError, Option<Result<Nominated, Status>>),
    /// A plugin panicked.
    Fail(String),
}

/// Decides, without acting.
pub(super) fn decide(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    pod: &PodInfo,
    seed: u64,
) -> Decision {
    let start = Instant::now();
    let result = guarded(|| scheduler.schedule(snapshot, pod, seed));
    scheduler.note_algorithm(start.elapsed());
    match result {
        Err(panic) => Decision::Fail(panic),
        Ok(Ok(placement)) => Decision::Place(placement),
        Ok(Err(error)) => {
            let room = match guarded(|| scheduler.make_room(snapshot, pod, &error, seed)) {
                Ok(Ok(room)) => Some(Ok(room)),
                Ok(Err(status)) => status.map(Err),
                Err(panic) => {
                    tracing::error!(panic, "a PostFilter plugin failed");
                    None
                }
            };
            Decision::Refuse(error, room)
        }
    }
}

/// The same where extenders are asked, which may block: on another thread, with the snapshot as it is
/// now.
pub(super) async fn decide_apart(
    scheduler: &Arc<Scheduler>,
    snapshot: &mut Snapshot,
    pod: &Arc<PodInfo>,
    seed: u64,
) -> Decision {
    let lent = Arc::new(std::mem::take(snapshot));
    let (scheduler, pod, borrowed) = (scheduler.clone(), pod.clone(), lent.clone());
    let decided =
        tokio::task::spawn_blocking(move || decide(&scheduler, &borrowed, &pod, seed)).await;
    // The thread has let go of it by now, whatever happened there; if it did not, a clone is as good.
    *snapshot = Arc::unwrap_or_clone(lent);
    decided.unwrap_or_else(|error| Decision::Fail(error.to_string()))
}

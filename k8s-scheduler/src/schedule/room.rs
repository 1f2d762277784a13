//! [`Scheduler::make_room`]: what the PostFilter plugins say.

use std::time::Instant;

use super::{Filters, FitError, Scheduler};
use crate::{
    framework::{Nominated, Status},
    metrics::{Point, is_sampled},
    snapshot::{PodInfo, Snapshot},
};

impl Scheduler {
    /// Where room can be made for a pod that [`Scheduler::schedule`] found no node for.
    ///
    /// # Errors
    ///
    /// The status of the last PostFilter plugin, for the pod's condition; `None` if there is no such plugin.
    pub fn make_room(
        &self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        error: &FitError,
        seed: u64,
    ) -> Result<Nominated, Option<Status>> {
        let FitError::Unschedulable { statuses, .. } = error else {
            return Err(None);
        };
        let mut cycle = self.plan.begin();
        // Where PreFilter turned the pod away, the statuses say so for every node.
        let _ = self.pre_filter(&mut cycle, snapshot, pod);
        let filters = Filters {
            plan: &self.plan,
            skipped: &cycle.skipped_filters,
            snapshot,
            extenders: &self.extenders,
        };
        let mut last: Option<Status> = None;
        let start = Instant::now();
        for plugin in &self.profile.post_filter {
            let found = self.timed(is_sampled(seed), Point::PostFilter, plugin.name(), || {
                plugin.post_filter(&cycle.state, pod, snapshot, statuses, &filters, seed)
            });
            match found {
                Ok(mut nominated) => {
                    self.note(Point::PostFilter, None, start);
                    // Where nobody makes room, all that was said counts.
                    if let (None, Some(last), Some(text)) =
                        (&nominated.node, last, &mut nominated.message)
                    {
                        let before = last.reasons.iter().map(|reason| format!("{reason}, "));
                        text.insert_str(0, &before.collect::<String>());
                    }
                    return Ok(nominated);
                }
                Err(mut status) => {
                    if let Some(last) = last {
                        status.reasons.splice(0..0, last.reasons);
                    }
                    last = Some(status.by(plugin.name()));
                }
            }
        }
        if let Some(status) = &last {
            self.note(Point::PostFilter, Some(status.code), start);
        }
        Err(last)
    }
}

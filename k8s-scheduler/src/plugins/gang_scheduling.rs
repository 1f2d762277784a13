//! [`GangScheduling`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_model::labels::Selector;

use crate::{
    framework::{CycleState, EventKind, Permit, PermitDecision, Plugin},
    snapshot::{PodInfo, Snapshot},
};

/// The label with the name of a pod's gang.
const NAME: &str = "pod-group.scheduling.sigs.k8s.io/name";
/// The label with the number of pods that the gang needs.
const MIN_AVAILABLE: &str = "pod-group.scheduling.sigs.k8s.io/min-available";

/// Binds the pods of a gang all together or not at all.
///
/// The pods of a gang share a namespace and the label `pod-group.scheduling.sigs.k8s.io/name`; their label
/// `pod-group.scheduling.sigs.k8s.io/min-available` says how many of them must have a place before the first is bound. Those that
/// have one wait for the others, by default for a minute; then all of them give their places back. The labels are those
/// of the coscheduling plugin of kubernetes-sigs/scheduler-plugins. Not one of upstream's defaults:
///
/// ```
/// use std::sync::Arc;
/// use k8s_scheduler::{Profile, plugins::GangScheduling};
///
/// let profile = Profile::default().with_permit(Arc::new(GangScheduling::default()));
/// # let _ = profile;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GangScheduling {
    timeout: Duration,
}

impl Default for GangScheduling {
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}

impl GangScheduling {
    /// With the time that a gang has to find places for all.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

/// The gang's name and size.
fn gang(pod: &PodInfo) -> Option<(&String, usize)> {
    let name = pod.labels().get(NAME)?;
    let size = pod.labels().get(MIN_AVAILABLE)?.parse().ok()?;
    Some((name, size))
}

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        "GangScheduling"
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::Node
                | EventKind::AssignedPodAdd
                | EventKind::AssignedPodDelete
                | EventKind::Permit
        )
    }
}

impl Permit for GangScheduling {
    fn permit(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        _: &str,
        snapshot: &Snapshot,
        _: &[Arc<PodInfo>],
    ) -> PermitDecision {
        let Some((name, size)) = gang(pod) else {
            return PermitDecision::Allow;
        };
        // Places that are taken count, whether their pods are bound or wait too.
        let labels = BTreeMap::from([(NAME.to_owned(), name.clone())]);
        if snapshot.count_pods(pod.namespace(), &Selector::from_labels(&labels)) >= size {
            PermitDecision::Allow
        } else {
            PermitDecision::Wait(self.timeout)
        }
    }

    fn falls_with(&self, waiting: &PodInfo, rejected: &PodInfo) -> bool {
        waiting.namespace() == rejected.namespace()
            && gang(waiting).is_some_and(|(name, _)| rejected.labels().get(NAME) == Some(name))
    }
}

//! What the server itself says of a volume: since when it is in its phase.

use k8s_model::{Object, metadata};
use k8s_openapi::{api::core::v1::PersistentVolume, jiff::Timestamp};

/// Fills in when another phase began, unless the client says it.
pub(crate) fn say_when(new: &mut dyn Object, old: &dyn Object, now: Timestamp) {
    let (Some(new), Some(old)) = (
        new.downcast_mut::<PersistentVolume>(),
        old.downcast_ref::<PersistentVolume>(),
    ) else {
        return;
    };
    let old = old.status.clone().unwrap_or_default();
    let new = new.status.get_or_insert_default();
    let phase = |phase: &Option<String>| phase.clone().unwrap_or_default();
    let unsaid = new.last_phase_transition_time.is_none()
        || new.last_phase_transition_time == old.last_phase_transition_time;
    if unsaid && phase(&new.phase) != phase(&old.phase) {
        new.last_phase_transition_time = Some(metadata::to_second(now));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn another_phase_begins_now_unless_it_says_when() {
        let (then, other, now) = (
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00Z",
            "2026-01-03T00:00:00Z",
        );
        let volume = |phase: &str, time: Value| -> PersistentVolume {
            let status = json!({"phase": phase, "lastPhaseTransitionTime": time});
            serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
        };
        let old = volume("Pending", json!(then));
        for (phase, time, found) in [
            ("Pending", json!(then), then),
            ("Available", json!(then), now),
            ("Available", Value::Null, now),
            ("Available", json!(other), other),
        ] {
            let mut new = volume(phase, time);
            say_when(&mut new, &old, now.parse().unwrap());
            assert_eq!(new, volume(phase, json!(found)));
        }
    }
}

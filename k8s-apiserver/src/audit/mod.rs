//! Audit: who did what, in a log that a policy chooses from.
//!
//! A [`Policy`] (`audit.k8s.io/v1`) says how much is recorded of which request; an [`AuditSink`] takes the
//! events, in batches and on a thread of its own: [`LogFile`] writes them to a file that it rotates. Events are as
//! upstream writes them; see <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>.
//!
//! What differs: of a tunnel, the end of the handshake counts as the end.

mod event;
mod file;
mod latencies;
mod policy;
mod queue;
mod record;
mod trail;

use std::time::Duration;

use k8s_model::Object;

pub use self::{
    event::{AuthenticationMetadata, Event, ObjectReference, UserInfo},
    file::{LogFile, Rotation},
    policy::{GroupResources, Level, Policy, PolicyError, PolicyRule, Stage},
    queue::AuditSink,
};
pub(crate) use self::{
    queue::Audit,
    record::BodyKind,
    trail::{CURRENT, Trail, Unanswered, name},
};

/// Whether the request that is being served by this task is audited: whether annotations are worth making.
pub fn is_recording() -> bool {
    trail::CURRENT
        .try_with(|trail| trail.is_on())
        .unwrap_or(false)
}

/// Adds an annotation even before it is known who asks, and so whether that is recorded.
pub(crate) fn annotate_early(key: &str, value: String) {
    let _ = trail::CURRENT.try_with(|trail| trail.annotate_early(key, value));
}

/// Adds an annotation to the audit events of the request that is being served by this task, if they have the objects
/// of requests: one that is no less secret than those.
pub(crate) fn annotate_requests(key: String, value: impl FnOnce() -> String) {
    let _ = trail::CURRENT.try_with(|trail| {
        if trail.records_requests() {
            trail.annotate(key, value());
        }
    });
}

/// The body of the request that is being served by this task is this object: what is recorded has its defaults.
pub(crate) fn object_read(object: &dyn Object) {
    let _ = trail::CURRENT.try_with(|trail| {
        if trail.records_requests() {
            let mut json = Vec::new();
            object.write_json(&mut json);
            trail.object_read(json);
        }
    });
}

/// The request that is being served by this task waits so long for webhooks of that step (`mutating` or `validating`).
pub(crate) fn waited_for_webhooks(step: &'static str, took: Duration) {
    let _ = trail::CURRENT.try_with(|trail| trail.waited_for_webhooks(step, took));
}

/// Adds an annotation to the audit events of the request that is being served by this task; for admission
/// plugins and the like. Without audit nothing happens; a key that is there keeps its first value, as upstream.
///
/// Keys look like `pod-security.kubernetes.io/enforce-policy`.
pub fn annotate(key: impl Into<String>, value: impl Into<String>) {
    let _ = trail::CURRENT.try_with(|trail| trail.annotate(key.into(), value.into()));
}

//! [`Reconciler`]: what a controller does, one key at a time.

use std::{fmt, future::Future, hash::Hash, time::Duration};

/// When a successful reconcile wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When something it watches changes, and not before.
    OnChange,
    /// After this long, or earlier if something it watches changes.
    After(Duration),
}

/// What a controller does: brings the world one step closer to what one key asks for.
///
/// # Purpose
/// [`Controller::run`](crate::runtime::Controller::run) calls [`reconcile`](Self::reconcile) for
/// every key that its [`WorkQueue`](crate::runtime::WorkQueue) yields. Keys get there from
/// [`Informer`](crate::runtime::Informer) handlers. Write your own to run a controller of your
/// own on the same machinery as the built-in ones.
///
/// # Guarantees an implementation gives
/// - **Level-based**: it looks at the present state alone. Keys carry no event; several changes
///   may arrive as one call, and a call may come without any change.
/// - **Idempotent**: called twice without a change in between, the second call writes nothing.
/// - **A missing object is success**: a key whose object is gone is not an error.
///
/// # What the driver gives in return
/// - A key that is added while it is being reconciled is reconciled once more afterwards; it is
///   never lost and never handled twice at the same time.
/// - After an error, the key comes back after its own exponential back-off (5 ms doubling up to
///   1000 s), which the next success resets.
///
/// # Concurrency
/// Calls for different keys overlap, from as many tasks as the controller has workers. Calls for
/// the same key never do.
///
/// # Errors
/// An error means "try this key again later". A result is an error or a requeue, never both. An
/// error that a retry cannot cure is reported where the user sees it (a condition, an API event)
/// and the call returns `Ok`. A panic is contained and counts as an error.
///
/// # Cancellation
/// When the controller stops, running calls get a grace period; after it the future is dropped at
/// whatever `.await` it is at. Requests in flight may or may not have happened. The next process
/// starts from the present state, so nothing may rely on the rest of a call having run.
///
/// # Example
/// The crate's front page has one that runs.
pub trait Reconciler: Send + Sync + 'static {
    /// What work is queued by; usually [`ObjectKey`](crate::runtime::ObjectKey).
    type Key: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static;
    /// Why a reconcile failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Brings the world one step closer to what `key` asks for.
    fn reconcile(
        &self,
        key: Self::Key,
    ) -> impl Future<Output = Result<Requeue, Self::Error>> + Send;

    /// Whether an error is part of normal operation, such as a lost race against another writer.
    /// Those are retried like all others, but logged for debugging only.
    fn is_expected(&self, _error: &Self::Error) -> bool {
        false
    }
}

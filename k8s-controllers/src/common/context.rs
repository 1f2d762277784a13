//! [`Context`]: what every controller is given.

use kube::Client;

use crate::runtime::{Clock, EventRecorder, InformerFactory};

/// What every controller is given: its own identity, the shared informers, events and time.
#[derive(Clone)]
pub(crate) struct Context {
    /// The controller's own identity.
    pub(crate) client: Client,
    /// The informers that all controllers share.
    pub(crate) informers: InformerFactory,
    /// Where events go.
    pub(crate) events: EventRecorder,
    /// The time of day.
    pub(crate) clock: Clock,
}

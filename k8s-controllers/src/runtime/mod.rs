//! The machinery below every controller: informers, work queues, drivers, expectations, events,
//! leader election.

mod clock;
mod controller;
mod events;
mod expectations;
mod informer;
mod key;
mod leader;
mod queue;
mod rate_limit;
mod reconciler;

pub use clock::Clock;
pub(crate) use clock::{since, truncate};
pub use controller::Controller;
pub use events::{EventRecorder, EventSink, EventType};
pub use expectations::Expectations;
pub(crate) use informer::{Backoff, WatchMode, watch_stream};
pub use informer::{Change, Informer, InformerFactory};
pub use key::ObjectKey;
pub use leader::{LeaderElection, LeaderElectionConfig};
pub use queue::WorkQueue;
pub use rate_limit::RateLimiter;
pub use reconciler::{Reconciler, Requeue};

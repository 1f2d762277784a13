//! The driver: takes pods, nodes and what else matters from the API, and decisions back to it.

mod act;
mod asker;
mod cycle;
mod decide;
mod election;
mod events;
mod finish;
mod permit;
mod run;
mod take;
mod watch;

pub use election::LeaderElection;
pub use events::EventLimits;
pub use run::{Driver, DriverConfig};

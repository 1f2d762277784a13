//! The driver: takes pods, nodes and what else matters from the API, and decisions back to it.

mod act;
mod cycle;
mod election;
mod run;
mod take;
mod watch;

pub use election::LeaderElection;
pub use run::{Driver, DriverConfig};

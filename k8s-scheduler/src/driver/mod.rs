//! The driver: takes pods and nodes from the API, and decisions back to it.

mod act;
mod run;
mod watch;

pub use run::{Driver, DriverConfig};

//! The scheduler with an API server in one process: what upstream's conformance suite says of it, and what it does
//! when things go wrong.

mod basics;
mod cluster;
mod extenders;
mod faults;
mod objects;
mod plugins;

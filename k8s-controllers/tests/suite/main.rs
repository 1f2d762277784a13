//! The controllers against the whole API server, in process. One program, since linking one is quicker
//! than linking a dozen; each file is a subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod cleanup;
mod disruption;
mod leading;
mod migrations;
mod nodes;
mod quotas;
mod selection;
mod service_cidrs;
mod services;
mod storage;
mod support;
mod tokens;
mod workloads;

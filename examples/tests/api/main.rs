//! The conformance requirements of Kubernetes' sig-api-machinery, sig-auth, sig-cli,
//! sig-instrumentation and sig-architecture, over TLS against the running binary.
//!
//! Nothing here needs root: nodes are simulated. What needs containers that run is among the tests
//! in `../conformance`, and the webhooks are in `k8s-apiserver/tests/suite`. Each file is an area,
//! and says in its `ENTRIES` which requirement each of its tests is.

mod accounts;
mod aggregator;
mod certificates;
mod collector;
mod definitions;
mod discovery;
mod entries;
mod events;
mod fixture;
mod kubectl;
mod namespaces;
mod nodes;
mod openapi;
mod quotas;
mod rest;
#[path = "../support/mod.rs"]
mod support;
mod watchers;

/// A requirement as upstream names it, and the test that holds the server to it.
type Entry = (&'static str, fn());

/// The requirements of all files.
const ENTRIES: &[&[Entry]] = &[
    accounts::ENTRIES,
    aggregator::ENTRIES,
    certificates::ENTRIES,
    collector::ENTRIES,
    definitions::ENTRIES,
    discovery::ENTRIES,
    events::ENTRIES,
    kubectl::ENTRIES,
    namespaces::ENTRIES,
    nodes::ENTRIES,
    openapi::ENTRIES,
    quotas::ENTRIES,
    watchers::ENTRIES,
];

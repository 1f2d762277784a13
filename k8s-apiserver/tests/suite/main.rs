//! The whole server, asked as clients ask it: in process, and over TLS. One program, since linking one is quicker
//! than linking a dozen; each file is a subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod admission_metrics;
mod aggregation;
mod answers;
mod apply;
mod audit;
mod bounds;
mod common;
mod components;
mod connections;
mod conversion;
mod custom;
mod definitions;
mod disruption_budgets;
mod fairness;
mod front_proxy;
mod hostile;
mod intruders;
mod kubectl;
mod legacy_tokens;
mod methods;
mod metrics;
mod negotiation;
mod objects;
mod outage;
mod patches;
mod policies;
mod protobuf;
mod published;
mod recorded;
mod refusals;
mod reviews;
mod secured;
mod shapes;
mod subresources;
mod tunnels;
mod typed;
mod versions;
mod watches;
mod webhook_rules;
mod webhooks;
mod webhooks_auth;
mod websocket;

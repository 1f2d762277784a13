//! The Kubernetes REST front end as a tower::Service.

pub mod admission;
pub mod auth;
pub mod authz;
mod bootstrap;
mod builder;
mod cache;
mod discovery;
mod endpoints;
mod error;
mod health;
pub mod http;
mod metrics;
mod openapi;
pub mod pki;
pub mod proxy;
mod registry;
pub mod reviews;
pub mod serve;
mod server;
mod services;
mod version;

pub use self::{
    builder::{Advertised, ApiServerBuilder, BuildError},
    error::{Error, Result},
    registry::Clock,
    server::ApiServer,
    services::{Cidr, NodePortRange, ParseCidrError},
};

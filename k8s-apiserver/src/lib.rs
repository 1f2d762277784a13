//! The Kubernetes REST front end as a tower::Service.

pub mod admission;
pub mod auth;
pub mod authz;
pub mod proxy;
pub mod reviews;
pub mod http;
pub mod pki;
pub mod serve;

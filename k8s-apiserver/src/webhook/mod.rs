//! Webhooks: servers of somebody else's that this one asks.
//!
//! [`Client`] is the way to one of them. Admission, the conversion of custom resources, authentication and
//! authorization each say what is asked and what the answer means.

mod client;
mod connect;
mod credentials;
mod error;
pub(crate) mod kubeconfig;
mod memory;
mod review;
mod self_signed;
mod trust;

#[cfg(feature = "__fuzz")]
pub(crate) use self::kubeconfig::fuzz as fuzz_kubeconfig;
pub(crate) use self::{
    client::{Address, Client, ClientConfig, Clients},
    error::CallError,
    memory::Memory,
    review::{TIMEOUT, ask},
    self_signed::trusting,
    trust::{Trust, system_roots},
};
pub use self::{kubeconfig::WebhookFileError, review::ReviewVersion};

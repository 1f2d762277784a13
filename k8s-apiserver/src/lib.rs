//! The Kubernetes API as a [`tower::Service`]: an API server that lives inside your program.
//!
//! It is not a binary and opens no socket unless it is told to. It schedules nothing, runs no
//! controllers and no pods: those are clients of it, here as upstream.
//!
//! ```
//! use k8s_apiserver::{ApiServer, auth::Identity};
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::{Api, api::PostParams};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In memory, with RBAC, admission and the objects that every cluster has.
//! let server = ApiServer::builder().build().await?;
//!
//! // Any kube-rs program runs against it, without a socket.
//! let client = server.client(Identity::system_masters());
//! let maps: Api<ConfigMap> = Api::namespaced(client, "default");
//! let mut map = ConfigMap::default();
//! map.metadata.name = Some("settings".into());
//! map.data = Some([("colour".to_owned(), "blue".to_owned())].into());
//! let made = maps.create(&PostParams::default(), &map).await?;
//! assert!(made.metadata.uid.is_some());
//!
//! // Who has no role may do nothing, in-process as over the network.
//! let alice: Api<ConfigMap> = Api::namespaced(server.client(Identity::user("alice")), "default");
//! let refused = alice.get("settings").await.unwrap_err();
//! assert!(refused.to_string().contains("cannot get resource \"configmaps\""));
//!
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! - [`ApiServer`] is the service, and [`ApiServerBuilder`] says what it is made of.
//! - [`resources`]: choices of what is served: everything, or custom resources alone.
//!   [`TypedResource`]: Rust types of your own.
//! - [`auth`]: who asks. [`Identity`](auth::Identity), client certificates, tokens, impersonation (the classic and the
//!   constrained one, KEP-5284), configuration files.
//! - [`authz`]: what they may do. RBAC with upstream's roles, the node authorizer, webhooks, configuration files.
//! - Priority and fairness: who is served first when more is asked than can be served
//!   ([`ApiServerBuilder::priority_and_fairness`]).
//! - [`admission`]: the last word on a write. Upstream's default plugins, webhooks and policies among them.
//! - [`reviews`]: what is asked and never stored: access reviews, token reviews, tokens.
//! - [`components`]: the health of a cluster's parts, as `kubectl get componentstatuses` tells it.
//! - [`proxy`]: the way to kubelets: logs, exec, attach, port-forward.
//! - [`serve`] and [`pki`]: the TLS listener, and the certificates of a cluster of one's own.
//! - [`encryption`]: Secrets and the like, sealed in the store.
//! - [`http`]: the [`Body`](http::Body) of requests and answers.
//!
//! All resources take one generic path: a request is authenticated, authorized and decoded,
//! defaulted, admitted and validated, and committed with a guard on the revision that it was based
//! on; readers get the bytes that were stored, and watchers one encoding per event. What is
//! special about a kind is its row in [`k8s_model::ResourceTable`] and its [`k8s_model::Strategy`].
//! `docs/figures.md` says what that costs.
//!
//! # Bring your own
//!
//! | part | trait | proven by |
//! |---|---|---|
//! | store | [`k8s_store::Store`] | the kit in `k8s_store::testing` |
//! | resources | [`TypedResource`] with a [`KindStrategy`](k8s_model::custom::KindStrategy), custom resource definitions, or rows for [`ApiServerBuilder::resources`] | |
//! | credentials | [`auth::Authenticator`] | |
//! | permissions | [`authz::Authorizer`] | |
//! | rules on writes | [`admission::AdmissionPlugin`] | |
//! | reviews | [`reviews::CreateOnly`] | |
//! | health of other parts | [`components::Component`] | |
//! | connections to pods and nodes | [`proxy::Connecter`] | |
//!
//! # Relation to upstream
//!
//! It mirrors kube-apiserver of the Kubernetes version that `k8s_openapi` is built for, 1.37 at
//! most: paths, verbs, status codes, reasons and texts.
//!
//! Left out: CBOR (KEP-4222), which upstream serves behind the feature gate `CBORServingAndStorage` alone. Who wants it is
//! answered 406, and who sends it 415, as with the gate off; client-go goes on in JSON then.
//!
//! Otherwise than upstream, on purpose:
//! - What a client got wrong is a 4xx, where upstream says 500: a `resourceVersion` that is no number and `DeleteOptions` that
//!   cannot be read are 400, a strategic merge patch that does not fit its object is 422, and so is a `healthCheckNodePort` that
//!   cannot be had.
//! - A ClusterIP's IPAddress is written and deleted in the commit of its Service. One that names another, or has lost its
//!   labels, is changed, where upstream deletes it and makes it anew: nobody else can get the address in between.
//! - Who owns fields in a version that a definition no longer has loses those alone. Upstream forgets all owners then, or
//!   applies nothing any more ([issue 111937](https://github.com/kubernetes/kubernetes/issues/111937)).
//! - Ranges such as `application/*` are good in `Accept`.
//! - The status of what does not exist is 404, where upstream creates objects of the kinds that a PUT creates, such as Services.
//! - Whole numbers beyond 2⁵³ that a custom resource has with an exponent keep it.
//! - Where a webhook answers with a redirect, it is not followed: its configuration says whom this server asks, and with
//!   which credentials.
//! - A condition's `lastTransitionTime` that nobody said is written as the zero of times, `0001-01-01T00:00:00Z`, where upstream
//!   writes `null`: clients in Go take both for the same, those in Rust and Python refuse `null`.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `testing` | inert doubles for tests | no |

#![forbid(unsafe_code)]

pub mod admission;
mod aggregation;
pub mod audit;
pub mod auth;
pub mod authz;
mod bootstrap;
mod builder;
mod cache;
mod compaction;
mod compat;
pub mod components;
mod crypto;
mod definitions;
mod discovery;
pub mod encryption;
mod endpoints;
mod error;
mod flow;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod health;
pub mod http;
mod identity_lease;
mod legacy_tokens;
mod metrics;
mod openapi;
pub mod pki;
pub mod proxy;
mod registry;
mod reload;
pub mod resources;
mod retry;
pub mod reviews;
pub mod serve;
mod server;
mod services;
mod typed;
mod version;
mod webhook;

pub use self::{
    builder::{Advertised, ApiServerBuilder, BuildError},
    error::{Error, Result},
    flow::MaxInFlight,
    registry::Clock,
    server::{ApiServer, InProcess},
    services::{Cidr, NodePortRange, ParseCidrError},
    typed::{TypedResource, TypedResourceError},
};

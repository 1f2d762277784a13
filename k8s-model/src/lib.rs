//! The Kubernetes object model: what the API's machinery knows of objects.
//!
//! It is types, metadata rules, quantities, selectors, patches, schemas, defaulting, validation and
//! the table of resources. It is not a client and not a server: it does no I/O, keeps no time and
//! rolls no dice; clocks and random sources are handed in.
//!
//! The types are those of [`k8s_openapi`], so that our `Pod` is every kube-rs program's `Pod`.
//!
//! ```
//! use k8s_model::{ResourceTable, api::core::v1::Pod, field::Path, metadata};
//!
//! // A row of the table knows all that a server must know of a resource …
//! let pods = ResourceTable::builtin().resource("", "v1", "pods").unwrap();
//! assert_eq!(pods.short_names, ["po"]);
//!
//! // … such as how its JSON becomes an object.
//! let json = br#"{"metadata": {"generateName": "web-", "namespace": "default"}, "spec": {
//!     "containers": [{"name": "web", "image": "nginx", "comand": ["true"]}]}}"#;
//! let mut unknown = Vec::new();
//! let mut pod = (pods.codec.from_json)(json, &mut |field| unknown.push(field))?;
//! assert_eq!(unknown, ["spec.containers[0].comand"]);
//!
//! // What the server decides, what the kind defaults, and what upstream would complain about.
//! let mut random = fastrand::Rng::with_seed(1);
//! metadata::prepare_for_create(pod.metadata_mut(), "2026-01-01T00:00:00Z".parse()?, &mut random);
//! pods.strategy.prepare_for_create(&mut *pod);
//! pods.strategy.default(&mut *pod);
//! let name_rule = |name: &str, prefix: bool| pods.strategy.validate_name(name, prefix);
//! let mut errors = metadata::validate(pod.metadata(), true, &name_rule, &Path::new("metadata"));
//! errors.extend(pods.strategy.validate(&*pod));
//! assert!(errors.is_empty(), "{errors:?}");
//!
//! let pod: &Pod = pod.downcast_ref().unwrap();
//! assert!(pod.metadata.name.as_deref().unwrap().starts_with("web-"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//!
//! - [`ResourceTable`] and its rows, [`Resource`]: which resources there are. [`Object`]: one object
//!   of any kind. [`Strategy`]: a kind's own rules.
//! - [`decode`]: JSON to objects. [`convert`]: between the versions of a kind.
//! - [`metadata`] and [`names`]: what holds for every object. [`field`]: what is found to be wrong.
//! - [`quantity`], [`labels`], [`fields`]: quantities and selectors.
//! - [`patch`]: JSON, merge and strategic merge patches.
//! - [`apply`]: server-side apply and managed fields. [`pieces`]: objects told piece by piece.
//! - [`schema`] and [`openapi`]: what the types are, for patches and for clients.
//! - [`cel`]: expressions in rules. [`policies`]: what is wrong with those of admission policies.
//! - [`custom`]: resources that custom resource definitions add. [`structural`]: their schemas.
//!   [`json_path`]: where in them a value is.
//! - [`printers`]: the columns that `kubectl get` shows.
//! - [`status`]: answers to failed requests. [`pods`]: what many ask about pods.
//!
//! # Bring your own
//!
//! A kind of your own is a type that implements [`k8s_openapi::Resource`] and
//! [`k8s_openapi::Metadata`], a [`Strategy`] with its rules ([`NoRules`] if it has none), and a row
//! in a table: [`ResourceTable::new`] takes the built-in rows, yours, or a choice of both.
//!
//! # Relation to upstream
//!
//! It mirrors `k8s.io/apimachinery`, and of kube-apiserver the types with their defaults,
//! validation and registry strategies. The Kubernetes version is the one that `k8s_openapi` is
//! built for, 1.33 to 1.37; resources are those that upstream serves by default, that is, stable
//! ones. What the sources of `k8s_openapi` say of the types is generated from them by
//! `cargo xtask codegen`.
//!
//! # Features
//!
//! None. The program that uses it chooses the Kubernetes version with a feature of `k8s_openapi`.

#![forbid(unsafe_code)]

pub mod apply;
pub mod cel;
pub mod certificates;
pub mod convert;
pub mod custom;
pub mod decode;
pub mod duration;
pub mod field;
pub mod fields;
mod generated;
mod intern;
mod json;
pub mod json_path;
mod kinds;
pub mod labels;
pub mod metadata;
pub mod names;
mod object;
pub mod openapi;
pub mod patch;
mod patterns;
pub mod pieces;
pub mod policies;
pub mod printers;
pub mod protobuf;
pub mod quantity;
pub mod quota;
mod resource;
pub mod schema;
pub mod status;
mod strategy;
pub mod structural;
mod table;

/// What pods ask for and how they are: shared by scheduler, controllers and node agent.
pub mod pods {
    pub use crate::kinds::core::pod::{
        condition, is_available, is_ready, is_sidecar, is_terminal, qos_class, ready_condition,
        resource_limits, resource_requests,
    };
}

/// What Services have of addresses: shared with the API server, which hands them out.
pub mod services {
    pub use crate::kinds::core::service::address_findings;
}

pub use k8s_openapi;
pub use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};

pub use self::{
    decode::DecodeError,
    intern::{intern, intern_all},
    object::Object,
    resource::{
        AnyStrategy, Codec, Decoded, FromJson, FromValue, GroupVersionResource, Resource, Scope,
        Subresource, api_version,
    },
    strategy::{NoRules, Strategy},
    table::{ApiGroup, ResourceTable, resources, subresource_codec, taken_for},
};

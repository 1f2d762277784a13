//! Structural schemas: what a custom resource's schema says of its objects.
//!
//! A [`Schema`] is read once from the `openAPIV3Schema` of a custom resource definition, and then
//! validates values ([`Schema::validate`]), drops fields that it does not know
//! ([`Schema::prune`]), fills in defaults ([`Schema::default_value`]) and says how lists and maps
//! merge ([`Schema::list_type`], [`Schema::map_type`]).
//! See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>.
//!
//! ```
//! use k8s_model::structural::Schema;
//! use serde_json::json;
//!
//! let schema = Schema::new(&serde_json::from_value(json!({
//!     "type": "object",
//!     "properties": {
//!         "replicas": {"type": "integer", "minimum": 1, "default": 1},
//!         "colour": {"type": "string", "enum": ["red", "blue"]},
//!     },
//! }))?);
//!
//! let mut value = json!({"colour": "green", "size": 3});
//! let mut unknown = Vec::new();
//! schema.prune(&mut value, false, &mut |field| unknown.push(field));
//! assert_eq!(unknown, ["size"]);
//! schema.default_value(&mut value);
//! assert_eq!(value, json!({"colour": "green", "replicas": 1}));
//! assert_eq!(
//!     schema.validate(&value)[0].to_string(),
//!     "colour: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
//! );
//! # Ok::<(), serde_json::Error>(())
//! ```

mod builtin;
mod correlation;
mod defaults;
mod embedded;
pub(crate) mod field_path;
mod formats;
mod lists;
mod prune;
mod rules;
mod schema;
mod validate;

pub(crate) use self::embedded::metadata_fault;
pub(crate) use self::formats::{fits as format_fits, is_known as is_format};
pub use self::rules::{Findings, Rules};
pub use self::schema::{Additional, Kind, ListType, MapType, Rule, Schema};
pub use crate::patterns::Pattern;

//! Server-side apply and `metadata.managedFields` (KEP-555): who owns which field of an object,
//! what an applied configuration changes, and when appliers are in each other's way.
//!
//! A [`Tracker`] stands for one writer. It says what `metadata.managedFields` becomes when that
//! writer creates an object ([`Tracker::created`]), changes it ([`Tracker::updated`]) or applies a
//! configuration to it ([`Tracker::apply`]). `metadata.managedFields` itself is handled as JSON, and
//! objects as the JSON that is about to be stored; nothing is parsed for writers who change nothing.
//! For a creator no set is built and nothing but the managed fields is written.
//!
//! ```
//! use k8s_model::{apply::{Shape, Tracker, OneVersion}, schema::Type};
//! use serde_json::json;
//!
//! let shape = Shape::Type(Type::of_kind("", "v1", "ConfigMap").unwrap());
//! let tracker = |manager| Tracker {
//!     shape: &shape,
//!     api_version: "v1",
//!     subresource: "",
//!     manager,
//!     reset: &[],
//!     now: "2026-01-01T00:00:00Z".parse().unwrap(),
//!     versions: &OneVersion,
//! };
//! let config = |value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
//!
//! let nothing = json!({"apiVersion": "v1", "kind": "ConfigMap"});
//! let first = tracker("one").apply(nothing, &config("1"), b"", false).unwrap();
//! let live = first.object.unwrap();
//!
//! // Who applies another value is told who owns it, and may take it by force.
//! let refused = tracker("two").apply(live.clone(), &config("2"), &first.managed, false);
//! assert_eq!(
//!     refused.unwrap_err().to_string(),
//!     r#"Apply failed with 1 conflict: conflict with "one": .data.k"#
//! );
//! let forced = tracker("two").apply(live, &config("2"), &first.managed, true).unwrap();
//! assert_eq!(forced.object.unwrap()["data"]["k"], "2");
//! ```
//!
//! What apply must know of types is a [`Shape`]. What differs from upstream: `null`s that upstream's
//! Go types write where nothing is set are not in our objects, so a field that was never set is never
//! owned.

mod atomics;
mod conflict;
mod created;
mod last_applied;
mod managers;
mod merge;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_lists;
mod reset;
mod schema;
mod set;
mod tape;
mod tracker;
mod validate;
mod versions;
mod walk;

pub use self::{
    atomics::atomics,
    conflict::{ApplyError, Conflict},
    managers::{MAX_UPDATE_MANAGERS, Operation},
    reset::reset_fields,
    schema::{Key, List, Map, MapField, Relation, Shape},
    set::{BadFields, FieldSet},
    tracker::{Applied, Tracker, differ_only_in_time},
    versions::{OneVersion, Versions},
};

/// The manager of what was there before anything was applied or tracked.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager that writes without a name.
pub const UNKNOWN: &str = "unknown";

/// The manager that a `User-Agent` header stands for: what is before the first `/`, as far as it is
/// printable and not too long.
pub fn manager_of_user_agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let mut out = String::with_capacity(name.len().min(128));
    for c in name.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > 128 {
            break;
        }
        out.push(c);
    }
    out
}

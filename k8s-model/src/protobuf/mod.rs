//! Objects in Kubernetes' protobuf encoding.
//!
//! Clients in Go send it for built-in kinds, and ask for it. [`decode`] turns it into the value tree that
//! JSON would have given; from there it takes the same road. [`encode`] goes the other way, from JSON.
//! See <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>.
//!
//! ```
//! use k8s_model::protobuf;
//!
//! let json = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"}}"#;
//! let bytes = protobuf::encode(json)?;
//! assert!(bytes.starts_with(protobuf::MAGIC));
//! assert_eq!(protobuf::decode(&bytes)?["data"]["a"], "1");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod json;
mod sink;
mod table;
mod tree;
mod unset;
mod wire;

pub(crate) use json::{tell_json, write_json};
pub(crate) use unset::without_unset;

/// Whether upstream's JSON has a field of a type even where nobody set it: one that is no pointer and has no tag that
/// leaves it out. Nothing if the type has no message.
pub(crate) fn is_always_written(ty: &str, field: &str) -> Option<bool> {
    let message = table::Ref::of_type(ty)?.get();
    let found = message.member(field);
    Some(found.is_some_and(table::Field::is_always_written))
}

pub use decode::{DecodeError, MAGIC, decode};
pub use encode::{
    ENVELOPE_END, EncodeError, MessageType, encode, encode_as, envelope_start, item_length,
    item_start, watch_frame,
};

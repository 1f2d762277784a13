//! Objects in Kubernetes' protobuf encoding.
//!
//! Clients in Go send it for built-in kinds. [`decode`] turns it into the value tree that JSON would have
//! given; from there it takes the same road. See
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>.

mod decode;
mod table;
mod wire;

pub use decode::{DecodeError, MAGIC, decode};

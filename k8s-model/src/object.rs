//! [`Object`]: one API object of any kind, as the machinery handles it.

use std::{
    any::Any,
    fmt::{self, Debug},
};

use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::Serialize;
use serde_json::Value;

use crate::{pieces::Pieces, protobuf};

/// One API object of any kind.
///
/// Every `k8s_openapi` type with an [`ObjectMeta`] is one, through the blanket
/// implementation; so is any type of your own that implements
/// [`k8s_openapi::Resource`] and [`k8s_openapi::Metadata`].
///
/// Its `Debug` tells which object it is, and not what is in it.
pub trait Object: Any + Send + Sync {
    /// The group and version, as in `apps/v1`.
    fn api_version(&self) -> &str;
    /// The kind, as in `Deployment`.
    fn kind(&self) -> &str;
    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// Appends the object's JSON, `apiVersion` and `kind` first. That of built-in kinds has the fields that upstream
    /// writes: `null`, `{}` or zero where they are not set, unless their tags leave them out.
    fn write_json(&self, out: &mut Vec<u8>);
    /// Tells the object's JSON piece by piece, for who has no need of its text. Whether it could: if not, what was
    /// told is not all of it.
    fn tell_json(&self, _pieces: &mut dyn Pieces) -> bool {
        false
    }
    /// The object as a value tree.
    fn to_value(&self) -> Value;
    /// A copy behind a new box.
    fn boxed_clone(&self) -> Box<dyn Object>;
    /// For downcasting to the concrete type.
    fn as_any(&self) -> &dyn Any;
    /// For downcasting to the concrete type, to change it.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<K> Object for K
where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + Clone + Debug + Send + Sync + 'static,
{
    fn api_version(&self) -> &str {
        K::API_VERSION
    }

    fn kind(&self) -> &str {
        K::KIND
    }

    fn metadata(&self) -> &ObjectMeta {
        Metadata::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        Metadata::metadata_mut(self)
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        protobuf::write_json(K::API_VERSION, K::KIND, self, out)
            .expect("API types serialise into memory");
    }

    fn tell_json(&self, pieces: &mut dyn Pieces) -> bool {
        protobuf::tell_json(K::API_VERSION, K::KIND, self, pieces).is_ok()
    }

    fn to_value(&self) -> Value {
        // By way of bytes, as decoding goes: a second instance of the code that writes each type would make the
        // program larger by half a megabyte.
        let mut json = Vec::with_capacity(1024);
        self.write_json(&mut json);
        serde_json::from_slice(&json).expect("what was just written is JSON")
    }

    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Without what is in the object: code that prints each of the built-in types would weigh more than a megabyte.
impl Debug for dyn Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meta = self.metadata();
        f.debug_struct(self.kind())
            .field("api_version", &self.api_version())
            .field("namespace", &meta.namespace)
            .field("name", &meta.name)
            .finish_non_exhaustive()
    }
}

impl dyn Object {
    /// The object as its concrete type, if it is a `K`.
    pub fn downcast_ref<K: 'static>(&self) -> Option<&K> {
        self.as_any().downcast_ref()
    }

    /// The object as its concrete type, to change, if it is a `K`.
    pub fn downcast_mut<K: 'static>(&mut self) -> Option<&mut K> {
        self.as_any_mut().downcast_mut()
    }
}

//! [`CustomObject`]: an object of a custom resource.

use std::any::Any;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use crate::Object;

/// An object of a custom resource: metadata, and a tree of values.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomObject {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) metadata: ObjectMeta,
    /// Everything else: `spec`, `status` and so on.
    pub(super) fields: Map<String, Value>,
}

impl CustomObject {
    /// The top-level fields but for `apiVersion`, `kind` and `metadata`.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The same, to change.
    pub fn fields_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.fields
    }

    /// The object as a Rust type, for plugins that are told of one whose type is known.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn typed<K: serde::de::DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_value(self.to_value())
    }

    /// Says that it is of another version, and changes nothing else.
    pub fn relabel(&mut self, api_version: &'static str) {
        self.api_version = api_version;
    }
}

impl Object for CustomObject {
    fn api_version(&self) -> &str {
        self.api_version
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        const FITS: &str = "API types serialise into memory";
        out.extend_from_slice(b"{\"apiVersion\":\"");
        out.extend_from_slice(self.api_version.as_bytes());
        out.extend_from_slice(b"\",\"kind\":\"");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(b"\",\"metadata\":");
        serde_json::to_writer(&mut *out, &self.metadata).expect(FITS);
        for (name, value) in &self.fields {
            out.push(b',');
            serde_json::to_writer(&mut *out, name).expect(FITS);
            out.push(b':');
            serde_json::to_writer(&mut *out, value).expect(FITS);
        }
        out.push(b'}');
    }

    fn to_value(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("apiVersion".to_owned(), self.api_version.into());
        fields.insert("kind".to_owned(), self.kind.into());
        let metadata = serde_json::to_value(&self.metadata).unwrap_or_default();
        fields.insert("metadata".to_owned(), metadata);
        Value::Object(fields)
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

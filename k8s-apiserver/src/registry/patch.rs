//! Patch: the three kinds of patches, applied to an object as a value tree.

use bytes::Bytes;
use k8s_model::{Object, patch, schema::Type};
use serde_json::Value;

use super::Row;
use crate::{Error, Result};

/// How a patch is meant, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists merge by their keys.
    Strategic,
}

pub(crate) const PATCH_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

impl PatchType {
    pub(crate) fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json-patch+json" => Some(PatchType::Json),
            "application/merge-patch+json" => Some(PatchType::Merge),
            "application/strategic-merge-patch+json" => Some(PatchType::Strategic),
            _ => None,
        }
    }
}

/// A patch as it was sent.
#[derive(Debug)]
pub(crate) enum Patch {
    Json(Bytes),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    pub(crate) fn new(kind: PatchType, bytes: Bytes) -> Result<Self> {
        if kind == PatchType::Json {
            return Ok(Patch::Json(bytes));
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::bad_request(format!("error decoding patch: {error}")))?;
        if !value.is_object() {
            return Err(Error::bad_request(
                "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
            ));
        }
        Ok(match kind {
            PatchType::Merge => Patch::Merge(value),
            _ => Patch::Strategic(value),
        })
    }

    /// Applies it to an object of a row's kind. Calls `unknown` with each unknown field.
    pub(crate) fn apply(
        &self,
        row: &Row,
        old: &dyn Object,
        unknown: &mut dyn FnMut(String),
    ) -> Result<Box<dyn Object>> {
        let resource = &row.resource;
        let ty = Type::of_kind(resource.group, resource.version, resource.kind);
        let value = self.apply_to_value(ty, old.to_value())?;
        let json = serde_json::to_vec(&value).map_err(Error::internal)?;
        let mut object = (resource.codec.from_json)(&json, unknown)
            .map_err(|e| Error::decode(&e, &json, &resource.api_version(), resource.kind))?;
        resource.strategy.default(&mut *object);
        Ok(object)
    }

    /// Applies it to a value tree of a type.
    pub(crate) fn apply_to_value(&self, ty: Option<Type>, mut value: Value) -> Result<Value> {
        match self {
            Patch::Json(bytes) => {
                patch::json(&mut value, bytes).map_err(|e| Error::from(e.to_status()))?;
            }
            Patch::Merge(change) => patch::merge(&mut value, change),
            Patch::Strategic(change) => {
                value = patch::strategic(value, change.clone(), ty)
                    .map_err(|e| Error::from(e.to_status()))?;
            }
        }
        Ok(value)
    }
}

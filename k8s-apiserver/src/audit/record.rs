//! [`Record`]: an event with bodies that nobody has looked into yet.

use std::io::Read;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::{Event, Level, ObjectReference};

/// A body, not looked into yet.
#[derive(Clone, Default)]
pub(super) struct Raw {
    pub(super) content_type: String,
    pub(super) gzip: bool,
    pub(super) slices: Vec<Bytes>,
    pub(super) len: usize,
    /// What it is read as where it does not say.
    pub(super) kind: Option<BodyKind>,
}

/// The `apiVersion` and `kind` that the body of a request has if it says none.
#[derive(Clone)]
pub(crate) struct BodyKind {
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

impl BodyKind {
    fn fill(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else {
            return;
        };
        for (name, value) in [("apiVersion", &self.api_version), ("kind", &self.kind)] {
            object.entry(name).or_insert_with(|| value.as_str().into());
        }
    }
}

impl Raw {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            headers
                .get(name)
                .and_then(|v: &HeaderValue| v.to_str().ok())
                .unwrap_or_default()
        };
        Raw {
            content_type: text(header::CONTENT_TYPE).to_owned(),
            gzip: text(header::CONTENT_ENCODING) == "gzip",
            ..Raw::default()
        }
    }

    /// An object that was read already.
    pub(super) fn json(json: Vec<u8>, kind: Option<BodyKind>) -> Self {
        Raw {
            content_type: "application/json".to_owned(),
            len: json.len(),
            slices: vec![json.into()],
            kind,
            ..Raw::default()
        }
    }

    fn value(&self) -> Option<Value> {
        if self.slices.is_empty() {
            return None;
        }
        let mut bytes = self.slices.concat();
        if self.gzip {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice())
                .read_to_end(&mut out)
                .ok()?;
            bytes = out;
        }
        let media_type = self.content_type.split(';').next().unwrap_or_default();
        match media_type.trim() {
            "application/vnd.kubernetes.protobuf" => k8s_model::protobuf::decode(&bytes).ok(),
            "application/yaml"
            | "text/yaml"
            | "application/x-yaml"
            | "application/apply-patch+yaml" => {
                serde_saphyr::from_str(std::str::from_utf8(&bytes).ok()?).ok()
            }
            _ => serde_json::from_slice(&bytes).ok(),
        }
    }
}

/// An event whose bodies have not been looked into yet.
pub(super) struct Record {
    pub(super) event: Event,
    pub(super) request: Raw,
    pub(super) response: Option<Raw>,
    pub(super) omit_managed_fields: bool,
}

impl Record {
    /// Looks into the bodies.
    pub(super) fn into_event(self) -> Event {
        let mut event = self.event;
        let mut request = self.request.value();
        if let (Some(object), Some(kind)) = (&mut request, &self.request.kind) {
            kind.fill(object);
        }
        if let (Some(object), Some(reference)) = (&request, &mut event.object_ref) {
            complete(reference, &object["metadata"]);
        }
        if event.level >= Level::Request {
            event.request_object = request;
        }
        if let Some(response) = self.response.as_ref().and_then(Raw::value) {
            if response["kind"] == "Status"
                && let Some(status) = &mut event.response_status
            {
                for field in ["status", "message", "reason", "details"] {
                    if let Some(value) = response.get(field) {
                        status[field] = value.clone();
                    }
                }
            }
            if event.level >= Level::RequestResponse {
                event.response_object = Some(response);
            }
        }
        if self.omit_managed_fields {
            let objects = [&mut event.request_object, &mut event.response_object];
            objects
                .into_iter()
                .flatten()
                .for_each(without_managed_fields);
        }
        event
    }
}

/// What the object itself says, where the path does not.
fn complete(reference: &mut ObjectReference, metadata: &Value) {
    let ObjectReference {
        namespace,
        name,
        uid,
        resource_version,
        ..
    } = reference;
    for (place, key) in [
        (namespace, "namespace"),
        (name, "name"),
        (uid, "uid"),
        (resource_version, "resourceVersion"),
    ] {
        if place.is_empty() {
            metadata[key].as_str().unwrap_or_default().clone_into(place);
        }
    }
}

fn without_managed_fields(object: &mut Value) {
    fn strip(object: &mut Value) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    strip(object);
    for (list, inner) in [("items", None), ("rows", Some("object"))] {
        for item in object
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            match inner {
                None => strip(item),
                Some(inner) => item.get_mut(inner).into_iter().for_each(strip),
            }
        }
    }
}

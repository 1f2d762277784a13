//! Conversion of custom resources by webhooks, on the way to and from the store.
//!
//! Reading and writing bytes waits for nobody. So what is stored in another version than a row serves is converted
//! before it is decoded ([`Row::settle`]), and what a row writes in another version than the stored one after it was
//! checked ([`Row::to_store`]).
//!
//! As upstream's `apiextensions-apiserver/pkg/apiserver/conversion`.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use k8s_model::{
    Object, Resource,
    custom::{Conversion, CustomObject, Version},
    decode,
    field::{self, Path},
    metadata,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Row,
    row::no_version,
    value::{self, Stored},
};
use crate::{
    Error, Result,
    cache::Entry,
    webhook::{CallError, Client, ClientConfig, Clients},
};

/// How long a webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many objects a webhook is asked about at a time.
const AT_ONCE: usize = 250;
/// How long its answer may be, in bytes.
const LIMIT: usize = 128 << 20;

/// The webhook that converts the objects of a resource.
#[derive(Debug)]
pub(super) struct Converter {
    client: Result<Arc<Client>, CallError>,
    /// The version of reviews that it is sent, if it takes one that is known here.
    review: Option<&'static str>,
}

#[derive(Deserialize)]
struct Review {
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    result: Outcome,
    converted_objects: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct Outcome {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
}

impl Converter {
    /// The webhook of a custom resource, if it has one.
    pub(super) fn new(custom: &Version, clients: &Clients) -> Option<Self> {
        let Conversion::Webhook(webhook) = custom.conversion() else {
            return None;
        };
        let config = webhook.client_config.as_ref();
        let config = serde_json::to_value(config).unwrap_or_default();
        let config: Option<ClientConfig> = serde_json::from_value(config).unwrap_or_default();
        let versions = &webhook.conversion_review_versions;
        Some(Converter {
            client: clients.get(&config.unwrap_or_default()),
            review: versions.iter().find_map(|version| match version.as_str() {
                "v1" => Some("v1"),
                "v1beta1" => Some("v1beta1"),
                _ => None,
            }),
        })
    }

    /// The objects in another version; all are of one kind.
    async fn convert(&self, objects: Vec<Value>, to: &str) -> Result<Vec<Value>> {
        let mut out = Vec::with_capacity(objects.len());
        for objects in objects.chunks(AT_ONCE) {
            let what = objects.first().map(gvk).unwrap_or_default();
            let failed = |reason: String| {
                Error::unknown(format!("conversion webhook for {what} failed: {reason}"))
            };
            let converted = self.ask(objects, to).await.map_err(failed)?;
            if converted.len() != objects.len() {
                return Err(Error::unknown(format!(
                    "conversion webhook for {what} returned {} objects, expected {}",
                    converted.len(),
                    objects.len()
                )));
            }
            for (original, converted) in objects.iter().zip(converted) {
                // As upstream, which has not yet seen then whose it is.
                check_object(&converted).map_err(Error::unknown)?;
                out.push(accept(original, converted, to).map_err(|reason| {
                    Error::unknown(format!(
                        "conversion webhook for {what} returned invalid {reason}"
                    ))
                })?);
            }
        }
        Ok(out)
    }

    async fn ask(&self, objects: &[Value], to: &str) -> Result<Vec<Value>, String> {
        let version = self
            .review
            .ok_or("no supported conversion review versions")?;
        let client = self.client.as_ref().map_err(ToString::to_string)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects},
        });
        let answer = client
            .post(Bytes::from(review.to_string()), TIMEOUT, LIMIT)
            .await
            .map_err(|e| e.to_string())?;
        answered(version, &uid, &answer)
    }
}

/// The objects in a webhook's answer to the review with that UID.
fn answered(version: &str, uid: &str, answer: &[u8]) -> Result<Vec<Value>, String> {
    let bad = |fault| format!("couldn't get version/kind; json parse error: {fault}");
    let review = match serde_json::from_slice(answer) {
        Ok(Value::Null) => json!({}),
        Ok(review) => review,
        Err(error) => {
            let fault = decode::syntax_error(answer);
            return Err(bad(fault.unwrap_or_else(|| error.to_string())));
        }
    };
    if let Some(fault) = decode::type_meta_fault(&review) {
        return Err(bad(fault));
    }
    check_kind(
        version,
        text(&review, "/apiVersion"),
        text(&review, "/kind"),
    )?;
    let review: Review = serde_json::from_value(review).map_err(|e| e.to_string())?;
    let response = review.response.ok_or("no response provided")?;
    if version == "v1" && response.uid != uid {
        return Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            response.uid
        ));
    }
    let Outcome { status, message } = response.result;
    if status != "Success" {
        return Err(match message.is_empty() {
            false => message,
            true => format!("response.result.status was '{status}', not 'Success'"),
        });
    }
    Ok(response.converted_objects.unwrap_or_default())
}

/// Refuses what is no review of that version. In `v1beta1`, what is not said is not asked for.
fn check_kind(version: &str, api_version: &str, kind: &str) -> Result<(), String> {
    const KIND: &str = "ConversionReview";
    let expected = format!("apiextensions.k8s.io/{version}");
    if (api_version, kind) == (expected.as_str(), KIND) {
        return Ok(());
    }
    if api_version.is_empty() || kind.is_empty() {
        let slash = if api_version.contains('/') { "" } else { "/" };
        return match version {
            "v1" => Err(format!(
                "expected webhook response of {expected}, Kind={KIND}, got {slash}{api_version}, Kind={kind}"
            )),
            _ => Ok(()),
        };
    }
    let other = match (api_version, kind) {
        ("apiextensions.k8s.io/v1", KIND) => "v1.ConversionReview",
        ("apiextensions.k8s.io/v1beta1", KIND) => "v1beta1.ConversionReview",
        ("v1", "Status") => "v1.Status",
        _ => {
            return Err(format!(
                "no kind {kind:?} is registered for version {api_version:?} in scheme \"k8s.io/apiserver/pkg/util/webhook/client.go:74\""
            ));
        }
    };
    Err(format!(
        "converting ({other}) to ({version}.{KIND}): unknown conversion"
    ))
}

/// Refuses what is no object at all.
fn check_object(found: &Value) -> Result<(), String> {
    let of = match found {
        Value::Null => return Err("unexpected end of JSON input".to_owned()),
        Value::Object(_) if text(found, "/kind").is_empty() => {
            return Err(format!("Object 'Kind' is missing in '{found}'"));
        }
        Value::Object(_) => return Ok(()),
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    Err(format!(
        "json: cannot unmarshal {of} into Go value of type map[string]interface {{}}"
    ))
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn gvk(object: &Value) -> String {
    format!(
        "{}, Kind={}",
        text(object, "/apiVersion"),
        text(object, "/kind")
    )
}

/// Reads any bytes as an answer about an object.
#[cfg(feature = "__fuzz")]
pub(crate) fn fuzz(answer: &[u8]) {
    let original = json!({"apiVersion": "a.b/v1", "kind": "A", "metadata": {"name": "x", "uid": "u",
        "labels": {"a": "b"}, "annotations": {"c": "d"}}});
    for version in ["v1", "v1beta1"] {
        for converted in answered(version, "u", answer).unwrap_or_default() {
            if let Ok(accepted) = accept(&original, converted, "a.b/v2") {
                assert_eq!(accepted["metadata"]["uid"], "u");
                assert_eq!(accepted["apiVersion"], "a.b/v2");
            }
        }
    }
}

/// What a webhook has made of an object, if that is still the same object: its metadata is the original's but for
/// labels and annotations. The error goes on from `returned invalid `.
fn accept(original: &Value, mut converted: Value, to: &str) -> Result<Value, String> {
    let expected = |what: &str, expected: &str, received: &str| {
        // Upstream asks for one at a time.
        format!("object at index 0: invalid {what} (expected {expected}, received {received})")
    };
    if text(&converted, "/apiVersion") != to {
        let received = text(&converted, "/apiVersion");
        return Err(expected("groupVersion", to, received));
    }
    let (kind, received) = (text(original, "/kind"), text(&converted, "/kind"));
    if kind != received {
        return Err(expected("kind", kind, received));
    }
    for (what, pointer) in [
        ("name", "/metadata/name"),
        ("namespace", "/metadata/namespace"),
        ("UID", "/metadata/uid"),
    ] {
        let (before, after) = (text(original, pointer), text(&converted, pointer));
        if before != after {
            return Err(format!(
                "object: must have the same {what}: {before} != {after}"
            ));
        }
    }
    let found = converted.get("metadata");
    let found = found.ok_or("metadata: missing metadata in converted object")?;
    let metadata = restore(&original["metadata"], found).map_err(|e| format!("metadata: {e}"))?;
    converted["metadata"] = metadata;
    Ok(converted)
}

fn restore(original: &Value, converted: &Value) -> Result<Value, String> {
    let converted = match converted {
        Value::Object(converted) => converted,
        other => {
            let of = decode::go_type_of(other);
            return Err(format!("invalid metadata of type {of} in converted object"));
        }
    };
    let mut out: Map<String, Value> = original.as_object().cloned().unwrap_or_default();
    for name in ["labels", "annotations"] {
        match converted.get(name) {
            None | Some(Value::Null) => {
                out.remove(name);
            }
            Some(Value::Object(given)) => {
                let mut map = std::collections::BTreeMap::new();
                for (key, value) in given {
                    let Value::String(value) = value else {
                        return Err(format!(
                            "metadata.{name}[{key}] must be a string, but is {} in converted object",
                            decode::go_type_of(value)
                        ));
                    };
                    map.insert(key.clone(), value.clone());
                }
                if out.get(name).and_then(Value::as_object) != Some(given) {
                    let path = Path::new("metadata");
                    let findings = match name {
                        "labels" => metadata::validate_labels(&map, &path.child(name)),
                        // So does upstream spell it.
                        _ => metadata::validate_annotations(&map, &path.child("annotation")),
                    };
                    if !findings.is_empty() {
                        return Err(field::aggregate(&findings));
                    }
                }
                out.insert(name.to_owned(), Value::Object(given.clone()));
            }
            Some(other) => {
                let of = decode::go_type_of(other);
                return Err(format!(
                    "invalid metadata.{name} of type {of} in converted object"
                ));
            }
        }
    }
    Ok(Value::Object(out))
}

impl Row {
    /// Whether a webhook converts the objects between their versions.
    pub(crate) fn asks_webhook(&self) -> bool {
        self.converter.is_some()
    }

    /// Whether what this row writes is stored in another version, which a webhook makes of it.
    pub(crate) fn writes_converted(&self) -> bool {
        self.asks_webhook() && !self.is_storage_version()
    }

    /// Value trees in another version, by way of the webhook if there is one.
    pub(super) async fn convert_values(&self, objects: Vec<Value>, to: &str) -> Result<Vec<Value>> {
        match &self.converter {
            Some(converter) => converter.convert(objects, to).await,
            None => (objects.iter())
                .map(|object| self.in_version(object, to).map_err(Error::internal))
                .collect(),
        }
    }

    /// A value tree of one version of the resource in another.
    pub(crate) async fn convert_value(
        &self,
        value: Value,
        from: &Resource,
        to: &Resource,
    ) -> Result<Value> {
        match &self.converter {
            Some(converter) => {
                let to = to.api_version();
                let converted = Box::pin(converter.convert(vec![value], &to)).await?;
                Ok(converted.into_iter().next().unwrap_or_default())
            }
            None => match self.custom().map(Version::conversion) {
                Some(Conversion::Functions(functions)) => {
                    let converted = functions.convert(&value, &to.api_version());
                    converted.map_err(Error::unknown)
                }
                _ => Ok(k8s_model::convert::convert(value, from, to)),
            },
        }
    }

    /// A stored object in a version that can be decoded here: as it is, unless a webhook must convert it.
    pub(crate) async fn settle(&self, stored: Stored) -> Result<Stored> {
        if !self.asks_webhook() {
            return Ok(stored);
        }
        // In a box, here and below: whoever may ask a webhook is not to carry around the memory that this takes.
        let settled = Box::pin(self.settle_all(std::slice::from_ref(&stored)));
        match settled.await?.pop() {
            Some(Some(settled)) => Ok(settled),
            _ => Ok(stored),
        }
    }

    /// The same for the entries of a list.
    pub(crate) async fn settle_entries(&self, entries: &mut [Arc<Entry>]) -> Result<()> {
        if !self.asks_webhook() {
            return Ok(());
        }
        let stored: Vec<Stored> = entries.iter().map(|entry| entry.stored.clone()).collect();
        let settled = Box::pin(self.settle_all(&stored)).await?;
        for (entry, settled) in entries.iter_mut().zip(settled) {
            if let Some(settled) = settled {
                *entry = Arc::new(entry.with(settled));
            }
        }
        Ok(())
    }

    /// What becomes of each; nothing for those that stay as they are.
    async fn settle_all(&self, stored: &[Stored]) -> Result<Vec<Option<Stored>>> {
        let mut out: Vec<Option<Stored>> = vec![None; stored.len()];
        let (Some(converter), Some(custom)) = (&self.converter, self.custom()) else {
            return Ok(out);
        };
        let (mut places, mut objects) = (Vec::new(), Vec::new());
        for (at, stored) in stored.iter().enumerate() {
            if stored.api_version() == self.api_version.as_bytes() {
                continue;
            }
            let mut object = as_stored(custom, stored)?;
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
            places.push(at);
            objects.push(object);
        }
        if objects.is_empty() {
            return Ok(out);
        }
        let converted = converter.convert(objects, &self.api_version).await?;
        for (at, object) in places.into_iter().zip(converted) {
            let mut object = as_converted(custom, &object)?;
            // It has what it will have: the defaults were those of the version that it was stored in.
            let mark = custom.fingerprint();
            let value = value::encode_marked(&mut object, stored[at].managed(), mark)?;
            out[at] = Some(Stored::parse(&value)?);
        }
        Ok(out)
    }

    /// The bytes of an object for the store, with these managed fields. Leaves its resource version as it was.
    pub(crate) async fn to_store(
        &self,
        object: &mut Box<dyn Object>,
        managed: &[u8],
    ) -> Result<Bytes> {
        let (Some(converter), Some(custom)) = (&self.converter, self.custom()) else {
            return self.encode(object, managed);
        };
        if self.is_storage_version() {
            return self.encode(object, managed);
        }
        let mut value = object.to_value();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let to = custom.storage_api_version();
        let converted = Box::pin(converter.convert(vec![value], to)).await?;
        let converted = converted.into_iter().next().unwrap_or_default();
        let mut stored = as_converted(custom, &converted)?;
        let mark = custom.mark_of_converted();
        Ok(value::encode_marked(&mut stored, managed, mark)?)
    }
}

/// The value tree of a stored object as the schema of its version is now: what a webhook is asked about.
fn as_stored(custom: &Version, stored: &Stored) -> Result<Value> {
    let json = stored.bare();
    let object: Value = serde_json::from_slice(&json)
        .map_err(|e| Error::internal(format_args!("a stored object is no JSON: {e}")))?;
    let from = text(&object, "/apiVersion");
    if !custom.has_version(from) {
        return Err(no_version(from));
    }
    if custom.is_settled(from, stored.mark()) {
        return Ok(object);
    }
    let mut object = custom.decode_stored(&json).map_err(|e| {
        Error::internal(format_args!(
            "a stored {} cannot be decoded: {e}",
            custom.kind()
        ))
    })?;
    custom.settle(&mut object);
    Ok(object.to_value())
}

/// What a webhook has made, without what the schema of its version does not know.
fn as_converted(custom: &Version, converted: &Value) -> Result<CustomObject> {
    let json = converted.to_string();
    let mut object = custom
        .decode_stored(json.as_bytes())
        .map_err(|e| Error::internal(format_args!("a converted object cannot be decoded: {e}")))?;
    custom.prune(&mut object);
    Ok(object)
}

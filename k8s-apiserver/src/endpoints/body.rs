//! Bodies: read up to a limit, from JSON, YAML or protobuf, into objects or value trees.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use k8s_model::{
    Object,
    decode::{self, DecodeError, duplicate_fields},
};
use serde_json::Value;

use super::{Call, yaml};
use crate::{
    Error, Result,
    admission::Warnings,
    audit,
    http::{Body, media_type, negotiate::MEDIA_TYPES, options::FieldValidation},
    registry::Row,
};

/// The largest body that is taken; upstream's `MaxRequestBodyBytes`.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

/// Reads a body.
pub(crate) async fn read(call: &Call, body: Body) -> Result<Bytes> {
    let length = call
        .parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > LIMIT) {
        return Err(Error::too_large(LIMIT));
    }
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::too_large(LIMIT)),
        Err(error) => Err(Error::bad_request(format!(
            "the request's body cannot be read: {error}"
        ))),
    }
}

/// The media type of a patch, whatever its parameters are.
pub(crate) fn patch_type(call: &Call) -> &str {
    let value = call
        .parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The media type of the body, which is JSON unless told otherwise; nothing if it cannot be read.
fn content_type(call: &Call) -> Option<Cow<'static, str>> {
    let value = call.parts.headers.get(header::CONTENT_TYPE);
    match value.map(HeaderValue::as_bytes) {
        None | Some(b"" | b"application/json") => Some("application/json".into()),
        Some(value) => media_type::parse(value).map(Cow::Owned),
    }
}

/// JSON with whole characters, see [`decode::paired`].
pub(crate) fn whole(json: Bytes) -> Bytes {
    match decode::paired(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(whole) => whole.into(),
    }
}

/// The same object with another `apiVersion`.
fn said_to_be(json: &[u8], api_version: &str) -> Result<Vec<u8>> {
    let mut object: Value = serde_json::from_slice(json).map_err(Error::internal)?;
    object["apiVersion"] = api_version.into();
    serde_json::to_vec(&object).map_err(Error::internal)
}

/// The body as JSON, whatever it was sent as, and the keys that YAML has twice.
fn as_json(call: &Call, bytes: Bytes, kind: &str) -> Result<(Bytes, Vec<String>)> {
    let unread = |why: &str| Error::bad_request(decode::unrecognized(kind, why, &bytes));
    match content_type(call).as_deref() {
        Some("application/json") => Ok((whole(bytes), Vec::new())),
        Some("application/yaml") => {
            let document = yaml::read(&bytes).map_err(|why| unread(&why))?;
            let json = serde_json::to_vec(&document.value).map_err(Error::internal)?;
            Ok((json.into(), document.repeated))
        }
        Some("application/vnd.kubernetes.protobuf") => {
            let value =
                k8s_model::protobuf::decode(&bytes).map_err(|error| unread(&error.to_string()))?;
            let json = serde_json::to_vec(&value).map_err(Error::internal)?;
            Ok((json.into(), Vec::new()))
        }
        _ => Err(Error::unsupported_media_type(&MEDIA_TYPES)),
    }
}

/// The body as a value tree; `None` where there is none.
pub(crate) async fn value(call: &Call, body: Body) -> Result<Option<Value>> {
    let bytes = read(call, body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let (json, _) = as_json(call, bytes, "")?;
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        let why = decode::syntax_error(&json).unwrap_or_else(|| error.to_string());
        Error::bad_request(format!(
            "couldn't get version/kind; json parse error: {why}"
        ))
    })
}

/// The body as an object of a row's kind, with its defaults.
pub(crate) async fn object(
    call: &Call,
    row: &Row,
    body: Body,
    validation: FieldValidation,
) -> Result<Box<dyn Object>> {
    let resource = &row.resource;
    let sent = read(call, body).await?;
    let (json, repeated) = as_json(call, sent.clone(), resource.kind)?;
    let mut unknown = Vec::new();
    let object = (resource.codec.from_json)(&json, &mut |field| unknown.push(field));
    let mut object = object.map_err(|error| match &error {
        DecodeError::Undefined { api_version, .. } if *api_version == row.api_version => {
            Error::undefined(&error, &json)
        }
        // What it quotes is as it was sent.
        _ => Error::decode(&error, &sent, &row.api_version, resource.kind),
    })?;
    if validation != FieldValidation::Ignore {
        let mut findings = yaml_findings(repeated, validation);
        findings.extend(
            unknown
                .iter()
                .map(|field| format!("unknown field {field:?}")),
        );
        findings.extend(
            duplicate_fields(&json)
                .iter()
                .map(|field| format!("duplicate field {field:?}")),
        );
        report(
            findings,
            resource.kind,
            resource.version,
            validation,
            &call.warnings,
        )?;
    }
    resource.strategy.default(&mut *object);
    audit::object_read(&*object);
    Ok(object)
}

/// The body as an object of a kind that only a subresource takes.
pub(crate) async fn subresource_object(
    call: &Call,
    row: &Row,
    subresource: &k8s_model::Subresource,
    body: Body,
    validation: FieldValidation,
) -> Result<Box<dyn Object>> {
    // Where they are not named, they are the parent's.
    let (group, version) = match subresource.version {
        "" => (row.resource.group, row.resource.version),
        version => (subresource.group, version),
    };
    let kind = subresource.kind;
    let served = call.server.registry.served.load();
    let codec = k8s_model::subresource_codec(group, version, kind)
        .or_else(|| {
            served
                .table
                .kind(group, version, kind)
                .map(|r| r.codec.clone())
        })
        .ok_or_else(Error::method_not_allowed)?;
    let (json, repeated) = as_json(call, read(call, body).await?, kind)?;
    let mut unknown = Vec::new();
    let api_version = k8s_model::api_version(group, version);
    let mut read = |json: &[u8]| (codec.from_json)(json, &mut |field| unknown.push(field));
    let object = match read(&json) {
        Err(DecodeError::WrongKind {
            api_version: sent,
            kind: found,
            ..
        }) if found == kind && k8s_model::taken_for(&sent, kind) == Some(api_version.as_str()) => {
            read(&said_to_be(&json, &api_version)?)
        }
        read => read,
    };
    let object = object.map_err(|e| Error::decode(&e, &json, &api_version, kind))?;
    if validation != FieldValidation::Ignore {
        let mut findings = yaml_findings(repeated, validation);
        let unknown = unknown.iter();
        findings.extend(unknown.map(|field| format!("unknown field {field:?}")));
        let duplicates = duplicate_fields(&json);
        let duplicates = duplicates.iter();
        findings.extend(duplicates.map(|field| format!("duplicate field {field:?}")));
        report(findings, kind, version, validation, &call.warnings)?;
    }
    audit::object_read(&*object);
    Ok(object)
}

/// The keys that YAML has twice, as findings: all are one where they are refused.
fn yaml_findings(repeated: Vec<String>, validation: FieldValidation) -> Vec<String> {
    if repeated.is_empty() || validation != FieldValidation::Strict {
        return repeated;
    }
    vec![format!(
        "yaml: unmarshal errors:\n  {}",
        repeated.join("\n  ")
    )]
}

/// Refuses or warns of what does not belong into an object.
pub(crate) fn report(
    findings: Vec<String>,
    kind: &str,
    version: &str,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    match validation {
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            warnings.extend(findings);
            Ok(())
        }
        FieldValidation::Strict => Err(Error::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
            findings.join(", ")
        ))),
    }
}

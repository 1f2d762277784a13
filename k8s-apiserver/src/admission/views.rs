//! [`Views`]: a request's objects as value trees, in the versions in which somebody wants to see them.

use k8s_model::{Object, Resource};
use serde_json::{Value, json};

use super::{AdmissionError, AdmissionRequest, Operation, matching::namespace_of};
use crate::{Error, http::connection};

/// A request's objects as value trees, with managed fields, in one version.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub(super) object: Value,
    pub(super) old: Value,
}

/// The group, version and kind of the objects of a request about that version of its resource.
pub(super) fn kind<'r>(
    request: &AdmissionRequest<'_>,
    resource: &'r Resource,
) -> (&'r str, &'r str, &'r str) {
    match resource.subresource(request.subresource) {
        Some(sub) if !sub.version.is_empty() => (sub.group, sub.version, sub.kind),
        Some(sub) if request.operation == Operation::Connect => ("", "v1", sub.kind),
        _ => (resource.group, resource.version, resource.kind),
    }
}

/// Whether the objects of the request are of a kind that its subresource has for itself.
fn has_own_kind(request: &AdmissionRequest<'_>) -> bool {
    let resource = request.resource;
    kind(request, resource) != (resource.group, resource.version, resource.kind)
}

impl Views {
    /// In that version of the resource.
    pub(super) async fn of(
        request: &AdmissionRequest<'_>,
        resource: &Resource,
    ) -> Result<Self, AdmissionError> {
        let with_managed = |object: &dyn Object, managed: &[u8]| {
            let mut value = object.to_value();
            if !managed.is_empty()
                && let Ok(managed) = serde_json::from_slice::<Value>(managed)
            {
                value["metadata"]["managedFields"] = managed;
            }
            value
        };
        let object = match &request.object {
            Some(object) => with_managed(&**object, &request.more.managed),
            None => request.more.connection().cloned().unwrap_or_default(),
        };
        let old = request
            .old
            .map(|old| with_managed(old, request.more.old_managed))
            .unwrap_or_default();
        Ok(Views {
            object: convert(request, object, request.resource, resource).await?,
            old: convert(request, old, request.resource, resource).await?,
        })
    }
}

/// An object of the request in another version of its resource.
async fn convert(
    request: &AdmissionRequest<'_>,
    value: Value,
    from: &Resource,
    to: &Resource,
) -> Result<Value, AdmissionError> {
    let same = (from.group, from.version) == (to.group, to.version);
    if same || value.is_null() || has_own_kind(request) {
        return Ok(value);
    }
    match request.more.row {
        Some(row) => row
            .convert_value(value, from, to)
            .await
            .map_err(|e| AdmissionError::Status(Box::new(e.into_status()))),
        None => Ok(value),
    }
}

/// What the request is to make, as far as plugins have to notice that others have changed it.
pub(super) fn current(request: &AdmissionRequest<'_>) -> Option<Value> {
    match &request.object {
        Some(object) => Some(object.to_value()),
        None => request.more.connection().cloned(),
    }
}

fn internal(error: &dyn std::fmt::Display) -> AdmissionError {
    AdmissionError::Status(Box::new(Error::internal(error).into_status()))
}

/// The options of a connection.
fn options(
    request: &AdmissionRequest<'_>,
    resource: &Resource,
    value: Value,
) -> Result<Value, AdmissionError> {
    let (.., kind) = kind(request, resource);
    connection::checked(kind, value).map_err(|e| internal(&e))
}

/// The object of that version, with its defaults.
fn typed(
    request: &AdmissionRequest<'_>,
    resource: &Resource,
    value: Value,
) -> Result<Box<dyn Object>, AdmissionError> {
    let (group, version, kind) = kind(request, resource);
    let codec = match has_own_kind(request) {
        true => k8s_model::subresource_codec(group, version, kind),
        false => Some(resource.codec.clone()),
    };
    let codec = codec.ok_or_else(|| internal(&format_args!("{kind} cannot be changed")))?;
    let mut object = (codec.from_value)(value, &mut |_| {}).map_err(|e| internal(&e))?;
    if !has_own_kind(request) {
        resource.strategy.default(&mut *object);
    }
    Ok(object)
}

/// What somebody has made of the object in that version, as the next one is to see it: with defaults, and without what a
/// schema does not know.
pub(super) fn settled(
    request: &AdmissionRequest<'_>,
    resource: &Resource,
    mut value: Value,
) -> Result<Value, AdmissionError> {
    if request.operation == Operation::Connect {
        return options(request, resource, value);
    }
    let meta = value.get_mut("metadata").and_then(Value::as_object_mut);
    let managed = meta.and_then(|meta| meta.remove("managedFields"));
    let mut value = typed(request, resource, value)?.to_value();
    if let Some(managed) = managed {
        value["metadata"]["managedFields"] = managed;
    }
    Ok(value)
}

/// Makes the object of the request what somebody has made of it in that version: defaults are filled in, what a
/// schema does not know is dropped. Says whether anything has changed.
pub(super) async fn replace(
    request: &mut AdmissionRequest<'_>,
    resource: &Resource,
    before: &Value,
    mut after: Value,
) -> Result<bool, AdmissionError> {
    if request.operation == Operation::Connect {
        let after = options(request, resource, after)?;
        let changed = request.more.connection() != Some(&after);
        request.more.connection = Some(after);
        return Ok(changed);
    }
    take_managed(request, before, &mut after);
    let after = convert(request, after, resource, request.resource).await?;
    let mut object = typed(request, request.resource, after)?;
    object.metadata_mut().managed_fields = None;
    let changed = request
        .object
        .as_deref()
        .is_none_or(|before| before.to_value() != object.to_value());
    request.object = Some(object);
    Ok(changed)
}

/// Takes the managed fields out of an object. What somebody has made of them counts if it makes sense.
fn take_managed(request: &mut AdmissionRequest<'_>, before: &Value, after: &mut Value) {
    let Some(meta) = after.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let managed = meta.remove("managedFields").unwrap_or_default();
    if managed == before["metadata"]["managedFields"] {
        return;
    }
    type Entries = Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry>;
    match serde_json::from_value::<Option<Entries>>(managed.clone()) {
        Ok(_) => {
            let list = managed.as_array().is_some_and(|list| !list.is_empty());
            request.more.managed = match list {
                true => managed.to_string().into_bytes().into(),
                false => Vec::new().into(),
            };
        }
        Err(error) => request.warnings.add(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {error}"
        )),
    }
}

/// What is said of a request itself, in reviews and to expressions, for that version of its resource.
pub(super) fn describe(request: &AdmissionRequest<'_>, resource: &Resource) -> Value {
    let gvk = |resource: &Resource| {
        let (group, version, kind) = kind(request, resource);
        json!({"group": group, "version": version, "kind": kind})
    };
    let gvr = |resource: &Resource| json!({"group": resource.group, "version": resource.version, "resource": resource.resource});
    let mut out = json!({
        "kind": gvk(resource),
        "resource": gvr(resource),
        "requestKind": gvk(request.resource),
        "requestResource": gvr(request.resource),
        "operation": request.operation.as_str(),
        "dryRun": request.dry_run,
        "options": request.more.options.to_value(request.operation, request.dry_run),
    });
    let mut user = json!({});
    let texts = [("username", &request.user.name), ("uid", &request.user.uid)];
    for (name, value) in texts {
        if !value.is_empty() {
            user[name] = value.as_str().into();
        }
    }
    if !request.user.groups.is_empty() {
        user["groups"] = json!(request.user.groups);
    }
    if !request.user.extra.is_empty() {
        user["extra"] = json!(request.user.extra);
    }
    out["userInfo"] = user;
    let texts = [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.name),
        ("namespace", namespace_of(request)),
    ];
    for (name, value) in texts {
        if !value.is_empty() {
            out[name] = value.into();
        }
    }
    out
}

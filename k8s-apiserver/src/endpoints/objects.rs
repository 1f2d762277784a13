//! The eight verbs of a resource.

use std::sync::Arc;

use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use k8s_model::Object;
use k8s_store::Revision;
use parking_lot::Mutex;

use super::{Call, body, events, lists, render, warn};
use crate::{
    Error, Result,
    http::{
        Body,
        negotiate::Format,
        options::{
            DeleteOptions, FieldValidation, ListOptions, WriteOptions, parse_resource_version,
        },
        response,
    },
    registry::{
        Row, Target,
        delete::{Deleted, returns_object},
        not_found,
        patch::{PATCH_TYPES, Patch, PatchType},
        update::Rules,
        value::Stored,
    },
};

/// How many watch events are sent together, at most.
const EVENTS_AT_ONCE: usize = 64;

/// The target of a call.
pub(crate) fn target<'a>(call: &'a Call, row: &'a Row, dry_run: bool) -> Target<'a> {
    Target {
        row,
        user: &call.user,
        namespace: if row.is_namespaced() {
            &call.info.namespace
        } else {
            ""
        },
        name: &call.info.name,
        subresource: &call.info.subresource,
        dry_run,
        internal: false,
    }
}

/// Reads an object as it is stored, no older than the version that is asked for.
pub(crate) async fn read(call: &Call, row: &Row) -> Result<(Stored, u64)> {
    let query = call.parts.uri.query();
    let asked = crate::http::uri::query_value(query, "resourceVersion");
    let asked = parse_resource_version(asked.as_deref().unwrap_or_default())?;
    let target = target(call, row, false);
    if let Some(asked) = asked {
        let Revision(newest) = call.server.registry.store.revision().await?;
        if asked > newest {
            return Err(Error::too_large_resource_version(asked, newest));
        }
    }
    let entry = call
        .server
        .registry
        .read(&target)
        .await?
        .ok_or_else(|| not_found(&target))?;
    Ok((Stored::parse(&entry.value)?, entry.modified.0))
}

pub(crate) async fn get(call: &Call, row: &Row) -> Result<Response<Body>> {
    let (stored, revision) = read(call, row).await?;
    render::stored(call, row, StatusCode::OK, &stored, revision)
}

pub(crate) async fn list(call: &Call, row: &Arc<Row>) -> Result<Response<Body>> {
    let options = ListOptions::parse(call.parts.uri.query(), false)?;
    let namespace = target(call, row, false).namespace;
    let listed = call.server.registry.list(row, namespace, &options).await?;
    lists::list(call, row, listed).await
}

pub(crate) async fn watch(call: &Call, row: &Arc<Row>) -> Result<Response<Body>> {
    let mut options = ListOptions::parse(call.parts.uri.query(), true)?;
    call.wanted.check_stream(row.protobuf().is_some())?;
    // The old spelling names the object in the path.
    if !call.info.name.is_empty() && options.field_selector.is_empty() {
        options.field_selector = format!("metadata.name={}", call.info.name);
    }
    let namespace = target(call, row, false).namespace;
    let told = call.server.registry.watch(row, namespace, &options).await?;
    let mut renderer = events::Events::new(call, row);
    // What is there already goes out together.
    let stream = told
        .ready_chunks(EVENTS_AT_ONCE)
        .map(move |told| Ok(renderer.write(&told)));
    // Nothing is sent after the server begins to shut down.
    let stop = call.server.stop.clone();
    let stream = stream.take_until(async move { stop.cancelled().await });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(match call.wanted.format {
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => "application/json",
        }),
    );
    Ok(response)
}

pub(crate) async fn create(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let options = WriteOptions::parse(call.parts.uri.query(), "CreateOptions")?;
    let mut warnings = Vec::new();
    let object = body::object(call, row, body, options.field_validation, &mut warnings).await?;
    let target = target(call, row, options.dry_run);
    if row.is("", "bindings") {
        return super::subresources::bind(call, row, object, options.dry_run).await;
    }
    if let Some(create_only) = call.server.create_only(row, "") {
        let mut object = object;
        if row.is_namespaced() {
            crate::registry::create::match_namespace(&target, &mut *object)?;
        }
        let made = create_only
            .create(&call.user, target.namespace, target.name, object)
            .await?;
        let mut response = render::object(call, row, StatusCode::CREATED, &*made)?;
        warn(&mut response, &warnings);
        return Ok(response);
    }
    if !row.resource.is_stored() {
        return Err(Error::method_not_allowed());
    }
    let outcome = call
        .server
        .registry
        .create(&target, object, &mut warnings)
        .await?;
    let mut response = render::outcome(call, row, StatusCode::CREATED, &outcome)?;
    warn(&mut response, &warnings);
    Ok(response)
}

pub(crate) async fn update(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let options = WriteOptions::parse(call.parts.uri.query(), "UpdateOptions")?;
    let mut decoded = Vec::new();
    let object = body::object(call, row, body, options.field_validation, &mut decoded).await?;
    let rules = if call.info.subresource.is_empty() {
        Rules::Object
    } else {
        Rules::Status
    };
    let target = target(call, row, options.dry_run);
    check_name(&target, &*object)?;
    let mut warnings = Vec::new();
    let changed = call
        .server
        .registry
        .update(&target, rules, &mut warnings, |_| Ok(object.boxed_clone()))
        .await;
    let creates = rules == Rules::Object && row.resource.strategy.allow_create_on_update();
    let outcome = match changed {
        Err(error) if error.code() == 404 && creates => {
            let mut object = object;
            object.metadata_mut().resource_version = None;
            call.server
                .registry
                .create(&target, object, &mut warnings)
                .await?
        }
        other => other?,
    };
    let code = if outcome.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = render::outcome(call, row, code, &outcome)?;
    decoded.append(&mut warnings);
    warn(&mut response, &decoded);
    Ok(response)
}

/// An update needs a name in the object too.
fn check_name(target: &Target<'_>, object: &dyn Object) -> Result<()> {
    let found = object.metadata().name.as_deref().unwrap_or_default();
    if found == target.name {
        return Ok(());
    }
    Err(Error::bad_request(if found.is_empty() {
        "the name of the object (based on URL) was undeterminable: name must be provided".to_owned()
    } else {
        format!(
            "the name of the object ({found}) does not match the name on the URL ({})",
            target.name
        )
    }))
}

pub(crate) async fn patch(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let options = WriteOptions::parse(call.parts.uri.query(), "PatchOptions")?;
    let kind = PatchType::from_content_type(body::content_type(call))
        .ok_or_else(|| Error::unsupported_media_type(&PATCH_TYPES))?;
    let patch = Patch::new(kind, body::read(call, body).await?)?;
    let rules = if call.info.subresource.is_empty() {
        Rules::Object
    } else {
        Rules::Status
    };
    let target = target(call, row, options.dry_run);
    let unknown = Mutex::new(Vec::new());
    let mut warnings = Vec::new();
    let outcome = call
        .server
        .registry
        .update(&target, rules, &mut warnings, |old| {
            let mut found = Vec::new();
            let new = patch.apply(row, old, &mut |field| {
                found.push(format!("unknown field {field:?}"))
            })?;
            let mut reported = Vec::new();
            body::report(
                &found,
                row.resource.kind,
                row.resource.version,
                options.field_validation,
                &mut reported,
            )?;
            *unknown.lock() = reported;
            Ok(new)
        })
        .await?;
    let mut response = render::outcome(call, row, StatusCode::OK, &outcome)?;
    let mut all = unknown.into_inner();
    if options.field_validation == FieldValidation::Ignore {
        all.clear();
    }
    all.append(&mut warnings);
    warn(&mut response, &all);
    Ok(response)
}

pub(crate) async fn delete(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let options = DeleteOptions::parse(call.parts.uri.query(), body::value(call, body).await?)?;
    let target = target(call, row, options.dry_run);
    match call.server.registry.delete(&target, &options).await? {
        Deleted::Gone(outcome) if returns_object(row) => {
            render::outcome(call, row, StatusCode::OK, &outcome)
        }
        Deleted::Gone(outcome) => {
            let meta = outcome.object.metadata();
            let status = k8s_openapi::apimachinery::pkg::apis::meta::v1::Status {
                status: Some("Success".into()),
                details: Some(
                    k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails {
                        name: meta.name.clone(),
                        group: Some(row.resource.group.to_owned()).filter(|g| !g.is_empty()),
                        // Upstream puts the plural name here.
                        kind: Some(row.resource.resource.to_owned()),
                        uid: meta.uid.clone(),
                        ..Default::default()
                    },
                ),
                ..Default::default()
            };
            response::value(StatusCode::OK, &call.wanted, &status)
        }
        Deleted::Pending(outcome) => {
            let accepted = options.orphan_dependents == Some(false);
            let code = if accepted {
                StatusCode::ACCEPTED
            } else {
                StatusCode::OK
            };
            render::outcome(call, row, code, &outcome)
        }
    }
}

pub(crate) async fn delete_collection(
    call: &Call,
    row: &Arc<Row>,
    body: Body,
) -> Result<Response<Body>> {
    let options = DeleteOptions::parse(call.parts.uri.query(), body::value(call, body).await?)?;
    let list = ListOptions::parse(call.parts.uri.query(), false)?;
    let target = target(call, row, options.dry_run);
    let listed = call
        .server
        .registry
        .delete_collection(&target, &list, &options)
        .await?;
    lists::list(call, row, listed).await
}

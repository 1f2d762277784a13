//! The eight verbs of a resource.

use std::sync::Arc;

use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use k8s_model::{
    Object,
    apply::{OneVersion, manager_of_user_agent},
    field, fields,
};
use k8s_store::Revision;

use super::{Call, body, events, lists, render};
use crate::{
    Error, Result,
    admission::{Operation, more::SentOptions},
    http::{
        Body,
        negotiate::Format,
        options::{DeleteOptions, ListOptions, WriteOptions, parse_resource_version},
        response,
    },
    registry::{
        Managed, Row, Target,
        create::match_namespace,
        delete::{Deleted, advice, check_deletable},
        not_found, owners,
        ownership::manager_of_user,
        patch::{Patch, PatchType},
        update::Rules,
        value::Stored,
    },
    serve::Endless,
};

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
        manager: None,
        internal: false,
        warnings: &call.warnings,
        options: SentOptions::None,
        gate: None,
    }
}

/// The target of a call that writes, in somebody's name.
pub(crate) fn written_by<'a>(
    call: &'a Call,
    row: &'a Row,
    options: &'a WriteOptions,
    manager: &'a str,
) -> Target<'a> {
    Target {
        manager: Some(manager),
        options: SentOptions::Write(options),
        ..target(call, row, options.dry_run)
    }
}

/// In whose name a call writes: that of its field manager or, without one, of its user agent.
pub(crate) fn manager(call: &Call, options: &WriteOptions) -> String {
    if !options.field_manager.is_empty() {
        return options.field_manager.clone();
    }
    match call.parts.headers.get(header::USER_AGENT) {
        Some(agent) => manager_of_user_agent(agent.to_str().unwrap_or_default()),
        // Clients in the process have no agent to tell of: it is by their user that they are known.
        None => manager_of_user(&call.user.name).to_owned(),
    }
}

/// Reads an object as it is stored, no older than the version that is asked for.
pub(crate) async fn read(call: &Call, row: &Row) -> Result<(Stored, u64)> {
    let query = call.parts.uri.query();
    let asked = crate::http::uri::query_value(query, "resourceVersion");
    let asked = parse_resource_version(asked.as_deref().unwrap_or_default())?;
    let target = target(call, row, false);
    let registry = &call.server.registry;
    // Whoever is content with whatever the server has at hand gets that.
    if asked == Some(0)
        && let Some(entry) = registry.recent(row, &registry.key(&target))
    {
        let stored = row.settle(entry.stored.clone()).await?;
        return Ok((stored, entry.revision));
    }
    if let Some(asked) = asked {
        let Revision(newest) = registry.store.revision().await?;
        if asked > newest {
            return Err(Error::too_large_resource_version(asked, newest));
        }
    }
    let entry = registry
        .read(&target)
        .await?
        .ok_or_else(|| not_found(&target))?;
    let stored = row.settle(Stored::of(&entry)?).await?;
    Ok((stored, entry.modified.0))
}

pub(crate) async fn get(call: &Call, row: &Row) -> Result<Response<Body>> {
    if crate::http::options::wants_export(call.parts.uri.query()) {
        let text = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Error::bad_request(text));
    }
    let (stored, revision) = read(call, row).await?;
    render::stored(call, row, StatusCode::OK, &stored, revision)
}

/// The options of a list or watch. What is authorized for one name selects that name alone: it stands in the selector, or in
/// the path, where the old spelling of a watch has it.
fn list_options(call: &Call, watch: bool) -> Result<ListOptions> {
    let mut options = ListOptions::parse(call.parts.uri.query(), watch)?;
    let name = call.info.name.as_str();
    if name.is_empty() {
        return Ok(options);
    }
    if options.field_selector.is_empty() {
        options.field_selector = fields::Selector::one("metadata.name", name).to_string();
        return Ok(options);
    }
    let selector: Option<fields::Selector> = options.field_selector.parse().ok();
    match selector
        .as_ref()
        .and_then(|s| s.required_value("metadata.name"))
    {
        Some(selected) if selected == name => Ok(options),
        _ => Err(Error::bad_request(
            "fieldSelector metadata.name doesn't match requested name",
        )),
    }
}

pub(crate) async fn list(call: &Call, row: &Arc<Row>) -> Result<Response<Body>> {
    let mut options = list_options(call, false)?;
    // Whoever is content with whatever the server has at hand gets all of it; upstream's `computeListLimit`.
    if options.resource_version == "0" && options.continue_token.is_empty() {
        options.limit = 0;
    }
    let namespace = target(call, row, false).namespace;
    let listed = call.server.registry.list(row, namespace, &options).await?;
    lists::list(call, row, listed).await
}

pub(crate) async fn watch(call: &Call, row: &Arc<Row>) -> Result<Response<Body>> {
    let options = list_options(call, true)?;
    call.wanted.check_stream(row.protobuf().is_some())?;
    let namespace = target(call, row, false).namespace;
    let writer = events::Events::new(call);
    let registry = &call.server.registry;
    let draining = &call.server.ending.draining;
    let events = registry
        .watch(row, namespace, &options, writer, draining)
        .await?;
    let mut response = Response::new(Body::from_stream(events.map(Ok)));
    response.extensions_mut().insert(Endless);
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
    let object = body::object(call, row, body, options.field_validation).await?;
    let manager = manager(call, &options);
    let target = written_by(call, row, &options, &manager);
    if call.info.lacks_namespace() {
        return Err(nowhere(call, row, &*object));
    }
    if row.is("", "bindings") {
        return Box::pin(super::subresources::bind(
            call,
            row,
            object,
            options.dry_run,
        ))
        .await;
    }
    if let Some(create_only) = call.server.create_only(row, "") {
        let mut object = object;
        match_namespace(&target, &mut *object)?;
        create_only.default(&mut *object);
        let registry = &call.server.registry;
        registry.own_unstored(&target, None, &mut *object);
        let object = Box::pin(admit(call, &target, object, |_| Ok(()))).await?;
        let made = create_only
            .create(&call.user, target.namespace, target.name, object)
            .await?;
        return render::object(call, row, StatusCode::CREATED, &*made);
    }
    if !row.resource.is_stored() {
        return Err(Error::method_not_allowed());
    }
    let outcome = call.server.registry.create(&target, object).await?;
    render::outcome(call, row, StatusCode::CREATED, &outcome)
}

/// What upstream says of a new object whose URL has a place for a namespace, and nothing there.
fn nowhere(call: &Call, row: &Row, object: &dyn Object) -> Error {
    if row.is("", "bindings") {
        return Error::namespace_required();
    }
    if call.server.create_only(row, "").is_some() {
        return Error::bad_request("namespace is required on this type: ");
    }
    let name = object.metadata().name.as_deref().unwrap_or_default();
    let path = field::Path::new("metadata").child("namespace");
    Error::invalid(&row.resource, name, &vec![field::required(path, "")])
}

/// Admission of what is asked and never stored.
pub(crate) async fn admit(
    call: &Call,
    target: &Target<'_>,
    object: Box<dyn Object>,
    check: impl FnOnce(&dyn Object) -> Result<()>,
) -> Result<Box<dyn Object>> {
    let registry = &call.server.registry;
    let (operation, managed) = (Operation::Create, Managed::default());
    let object = registry
        .admit(target, operation, Some(object), None, managed)
        .await?
        .object()?;
    check(&*object)?;
    registry
        .validate(target, operation, Some(object), None, managed)
        .await?
        .ok_or_else(|| Error::internal("an admission plugin dropped the object"))
}

pub(crate) async fn update(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let options = WriteOptions::parse(call.parts.uri.query(), "UpdateOptions")?;
    let mut object = body::object(call, row, body, options.field_validation).await?;
    let rules = if call.info.subresource.is_empty() {
        Rules::Object
    } else {
        Rules::Status
    };
    let manager = manager(call, &options);
    let target = written_by(call, row, &options, &manager);
    check_place(&target, &mut *object)?;
    owners::dedup(object.metadata_mut(), false, &call.warnings);
    let registry = &call.server.registry;
    let changed = registry
        .update(&target, rules, |_| Ok(object.boxed_clone()))
        .await;
    let creates = rules == Rules::Object && row.resource.strategy.allow_create_on_update();
    let outcome = match changed {
        Err(error) if error == not_found(&target) => {
            if let Some(uid) = object
                .metadata()
                .uid
                .as_deref()
                .filter(|uid| !uid.is_empty())
            {
                return Err(registry.other_uid(&target, uid, ""));
            }
            if !creates {
                return Err(error);
            }
            if !options.dry_run {
                object.metadata_mut().resource_version = None;
            }
            let target = Target {
                gate: Some(call),
                ..target
            };
            registry.create(&target, object).await?
        }
        other => other?,
    };
    let code = if outcome.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    render::outcome(call, row, code, &outcome)
}

/// An update is about what its URL names: first the namespace counts, then the name.
pub(crate) fn check_place(target: &Target<'_>, object: &mut dyn Object) -> Result<()> {
    match_namespace(target, object)?;
    // An update needs a name in the object too.
    let found = object.metadata().name.as_deref().unwrap_or_default();
    if found == target.name {
        return Ok(());
    }
    Err(Error::bad_request(if found.is_empty() {
        format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        )
    } else {
        format!(
            "the name of the object ({found}) does not match the name on the URL ({})",
            target.name
        )
    }))
}

/// Reads the patch that a call sends, and its options.
pub(crate) async fn read_patch(
    call: &Call,
    row: &Row,
    body: Body,
) -> Result<(Patch, WriteOptions)> {
    let kind = PatchType::of(body::patch_type(call), row).map_err(|error| {
        // Upstream's router has it that a patch of nothing has the wrong type of answers.
        let is_empty = body.len().unwrap_or_default() == 0;
        if is_empty && row.custom().is_none() {
            Error::not_produced(&[])
        } else {
            error
        }
    })?;
    let mut bytes = body::read(call, body).await?;
    if kind != PatchType::Apply {
        bytes = body::whole(bytes);
    }
    let options = WriteOptions::parse_patch(call.parts.uri.query(), kind == PatchType::Apply)?;
    let force = options.force.unwrap_or(false);
    let patch = Patch::new(kind, bytes, force, options.field_validation)?;
    Ok((patch, options))
}

pub(crate) async fn patch(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let (patch, options) = read_patch(call, row, body).await?;
    let rules = if call.info.subresource.is_empty() {
        Rules::Object
    } else {
        Rules::Status
    };
    let manager = manager(call, &options);
    let target = written_by(call, row, &options, &manager);
    let registry = &call.server.registry;
    let warnings = &call.warnings;
    let outcome = loop {
        let changed = registry
            .modify(&target, rules, |live| {
                let tracker = registry.tracker(&target, live.versions);
                let (tracker, validation) = (tracker.as_ref(), options.field_validation);
                let mut change = patch.change(row, live, tracker, validation, warnings)?;
                check_place(&target, &mut *change.object)?;
                Ok(change)
            })
            .await;
        let (Err(error), Patch::Apply(configuration), Rules::Object) = (&changed, &patch, rules)
        else {
            break changed?;
        };
        if error.code() != 404
            || error.reason() != "NotFound"
            || registry.read(&target).await?.is_some()
        {
            break changed?;
        }
        // What does not exist is created, by those who may.
        let target = Target {
            gate: Some(call),
            ..target
        };
        let Some(tracker) = registry.tracker(&target, &OneVersion) else {
            break changed?;
        };
        let (mut object, managed) = configuration.create(row, &tracker)?;
        if !options.dry_run {
            object.metadata_mut().resource_version = None;
        }
        configuration.report_duplicates(options.field_validation, warnings)?;
        if let Some(uid) = object.metadata().uid.as_deref().filter(|u| !u.is_empty()) {
            let text = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Error::conflict(&row.resource, target.name, &text));
        }
        check_place(&target, &mut *object)?;
        match registry.create_owned(&target, object, managed).await {
            // Somebody else was faster: it is applied to what they made.
            Err(error) if error.reason() == "AlreadyExists" => {}
            other => break other?,
        }
    };
    let code = if outcome.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    render::outcome(call, row, code, &outcome)
}

pub(crate) async fn delete(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let options = DeleteOptions::parse(call.parts.uri.query(), body::value(call, body).await?)?;
    call.warnings.extend(advice(row, &options));
    let target = Target {
        options: SentOptions::Delete(&options),
        ..target(call, row, options.dry_run)
    };
    check_deletable(row, target.name)?;
    match call.server.registry.delete(&target, &options).await? {
        Deleted::Gone(outcome) if row.resource.delete_gives_object() => {
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
    let target = Target {
        options: SentOptions::Delete(&options),
        ..target(call, row, options.dry_run)
    };
    let registry = &call.server.registry;
    let listed = if call.info.lacks_namespace() {
        // Only what there is lies in a namespace.
        let listed = registry.list(row, "", &list).await?;
        if !listed.entries.is_empty() {
            return Err(Error::namespace_required());
        }
        listed
    } else {
        registry.delete_collection(&target, &list, &options).await?
    };
    call.warnings.extend(advice(row, &options));
    lists::list(call, row, listed).await
}

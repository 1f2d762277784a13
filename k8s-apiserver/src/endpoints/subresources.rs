//! Subresources: status, scale, binding, eviction, finalize, reviews and connections.

use std::sync::Arc;

use http::{Response, StatusCode};
use k8s_model::Object;
use k8s_openapi::api::{
    autoscaling::v1::Scale,
    core::v1::{Binding, Pod},
    policy::v1::Eviction,
};

use super::{Call, body, connect, objects, render, success};
use crate::{
    Error, Result,
    admission::more::SentOptions,
    http::{
        Body,
        negotiate::Shape,
        options::{DeleteOptions, WriteOptions},
        response,
    },
    registry::{
        Row, Target,
        create::match_namespace,
        not_found,
        patch::{Patch, PatchedKind},
        subresources,
        update::{Change, Rules},
    },
};

/// What a scale is to become.
enum ScaleChange {
    Update(Box<Scale>),
    Patch(Patch),
}

/// What a part of a pod is to become.
enum PartChange {
    Update(Box<dyn Object>),
    Patch(Patch),
}

pub(crate) async fn serve(
    call: Call,
    row: &Arc<Row>,
    body: Body,
    refused: Option<Error>,
) -> Result<Response<Body>> {
    let name = call.info.subresource.clone();
    let Some(subresource) = row.resource.subresource(&name) else {
        return Ok(response::page_not_found());
    };
    if matches!(
        name.as_str(),
        "log" | "exec" | "attach" | "portforward" | "proxy"
    ) {
        return connect::serve(call, row, subresource, body).await;
    }
    let verb = call.info.verb.as_str();
    if !subresource.verbs.contains(&verb) {
        return Err(Error::method_not_allowed());
    }
    if let Some(error) = refused {
        return Err(error);
    }
    if let Some(create_only) = call.server.create_only(row, &name) {
        return create_only_subresource(&call, row, subresource, &*create_only, body).await;
    }
    match (name.as_str(), verb) {
        ("scale", "get") => scale_get(&call, row).await,
        ("scale", "update" | "patch") => scale_write(&call, row, subresource, body).await,
        ("binding", "create") => {
            let options = WriteOptions::parse(call.parts.uri.query(), "CreateOptions")?;
            let binding =
                body::subresource_object(&call, row, subresource, body, options.field_validation)
                    .await?;
            bind(&call, row, binding, options.dry_run).await
        }
        ("eviction", "create") => evict(&call, row, subresource, body).await,
        ("ephemeralcontainers" | "resize", "update" | "patch") => pod_part(&call, row, body).await,
        (_, "get") => objects::get(&call, row).await,
        (_, "update") => objects::update(&call, row, body).await,
        (_, "patch") => objects::patch(&call, row, body).await,
        _ => Err(Error::method_not_allowed()),
    }
}

async fn create_only_subresource(
    call: &Call,
    row: &Row,
    subresource: &k8s_model::Subresource,
    create_only: &dyn crate::reviews::CreateOnly,
    body: Body,
) -> Result<Response<Body>> {
    let options = WriteOptions::parse(call.parts.uri.query(), "CreateOptions")?;
    let mut object =
        body::subresource_object(call, row, subresource, body, options.field_validation).await?;
    let manager = objects::manager(call, &options);
    let target = objects::written_by(call, row, &options, &manager);
    create_only.default(&mut *object);
    let registry = &call.server.registry;
    registry.own_unstored(&target, Some(subresource), &mut *object);
    let object = objects::admit(call, &target, object, |_| Ok(())).await?;
    let made = create_only
        .create(&call.user, target.namespace, target.name, object)
        .await?;
    let mut out = Vec::new();
    made.write_json(&mut out);
    out.push(b'\n');
    response::json(StatusCode::CREATED, &call.wanted, Body::from(out))
}

async fn scale_get(call: &Call, row: &Row) -> Result<Response<Body>> {
    let (stored, revision) = objects::read(call, row).await?;
    let object = row.decode(&stored, revision)?;
    let scale = subresources::scale_of(row, &*object)?;
    match call.wanted.shape {
        Shape::Table => super::table::of_scale(call, &scale),
        Shape::Metadata => {
            let json = serde_json::to_vec(&scale).map_err(Error::internal)?;
            let mut out = super::render::partial(&json, call.wanted.meta)?;
            out.push(b'\n');
            response::json(StatusCode::OK, &call.wanted, Body::from(out))
        }
        Shape::Object => response::value(StatusCode::OK, &call.wanted, &scale),
    }
}

async fn scale_write(
    call: &Call,
    row: &Row,
    subresource: &k8s_model::Subresource,
    body: Body,
) -> Result<Response<Body>> {
    let (change, options): (ScaleChange, WriteOptions) = if call.info.verb == "patch" {
        let (patch, options) = objects::read_patch(call, row, body).await?;
        (ScaleChange::Patch(patch), options)
    } else {
        let options = WriteOptions::parse(call.parts.uri.query(), "UpdateOptions")?;
        let scale =
            body::subresource_object(call, row, subresource, body, options.field_validation)
                .await?;
        let scale = scale.downcast_ref::<Scale>().cloned();
        let mut scale = scale.ok_or_else(|| Error::internal("not a Scale"))?;
        let target = objects::target(call, row, options.dry_run);
        objects::check_place(&target, &mut scale)?;
        (ScaleChange::Update(Box::new(scale)), options)
    };
    let manager = objects::manager(call, &options);
    let target = objects::written_by(call, row, &options, &manager);
    let registry = &call.server.registry;
    let scales = k8s_model::subresource_codec("autoscaling", "v1", "Scale")
        .ok_or_else(Error::method_not_allowed)?;
    let warnings = &call.warnings;
    let outcome = registry
        .modify(&target, Rules::Object, |live| {
            let old = subresources::scale_before(row, live.object)?;
            let (mut scale, managed) = match &change {
                ScaleChange::Update(scale) => (Scale::clone(scale), None),
                ScaleChange::Patch(Patch::Apply(configuration)) => {
                    let tracker = registry.tracker(&target, live.versions);
                    let tracker = tracker.ok_or_else(Error::method_not_allowed)?;
                    subresources::apply_scale(row, configuration, &tracker, live, old)?
                }
                ScaleChange::Patch(patch) => {
                    let kind = PatchedKind {
                        group: "autoscaling",
                        version: "v1",
                        kind: "Scale",
                        codec: &scales,
                    };
                    let validation = options.field_validation;
                    let new = patch.patched(&kind, old.to_value(), &[], validation, warnings)?;
                    let scale = new.downcast_ref::<Scale>().cloned();
                    (scale.ok_or_else(|| Error::internal("not a Scale"))?, None)
                }
            };
            objects::check_place(&target, &mut scale)?;
            subresources::check_scale(row, &scale, target.name)?;
            // An update is refused by the store before it comes to that.
            if let (ScaleChange::Patch(_), None) = (&change, row.custom()) {
                subresources::check_uid_of_scale(row, live.object, &scale)?;
            }
            let object = subresources::set_scale(row, live.object, &scale)?;
            Ok(Change {
                object,
                managed,
                checks_uid: true,
            })
        })
        .await?;
    let scale = subresources::scale_of(row, &*outcome.object)?;
    response::value(StatusCode::OK, &call.wanted, &scale)
}

/// `pods/binding` and `bindings`: gives a pod to a node.
pub(crate) async fn bind(
    call: &Call,
    row: &Row,
    binding: Box<dyn Object>,
    dry_run: bool,
) -> Result<Response<Body>> {
    let pods = call
        .server
        .registry
        .row("", "v1", "pods")
        .ok_or_else(Error::no_such_path)?;
    let mut target = objects::target(call, &pods, dry_run);
    target.subresource = "binding";
    let mut binding = binding;
    match_namespace(&target, &mut *binding)?;
    let name = binding.metadata().name.clone().unwrap_or_default();
    if row.is("", "bindings") {
        target.name = &name;
    }
    let as_binding = |object: &dyn Object| {
        let binding = object.downcast_ref::<Binding>().cloned();
        binding.ok_or_else(|| Error::internal("not a Binding"))
    };
    let check =
        |object: &dyn Object| subresources::check_binding(&as_binding(object)?, target.name);
    let binding = objects::admit(call, &target, binding, check).await?;
    if target.name.is_empty() {
        return Err(Error::bad_request("Name parameter required."));
    }
    let binding = &as_binding(&*binding)?;
    let now = call.server.registry.now();
    call.server
        .registry
        .update(&target, Rules::None, |old| {
            let mut new = old.boxed_clone();
            let pod = new
                .downcast_mut::<Pod>()
                .ok_or_else(|| Error::internal("not a Pod"))?;
            subresources::bind(pod, binding, now)?;
            Ok(new)
        })
        .await?;
    success(call, StatusCode::CREATED)
}

async fn evict(
    call: &Call,
    row: &Row,
    subresource: &k8s_model::Subresource,
    body: Body,
) -> Result<Response<Body>> {
    let options = WriteOptions::parse(call.parts.uri.query(), "CreateOptions")?;
    let mut eviction =
        body::subresource_object(call, row, subresource, body, options.field_validation).await?;
    let target = Target {
        options: SentOptions::Write(&options),
        ..objects::target(call, row, options.dry_run)
    };
    match_namespace(&target, &mut *eviction)?;
    let check = |object: &dyn Object| match object.metadata().name.as_deref() {
        Some(name) if name == call.info.name => Ok(()),
        _ => Err(Error::bad_request(
            "name in URL does not match name in Eviction object",
        )),
    };
    let eviction = objects::admit(call, &target, eviction, check).await?;
    let eviction = eviction
        .downcast_ref::<Eviction>()
        .ok_or_else(|| Error::internal("not an Eviction"))?;
    let delete = match &eviction.delete_options {
        Some(delete) => {
            let delete = serde_json::to_value(delete).map_err(Error::internal)?;
            DeleteOptions::parse(None, Some(delete))
        }
        None => Ok(DeleteOptions::default()),
    };
    let delete = match delete {
        Ok(delete) => delete,
        // How a pod that is not there is to go is nobody's concern.
        Err(error) => {
            let pod = call.server.registry.read(&target).await?;
            return Err(pod.map_or_else(|| not_found(&target), |_| error));
        }
    };
    let mut target = objects::target(call, row, options.dry_run || delete.dry_run);
    target.subresource = "";
    call.server.registry.evict(&target, &delete).await?;
    success(call, StatusCode::CREATED)
}

/// `pods/ephemeralcontainers` and `pods/resize`: changes one part of a pod's spec.
async fn pod_part(call: &Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let (mut change, options) = if call.info.verb == "patch" {
        let (patch, options) = objects::read_patch(call, row, body).await?;
        (PartChange::Patch(patch), options)
    } else {
        let options = WriteOptions::parse(call.parts.uri.query(), "UpdateOptions")?;
        let object = body::object(call, row, body, options.field_validation).await?;
        (PartChange::Update(object), options)
    };
    let manager = objects::manager(call, &options);
    let target = objects::written_by(call, row, &options, &manager);
    if let PartChange::Update(object) = &mut change {
        objects::check_place(&target, &mut **object)?;
    }
    let registry = &call.server.registry;
    let warnings = &call.warnings;
    let outcome = registry
        .modify(&target, Rules::Part, |live| {
            let Change {
                object: mut wanted,
                managed,
                checks_uid,
            } = match &change {
                PartChange::Update(object) => Change {
                    object: object.boxed_clone(),
                    managed: None,
                    checks_uid: true,
                },
                PartChange::Patch(patch) => {
                    let tracker = registry.tracker(&target, live.versions);
                    let (tracker, validation) = (tracker.as_ref(), options.field_validation);
                    patch.change(row, live, tracker, validation, warnings)?
                }
            };
            objects::check_place(&target, &mut *wanted)?;
            let mut object = live.object.boxed_clone();
            // Who means another pod of that name says so by its UID.
            let meant = wanted.metadata().uid.clone().filter(|uid| !uid.is_empty());
            if let Some(uid) = meant {
                object.metadata_mut().uid = Some(uid);
            }
            let (Some(pod), Some(wanted)) =
                (object.downcast_mut::<Pod>(), wanted.downcast_ref::<Pod>())
            else {
                return Err(Error::internal("not a Pod"));
            };
            subresources::take_part(target.subresource, pod, wanted);
            let strategy = &row.resource.strategy;
            let findings =
                strategy.validate_subresource_update(target.subresource, &*object, live.object);
            if !findings.is_empty() {
                return Err(Error::invalid(&row.resource, target.name, &findings));
            }
            Ok(Change {
                object,
                managed,
                checks_uid,
            })
        })
        .await?;
    render::outcome(call, row, StatusCode::OK, &outcome)
}

//! Which way a request for a resource goes, if there is such a path and the resource knows the verb.

use std::sync::Arc;

use http::Response;

use super::{Call, components, objects, subresources};
use crate::{
    Error, Result,
    http::{Body, RequestInfo, response},
    registry::Row,
};

/// A request for a resource.
pub(super) async fn serve(
    call: Call,
    row: &Arc<Row>,
    body: Body,
    refused: Option<Error>,
) -> Result<Response<Body>> {
    let info = &call.info;
    if row.custom().is_some() {
        // They are served around upstream's router.
        return Box::pin(custom(call, row, body, refused)).await;
    }
    if !exists(row, info) {
        return Err(Error::no_such_path());
    }
    if let Some(text) = row.deprecation {
        call.warnings.add(text);
    }
    let method = &call.parts.method;
    // Proxies alone pass it on.
    if method == http::Method::HEAD && info.subresource != "proxy" {
        return Err(Error::method_not_allowed());
    }
    if method != http::Method::GET && info.has_verb_in_path() {
        return Err(Error::method_not_allowed());
    }
    if !info.subresource.is_empty() {
        if let Some(error) = unplaced(row, info) {
            return Err(error);
        }
        return Box::pin(subresources::serve(call, row, body, refused)).await;
    }
    let verb = info.verb.as_str();
    let elsewhere = row.is_namespaced() && info.namespace.is_empty() && !info.lacks_namespace();
    // A watch of one object in the old spelling is one of the collection.
    let named = !info.name.is_empty();
    let fits = match verb {
        // All namespaces can be read at once, but not written.
        "create" => !named && !elsewhere,
        "deletecollection" => !elsewhere,
        "get" | "update" | "patch" | "delete" => named,
        _ => true,
    };
    if !fits || !row.resource.verbs.contains(&verb) {
        return Err(Error::method_not_allowed());
    }
    let is_one = matches!(verb, "get" | "update" | "patch" | "delete");
    if is_one && info.lacks_namespace() {
        return Err(Error::namespace_required());
    }
    if let Some(error) = refused {
        return Err(error);
    }
    if row.is("", "componentstatuses") {
        return Box::pin(components::serve(&call, row)).await;
    }
    objects(call, row, body).await
}

/// Why there is no object for a subresource: its name or its namespace is empty, and the method is one for objects.
fn unplaced(row: &Row, info: &RequestInfo) -> Option<Error> {
    let unnamed = info.name.is_empty();
    if !unnamed && !info.lacks_namespace() {
        return None;
    }
    // Without a name it is taken for a request for many objects.
    let verb = match info.verb.as_str() {
        "list" | "watch" => "get",
        "deletecollection" => "delete",
        verb => verb,
    };
    let known = row.resource.subresource(&info.subresource)?;
    if !known.verbs.contains(&verb) {
        return Some(Error::method_not_allowed());
    }
    Some(match unnamed {
        true => Error::bad_request("name must be provided"),
        false => Error::namespace_required(),
    })
}

/// A request for custom resources, whose verb counts, and not its method: those that are told at an object's path to be
/// created are, and headers alone are given of what is read.
async fn custom(
    mut call: Call,
    row: &Arc<Row>,
    body: Body,
    refused: Option<Error>,
) -> Result<Response<Body>> {
    let info = &call.info;
    let verb = info.verb.as_str();
    // All namespaces can be read at once, but not written.
    let misplaced = match (row.is_namespaced(), info.namespace.is_empty()) {
        (true, true) => !matches!(verb, "list" | "watch"),
        (false, false) => info.is_in_namespace(),
        _ => false,
    };
    if misplaced {
        return Ok(response::page_not_found());
    }
    let sub = info.subresource.as_str();
    let subresource = row.resource.subresource(sub);
    let is_there = exists(row, info);
    if let Some(text) = row.deprecation.or_else(|| row.custom()?.deprecation()) {
        call.warnings.add(text);
    }
    if !sub.is_empty() && (subresource.is_none() || !is_there) {
        return Err(Error::not_found(&info.group, &info.resource, &info.name));
    }
    if !is_there {
        return Err(Error::no_such_path());
    }
    let verbs = subresource.map_or(row.resource.verbs, |subresource| subresource.verbs);
    if !verbs.contains(&verb) {
        return Err(Error::method_not_supported(&row.resource, verb));
    }
    if matches!(verb, "update" | "patch") && info.name.is_empty() {
        return Err(Error::bad_request("name must be provided"));
    }
    if !sub.is_empty() {
        return Box::pin(subresources::serve(call, row, body, refused)).await;
    }
    if let Some(error) = refused {
        return Err(error);
    }
    if verb == "create" {
        call.info.name.clear();
    }
    objects(call, row, body).await
}

/// A request for objects that fits them.
async fn objects(call: Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>> {
    let verb = call.info.verb.as_str();
    // Each in a box of its own size: a read is not to take, and have moved around, the memory of a patch.
    match verb {
        "get" => Box::pin(objects::get(&call, row)).await,
        "list" => Box::pin(objects::list(&call, row)).await,
        "watch" => Box::pin(objects::watch(&call, row)).await,
        "create" => Box::pin(objects::create(&call, row, body)).await,
        "update" => Box::pin(objects::update(&call, row, body)).await,
        "patch" => Box::pin(objects::patch(&call, row, body)).await,
        "delete" => Box::pin(objects::delete(&call, row, body)).await,
        "deletecollection" => Box::pin(objects::delete_collection(&call, row, body)).await,
        _ => Err(Error::method_not_allowed()),
    }
}

/// Whether there is such a path for the resource: namespaces where it has them, and only there.
fn exists(row: &Row, info: &RequestInfo) -> bool {
    // There is such a path for each resource that can be watched.
    let in_path = info.has_verb_in_path();
    if in_path && (!row.resource.verbs.contains(&info.verb.as_str()) || info.parts.len() > 2) {
        return false;
    }
    let in_url = info.parts.get(1).is_some();
    // Only of a namespace itself does the namespace stand in the URL without one above: whoever may do
    // something in a namespace may not do it to namespaces.
    if !row.is_namespaced() && info.is_in_namespace() {
        return false;
    }
    // Custom resources are served around upstream's router.
    let anywhere = in_path && row.custom().is_some();
    let everywhere = row.is_namespaced() && info.namespace.is_empty() && !info.lacks_namespace();
    if everywhere && in_url && !anywhere {
        return false;
    }
    if info.parts.len() > 3 && info.subresource != "proxy" {
        return false;
    }
    if !info.subresource.is_empty() {
        return row.resource.subresource(&info.subresource).is_some();
    }
    // What is only ever created is nowhere to be found: neither by its name, nor in all namespaces.
    row.resource.is_stored() || !(in_url || everywhere)
}

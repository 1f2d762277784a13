//! Discovery and OpenAPI with what the servers behind have.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Aggregation, backend::Backend};
use crate::{
    Error, Result,
    discovery::{Form, in_order},
    endpoints::{Call, cached},
    http::{Body, response},
};

impl Aggregation {
    /// Answers a path of discovery or OpenAPI that servers behind have a part in; gives the call back if they have
    /// none.
    pub(crate) async fn path(&self, call: Call) -> Result<Result<Response<Body>, Call>> {
        let all = Arc::clone(&self.table.proxied());
        if all.is_empty() || !matches!(call.parts.method, Method::GET | Method::HEAD) {
            return Ok(Err(call));
        }
        let path = call.info.path.trim_end_matches('/').to_owned();
        let path = path.as_str();
        let form = form(&call);
        let served = call.server.registry.served.load_full();
        let local = served.discovery();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["apis"] if form == Form::Legacy => {
                let Some(document) = local.legacy(path) else {
                    return Ok(Err(call));
                };
                let merged = groups(&document, &all)?;
                document_of(&call, &merged).map(Ok)
            }
            ["apis"] => {
                let Some((document, _)) = local.aggregated(path, form) else {
                    return Ok(Err(call));
                };
                let bytes = Bytes::from(in_order(&merged(&document, &all)?) + "\n");
                let hash = Sha256::digest(&bytes);
                let tag: String = hash.iter().map(|b| format!("{b:02X}")).collect();
                Ok(Ok(cached(&call, bytes, &tag, form.content_type())))
            }
            ["apis", name] => {
                if !all.iter().any(|b| b.group == *name) {
                    return Ok(Err(call));
                }
                let document = local.legacy(path);
                let before = match &document {
                    Some(document) => parse(document)?,
                    None => json!({"kind": "APIGroup", "apiVersion": "v1", "name": name}),
                };
                let merged = group(before, name, &all);
                document_of(&call, &merged).map(Ok)
            }
            ["apis", group, version] | ["openapi", "v3", "apis", group, version] => {
                let is_local = local.legacy(&format!("/apis/{group}/{version}")).is_some();
                match self.find(group, version).filter(|_| !is_local) {
                    Some(backend) => self.pass_on(&backend, call, Body::empty()).await.map(Ok),
                    None => Ok(Err(call)),
                }
            }
            ["openapi", "v3"] => {
                let mut index = parse(&k8s_model::openapi::index(&served.table))?;
                for backend in all.iter() {
                    if let Some(url) = backend.found().openapi {
                        let path = backend.path();
                        index["paths"][path.trim_start_matches('/')] =
                            json!({ "serverRelativeURL": url });
                    }
                }
                response::value(StatusCode::OK, &call.wanted, &index).map(Ok)
            }
            _ => Ok(Err(call)),
        }
    }
}

/// In which form the client wants `/apis`.
fn form(call: &Call) -> Form {
    let accept = call.parts.headers.get(http::header::ACCEPT);
    let accept = accept.and_then(|v| v.to_str().ok());
    Form::from_accept(accept.unwrap_or_default())
}

/// The answer with a document of discovery.
fn document_of(call: &Call, document: &Value) -> Result<Response<Body>> {
    let body = Body::from(in_order(document) + "\n");
    response::json(StatusCode::OK, &call.wanted, body)
}

fn parse(document: &Bytes) -> Result<Value> {
    serde_json::from_slice(document).map_err(Error::internal)
}

/// The groups of those, each once, in order.
fn names(all: &[Arc<Backend>]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for backend in all {
        if !names.contains(&backend.group.as_str()) {
            names.push(&backend.group);
        }
    }
    names
}

/// An `APIGroup` with the versions of servers behind after its own.
fn group(mut group: Value, name: &str, all: &[Arc<Backend>]) -> Value {
    let mut versions = group["versions"].as_array().cloned().unwrap_or_default();
    for backend in all.iter().filter(|b| b.group == name) {
        let version = json!({
            "groupVersion": format!("{name}/{}", backend.version), "version": backend.version,
        });
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    group["name"] = name.into();
    group["preferredVersion"] = versions.first().cloned().unwrap_or_default();
    group["versions"] = versions.into();
    group
}

/// The `APIGroupList`.
fn groups(local: &Bytes, all: &[Arc<Backend>]) -> Result<Value> {
    let mut list = parse(local)?;
    let mut out = list["groups"].as_array().cloned().unwrap_or_default();
    for name in names(all) {
        match out.iter().position(|g| g["name"] == name) {
            Some(at) => out[at] = group(out[at].take(), name, all),
            None => out.push(group(json!({}), name, all)),
        }
    }
    list["groups"] = out.into();
    Ok(list)
}

/// The `APIGroupDiscoveryList`.
fn merged(local: &Bytes, all: &[Arc<Backend>]) -> Result<Value> {
    let mut list = parse(local)?;
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    for name in names(all) {
        let versions: Vec<Value> = all
            .iter()
            .filter(|b| b.group == name)
            .map(|b| version(b))
            .collect();
        match items.iter_mut().find(|i| i["metadata"]["name"] == name) {
            Some(item) => {
                let own = item["versions"].as_array().cloned().unwrap_or_default();
                let new = versions
                    .into_iter()
                    .filter(|v| own.iter().all(|o| o["version"] != v["version"]));
                item["versions"] = own.iter().cloned().chain(new).collect();
            }
            None => items.push(json!({
                "metadata": {"name": name, "creationTimestamp": null}, "versions": versions,
            })),
        }
    }
    list["items"] = items.into();
    Ok(list)
}

/// A version in aggregated discovery, from the `APIResourceList` of old.
fn version(backend: &Backend) -> Value {
    let found = backend.found();
    let list = found.resources.unwrap_or_default();
    let all = list["resources"].as_array().cloned().unwrap_or_default();
    let kind = |entry: &Value| {
        let or = |key: &str, own: &str| match entry[key].as_str() {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => own.to_owned(),
        };
        json!({
            "group": or("group", &backend.group),
            "version": or("version", &backend.version),
            "kind": entry["kind"],
        })
    };
    let mut resources: Vec<Value> = Vec::new();
    for entry in &all {
        let name = entry["name"].as_str().unwrap_or_default();
        if name.contains('/') {
            continue;
        }
        let mut value = json!({
            "resource": name,
            "responseKind": kind(entry),
            "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": entry["singularName"],
            "verbs": entry["verbs"],
        });
        for key in ["shortNames", "categories"] {
            if !entry[key].is_null() {
                value[key] = entry[key].clone();
            }
        }
        let subresources: Vec<Value> = all
            .iter()
            .filter_map(|sub| {
                let (resource, subresource) = sub["name"].as_str()?.split_once('/')?;
                (resource == name).then(|| {
                    json!({
                        "subresource": subresource, "responseKind": kind(sub), "verbs": sub["verbs"],
                    })
                })
            })
            .collect();
        if !subresources.is_empty() {
            value["subresources"] = subresources.into();
        }
        resources.push(value);
    }
    json!({
        "version": backend.version,
        "resources": resources,
        "freshness": if found.available { "Current" } else { "Stale" },
    })
}

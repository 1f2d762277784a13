//! Discovery and OpenAPI with what the servers behind have.

use std::{cmp::Reverse, sync::Arc};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Aggregation, backend::Backend, registration::priorities};
use crate::{
    Error, Result,
    discovery::{Form, in_order},
    endpoints::{Call, cached},
    http::{Body, response},
};

impl Aggregation {
    /// Answers a path of discovery or OpenAPI that servers behind have a part in; gives the call back if they have
    /// none. Documents are `refused` to those who take them in no form that there is.
    pub(crate) async fn path(
        &self,
        call: Call,
        refused: &Option<Error>,
    ) -> Result<Result<Response<Body>, Call>> {
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
                let merged = groups(&document, &all, &self.standing())?;
                document_of(&call, refused, &merged).map(Ok)
            }
            ["apis"] => {
                let Some((document, _)) = local.aggregated(path, form) else {
                    return Ok(Err(call));
                };
                let bytes =
                    Bytes::from(in_order(&merged(&document, &all, &self.standing())?) + "\n");
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
                let merged = group(before, name, &all, &self.standing());
                document_of(&call, refused, &merged).map(Ok)
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

    fn standing(&self) -> Standing {
        Standing(self.table.all())
    }
}

/// Who comes first, as all APIServices say; those of the server's own groups may not be there yet.
struct Standing(Vec<Arc<Backend>>);

impl Standing {
    /// Whether a group comes before one that is served here: by its priority, and then by its name.
    fn is_before(&self, name: &str, local: &Value) -> bool {
        let place = |name: &str, local: Option<i32>| {
            let of = self.0.iter().filter(|b| b.group == name);
            let highest = of.map(|b| b.priorities().0).max();
            Reverse(highest.or(local).unwrap_or_default())
        };
        let other = local["name"]
            .as_str()
            .or(local["metadata"]["name"].as_str());
        let other = other.unwrap_or_default();
        let version = &local["versions"][0]["version"];
        let own = priorities(other, version.as_str().unwrap_or_default()).0;
        (place(name, None), name) < (place(other, Some(own)), other)
    }

    /// Puts the versions of a group in order. Those that are as important stay as they are.
    fn sort(&self, group: &str, versions: &mut [Value]) {
        versions.sort_by_key(|version| {
            let version = version["version"].as_str().unwrap_or_default();
            let mut all = self.0.iter();
            let service = all.find(|b| b.group == group && b.version == version);
            let told = service.map_or_else(|| priorities(group, version), |b| b.priorities());
            Reverse(told.1)
        });
    }
}

/// In which form the client wants `/apis`.
fn form(call: &Call) -> Form {
    let accept = call.parts.headers.get(http::header::ACCEPT);
    let accept = accept.and_then(|v| v.to_str().ok());
    Form::from_accept(accept.unwrap_or_default())
}

/// The answer with a document of discovery.
fn document_of(call: &Call, refused: &Option<Error>, document: &Value) -> Result<Response<Body>> {
    if let Some(error) = refused {
        return Err(error.clone());
    }
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

/// An `APIGroup` with the versions of servers behind among its own.
fn group(mut group: Value, name: &str, all: &[Arc<Backend>], standing: &Standing) -> Value {
    let mut versions = group["versions"].as_array().cloned().unwrap_or_default();
    for backend in all.iter().filter(|b| b.group == name) {
        let version = json!({
            "groupVersion": format!("{name}/{}", backend.version), "version": backend.version,
        });
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    standing.sort(name, &mut versions);
    group["name"] = name.into();
    group["preferredVersion"] = versions.first().cloned().unwrap_or_default();
    group["versions"] = versions.into();
    group
}

/// The `APIGroupList`.
fn groups(local: &Bytes, all: &[Arc<Backend>], standing: &Standing) -> Result<Value> {
    let mut list = parse(local)?;
    let mut out = list["groups"].as_array().cloned().unwrap_or_default();
    for name in names(all) {
        match out.iter().position(|g| g["name"] == name) {
            Some(at) => out[at] = group(out[at].take(), name, all, standing),
            None => {
                let at = out.iter().position(|g| standing.is_before(name, g));
                let new = group(json!({}), name, all, standing);
                out.insert(at.unwrap_or(out.len()), new);
            }
        }
    }
    list["groups"] = out.into();
    Ok(list)
}

/// The `APIGroupDiscoveryList`.
fn merged(local: &Bytes, all: &[Arc<Backend>], standing: &Standing) -> Result<Value> {
    let mut list = parse(local)?;
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    for name in names(all) {
        let mut versions: Vec<Value> = all
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
                let mut whole: Vec<Value> = own.iter().cloned().chain(new).collect();
                standing.sort(name, &mut whole);
                item["versions"] = whole.into();
            }
            None => {
                standing.sort(name, &mut versions);
                let at = items.iter().position(|i| standing.is_before(name, i));
                let new = json!({
                    "metadata": {"name": name, "creationTimestamp": null}, "versions": versions,
                });
                items.insert(at.unwrap_or(items.len()), new);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(group: &str, version: &str, priorities: (i32, i32)) -> Arc<Backend> {
        let service = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": {
            "group": group, "version": version, "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1,
            "service": {"namespace": "default", "name": "api", "port": 443}}});
        Arc::new(Backend::new(serde_json::from_value(service).unwrap(), None))
    }

    #[test]
    fn groups_and_versions_stand_where_their_priorities_say() {
        let mut all = vec![
            behind("first.example.com", "v1", (20000, 15)),
            behind("a.example.com", "v1", (1000, 15)),
            behind("mine.example.com", "v2", (1000, 200)),
            behind("mine.example.com", "v0", (1000, 1)),
            behind("last.example.com", "v1", (100, 15)),
        ];
        all.sort_by(|a, b| a.order(b));
        let standing = Standing(all.clone());
        let wanted = [
            ("first.example.com", vec!["v1"]),
            ("apps", vec!["v1"]),
            ("batch", vec!["v1"]),
            ("a.example.com", vec!["v1"]),
            ("mine.example.com", vec!["v2", "v1", "v0"]),
            ("last.example.com", vec!["v1"]),
        ];
        let own = [("apps", "v1"), ("batch", "v1"), ("mine.example.com", "v1")];
        let told = |list: &Value, key: &str| -> Vec<(String, Vec<String>)> {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let groups = list[key].as_array().unwrap().iter();
            let entry = |group: &Value| {
                let name = group.get("name").unwrap_or(&group["metadata"]["name"]);
                let versions = group["versions"].as_array().unwrap().iter();
                (text(name), versions.map(|v| text(&v["version"])).collect())
            };
            groups.map(entry).collect()
        };
        let wanted = wanted.map(|(name, versions)| {
            let versions: Vec<String> = versions.into_iter().map(str::to_owned).collect();
            (name.to_owned(), versions)
        });
        let local = own.map(|(name, version)| {
            let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        });
        let local = Bytes::from(json!({"groups": local}).to_string());
        let list = groups(&local, &all, &standing).unwrap();
        assert_eq!(told(&list, "groups"), wanted);
        assert_eq!(list["groups"][4]["preferredVersion"]["version"], "v2");
        let local = own.map(|(name, version)| {
            json!({"metadata": {"name": name}, "versions": [{"version": version, "resources": []}]})
        });
        let local = Bytes::from(json!({"items": local}).to_string());
        let list = merged(&local, &all, &standing).unwrap();
        assert_eq!(told(&list, "items"), wanted);
    }
}

//! `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList`.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use k8s_model::{Resource, ResourceTable, Scope};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::encode;

pub(super) fn documents(table: &ResourceTable, address: &str) -> HashMap<String, Bytes> {
    let mut out = HashMap::new();
    out.insert(
        "/api".to_owned(),
        encode(&json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
    );
    let mut groups = Vec::new();
    for group in table.groups() {
        for version in &group.versions {
            let path = match group.name {
                "" => format!("/api/{version}"),
                name => format!("/apis/{name}/{version}"),
            };
            out.insert(path, encode(&resources(table, group.name, version)));
        }
        if group.name.is_empty() {
            continue;
        }
        let versions: Vec<Value> = group
            .versions
            .iter()
            .map(|v| json!({"groupVersion": format!("{}/{v}", group.name), "version": v}))
            .collect();
        let mut value = Map::new();
        value.insert("name".into(), group.name.into());
        value.insert("preferredVersion".into(), versions[0].clone());
        value.insert("versions".into(), versions.into());
        groups.push(Value::Object(value.clone()));
        value.insert("kind".into(), "APIGroup".into());
        value.insert("apiVersion".into(), "v1".into());
        out.insert(format!("/apis/{}", group.name), encode(&value.into()));
    }
    out.insert(
        "/apis".to_owned(),
        encode(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})),
    );
    out
}

fn resources(table: &ResourceTable, group: &str, version: &str) -> Value {
    let group_version = k8s_model::api_version(group, version);
    let mut all = Vec::new();
    for row in table.of_version(group, version) {
        all.push(resource(row));
        all.extend(row.subresources.iter().map(|sub| {
            let mut value = json!({
                "name": format!("{}/{}", row.resource, sub.name),
                "singularName": "",
                "namespaced": row.scope == Scope::Namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (row.group, row.version) && !sub.version.is_empty() {
                value["group"] = sub.group.into();
                value["version"] = sub.version.into();
            }
            value
        }));
    }
    let mut list =
        json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": all});
    // Upstream's list of the core group has none, as since before there were groups.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    list
}

fn resource(row: &Resource) -> Value {
    let mut value = json!({
        "name": row.resource,
        "singularName": row.singular,
        "namespaced": row.scope == Scope::Namespaced,
        "kind": row.kind,
        "verbs": super::verbs(row),
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = row.short_names.into();
    }
    if !row.categories.is_empty() {
        value["categories"] = row.categories.into();
    }
    // The health of components can be read, but is not stored.
    if row.is_stored() && row.verbs.contains(&"create") {
        value["storageVersionHash"] = storage_version_hash(row).into();
    }
    value
}

/// Upstream's `discovery.StorageVersionHash`.
fn storage_version_hash(row: &Resource) -> String {
    let text = format!("{}/{}/{}", row.storage_group, row.storage_version, row.kind);
    STANDARD.encode(&Sha256::digest(text.as_bytes())[..8])
}

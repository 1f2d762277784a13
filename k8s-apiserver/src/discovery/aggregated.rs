//! `APIGroupDiscoveryList`: all of discovery in one document (KEP-3352).

use k8s_model::{Resource, ResourceTable, Scope};
use serde_json::{Value, json};

pub(super) fn list(table: &ResourceTable, core: bool, v2: bool) -> Value {
    let items: Vec<Value> = table
        .groups()
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = table
                        .of_version(group.name, version)
                        .map(|row| resource(row))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group.name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let version = if v2 { "v2" } else { "v2beta1" };
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn resource(row: &Resource) -> Value {
    let mut value = json!({
        "resource": row.resource,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": if row.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": super::verbs(row),
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = row.short_names.into();
    }
    if !row.categories.is_empty() {
        value["categories"] = row.categories.into();
    }
    if !row.subresources.is_empty() {
        value["subresources"] = row
            .subresources
            .iter()
            .map(|sub| {
                json!({
                    "subresource": sub.name,
                    "responseKind": {
                        "group": if sub.version.is_empty() { row.group } else { sub.group },
                        "version": if sub.version.is_empty() { row.version } else { sub.version },
                        "kind": sub.kind,
                    },
                    "verbs": sub.verbs,
                })
            })
            .collect();
    }
    value
}

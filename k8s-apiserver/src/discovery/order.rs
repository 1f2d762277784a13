//! The order in which upstream writes the fields of what it says of itself.

use serde_json::{Map, Value};

/// Fields of discovery and of what OpenID Connect asks for, in the order of upstream's types.
const ORDER: [&str; 33] = [
    "metadata",
    "name",
    "creationTimestamp",
    "singularName",
    "namespaced",
    "subresource",
    "resource",
    "responseKind",
    "scope",
    "singularResource",
    "group",
    "groupVersion",
    "version",
    "kind",
    "versions",
    "preferredVersion",
    "clientCIDR",
    "serverAddress",
    "serverAddressByClientCIDRs",
    "verbs",
    "shortNames",
    "categories",
    "storageVersionHash",
    "subresources",
    "groups",
    "resources",
    "items",
    "freshness",
    "issuer",
    "jwks_uri",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
];

/// A document as JSON with its fields in upstream's order. Scripts look for pieces of these documents as texts.
pub(crate) fn in_order(document: &Value) -> String {
    let mut out = String::new();
    match document {
        Value::Object(fields) => object(fields, &["kind", "apiVersion"], &mut out),
        other => write(other, &mut out),
    }
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => object(fields, &[], out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Fields of `first`, then those that have a place in upstream's order, then the rest.
fn object(fields: &Map<String, Value>, first: &[&str], out: &mut String) {
    let rank = |name: &str| {
        let place = |names: &[&str]| names.iter().position(|n| *n == name);
        place(first).unwrap_or_else(|| first.len() + place(&ORDER).unwrap_or(ORDER.len()))
    };
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_by_key(|(name, _)| rank(name));
    out.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_kind_comes_first_of_a_document_and_after_the_name_of_a_resource() {
        let document = json!({
            "apiVersion": "v1", "groupVersion": "apps/v1", "kind": "APIResourceList",
            "resources": [{
                "categories": ["all"], "kind": "DaemonSet", "name": "daemonsets", "namespaced": true,
                "shortNames": ["ds"], "singularName": "daemonset", "storageVersionHash": "h", "verbs": ["get"],
            }],
        });
        assert_eq!(
            in_order(&document),
            concat!(
                r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","resources":["#,
                r#"{"name":"daemonsets","singularName":"daemonset","namespaced":true,"kind":"DaemonSet","#,
                r#""verbs":["get"],"shortNames":["ds"],"categories":["all"],"storageVersionHash":"h"}]}"#,
            )
        );
    }

    #[test]
    fn what_has_no_place_comes_last() {
        assert_eq!(
            in_order(&json!({"a": 1, "items": [], "metadata": {}})),
            r#"{"metadata":{},"items":[],"a":1}"#
        );
    }
}

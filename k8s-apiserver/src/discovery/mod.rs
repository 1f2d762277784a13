//! Discovery: which groups, versions and resources are served.
//!
//! Every document is encoded once for each set of resources, when it is first asked for.

mod aggregated;
mod legacy;
mod order;

use std::collections::HashMap;

use bytes::Bytes;
use k8s_model::{Resource, ResourceTable, custom::Version};
use sha2::{Digest, Sha256};

pub(crate) use order::in_order;

/// The verbs that are told of a resource. As upstream, fewer than are served while its definition is going.
fn verbs(row: &Resource) -> Vec<&'static str> {
    let is_going = row.strategy.custom().is_some_and(Version::is_terminating);
    let verbs = row.verbs.iter().copied();
    verbs
        .filter(|verb| !(is_going && matches!(*verb, "patch" | "create" | "update")))
        .collect()
}

/// In which form `/api` and `/apis` are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Groups only, as since ever.
    Legacy,
    /// Everything at once (KEP-3352).
    V2,
    V2Beta1,
}

impl Form {
    /// The first form in `Accept` that is spoken.
    pub(crate) fn from_accept(accept: &str) -> Form {
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let parameters: HashMap<&str, &str> = parts.filter_map(|p| p.split_once('=')).collect();
            let aggregated = parameters.get("as") == Some(&"APIGroupDiscoveryList")
                && parameters.get("g") == Some(&"apidiscovery.k8s.io");
            match (media_type, aggregated, parameters.get("v").copied()) {
                ("application/json", true, Some("v2")) => return Form::V2,
                ("application/json", true, Some("v2beta1")) => return Form::V2Beta1,
                ("application/json" | "*/*" | "application/*", false, _)
                    if !parameters.contains_key("as") =>
                {
                    return Form::Legacy;
                }
                _ => {}
            }
        }
        Form::Legacy
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Form::Legacy => "application/json",
            Form::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Form::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

/// All discovery documents.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// `/api`, `/apis`, `/api/v1`, `/apis/G`, `/apis/G/V`.
    legacy: HashMap<String, Bytes>,
    /// `/api` and `/apis` in the two aggregated forms.
    aggregated: HashMap<(&'static str, bool), (Bytes, String)>,
}

impl Discovery {
    pub(crate) fn new(table: &ResourceTable, address: &str) -> Self {
        let mut all = HashMap::new();
        for path in ["/api", "/apis"] {
            for v2 in [true, false] {
                let bytes = encode(&aggregated::list(table, path == "/api", v2));
                let hash = Sha256::digest(&bytes);
                let tag = hash.iter().map(|b| format!("{b:02X}")).collect::<String>();
                all.insert((path, v2), (bytes, tag));
            }
        }
        Discovery {
            legacy: legacy::documents(table, address),
            aggregated: all,
        }
    }

    pub(crate) fn legacy(&self, path: &str) -> Option<Bytes> {
        self.legacy.get(path.trim_end_matches('/')).cloned()
    }

    /// The document and its ETag.
    pub(crate) fn aggregated(&self, path: &str, form: Form) -> Option<(Bytes, &str)> {
        let path = if path.trim_end_matches('/') == "/api" {
            "/api"
        } else {
            "/apis"
        };
        self.aggregated
            .get(&(path, form == Form::V2))
            .map(|(b, t)| (b.clone(), t.as_str()))
    }

    /// All paths that have a document.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.legacy.keys().map(String::as_str)
    }
}

fn encode(value: &serde_json::Value) -> Bytes {
    let mut bytes = in_order(value).into_bytes();
    bytes.push(b'\n');
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_prefers_the_aggregated_form() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(Form::from_accept(accept), Form::V2);
        assert_eq!(Form::from_accept("application/json, */*"), Form::Legacy);
        assert_eq!(
            Form::from_accept(
                "application/vnd.kubernetes.protobuf;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            ),
            Form::V2Beta1
        );
    }
}

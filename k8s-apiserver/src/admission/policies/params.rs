//! The parameters of a policy: objects that its binding refers to.

use k8s_model::{Object, Scope};
use k8s_store::List;
use serde_json::Value;

use super::{Binding, Policy, binding::ParamRef, policy::ParamKind};
use crate::{
    Error,
    admission::{
        AdmissionRequest,
        matching::{NamespaceLabels, namespace_of},
        reader::ObjectReader,
    },
    registry::{Registry, Row, key, value::Stored},
};

/// With which parameters a binding has a policy judge a request: `null` if it names none. Nothing if the binding does not
/// cover the request; the error is upstream's text.
pub(super) async fn bound(
    policy: &Policy,
    binding: &Binding,
    request: &AdmissionRequest<'_>,
    namespace: &mut NamespaceLabels,
    reader: &dyn ObjectReader,
) -> Result<Option<Vec<Value>>, String> {
    if let Some(matcher) = &binding.matcher {
        let covered = matcher.find(request, namespace, reader).await;
        if covered.map_err(|error| error.to_string())?.is_none() {
            return Ok(None);
        }
    }
    match (&policy.param_kind, &binding.params) {
        (Some(kind), Some(params)) => find(kind, params, request).await.map(Some),
        _ => Ok(Some(vec![Value::Null])),
    }
}

/// The parameters for a request; the error is upstream's text.
async fn find(
    kind: &ParamKind,
    params: &ParamRef,
    request: &AdmissionRequest<'_>,
) -> Result<Vec<Value>, String> {
    let registry = request
        .more
        .registry
        .ok_or("parameters cannot be read here")?;
    let served = registry.served.load_full();
    let (group, version) = match kind.api_version.split_once('/') {
        Some(parts) => parts,
        None => ("", kind.api_version.as_str()),
    };
    let row = served.rows().find(|row| {
        let resource = &row.resource;
        (resource.group, resource.version, resource.kind) == (group, version, kind.kind.as_str())
            && resource.is_stored()
    });
    let row = row.ok_or_else(|| {
        format!(
            "failed to find resource referenced by paramKind: '{}, Kind={}'",
            kind.api_version, kind.kind
        )
    })?;
    let namespace = match (row.resource.scope, params.namespace.as_str()) {
        (Scope::Cluster, "") => "",
        (Scope::Cluster, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into(),
            );
        }
        (Scope::Namespaced, "") => match namespace_of(request) {
            "" => {
                return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
            }
            namespace => namespace,
        },
        (Scope::Namespaced, namespace) => namespace,
    };
    let found = read(registry, row, namespace, params)
        .await
        .map_err(|e| e.to_string())?;
    if found.is_empty() && params.denies {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".into(),
        );
    }
    Ok(found)
}

async fn read(
    registry: &Registry,
    row: &Row,
    namespace: &str,
    params: &ParamRef,
) -> Result<Vec<Value>, Error> {
    let entries = match params.name.as_str() {
        "" => {
            let prefix = key::namespace_prefix(&row.prefix, &row.resource, namespace);
            let list = List {
                prefix,
                ..List::default()
            };
            registry.store.list(list).await?.entries
        }
        name => {
            let key = key::object_key(&row.prefix, &row.resource, namespace, name);
            registry.store.get(&key, None).await?.into_iter().collect()
        }
    };
    let mut out = Vec::new();
    for entry in entries {
        let stored = row.settle(Stored::of(&entry)?).await?;
        let object: Box<dyn Object> = row.decode(&stored, entry.modified.0)?;
        let labels = object.metadata().labels.clone().unwrap_or_default();
        if !params.name.is_empty() || params.selector.matches(&labels) {
            out.push(object.to_value());
        }
    }
    Ok(out)
}

//! The status of ValidatingAdmissionPolicies: whether their expressions fit the types that they are about.
//!
//! Mirrors upstream's `pkg/controller/validatingadmissionpolicystatus`. See
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>.

use std::sync::Arc;

use k8s_model::{
    ResourceTable,
    policies::{self, CheckedType},
    schema::Type,
    structural::Schema,
};
use k8s_openapi::{
    api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicy},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Error,
    common::{context::Context, owner},
    error::is_not_found,
    runtime::{Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

pub(crate) struct PolicyStatus {
    client: Client,
    policies: Informer<ValidatingAdmissionPolicy>,
}

/// The one key: policies are few.
fn all_policies() -> ObjectKey {
    ObjectKey::new("", "validatingadmissionpolicies")
}

/// The controller, its handlers in place. It has one key.
pub(crate) fn controller(context: &Context) -> Controller<PolicyStatus> {
    let reconciler = PolicyStatus {
        client: context.client.clone(),
        policies: context.informers.informer(),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler
        .policies
        .add_handler(move |_| adds.add(all_policies()));
    let ready = reconciler.policies.synced();
    Controller::new("validatingadmissionpolicy-status", reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

/// Whether a policy has changed since its status was written.
fn is_stale(policy: &ValidatingAdmissionPolicy) -> bool {
    let status = policy.status.as_ref();
    status.is_none_or(|status| {
        status.type_checking.is_none()
            || status.observed_generation.unwrap_or(0) < policy.metadata.generation.unwrap_or(0)
    })
}

/// The status that says these.
fn status(policy: &ValidatingAdmissionPolicy, warnings: Vec<ExpressionWarning>) -> Value {
    let mut checked = json!({});
    if !warnings.is_empty() {
        checked["expressionWarnings"] = json!(warnings);
    }
    json!({"status": {
        "observedGeneration": policy.metadata.generation,
        "typeChecking": checked,
    }})
}

impl PolicyStatus {
    /// The types that a policy is about, as far as they are known, in the order of their names. Upstream looks up no
    /// more resources once it has found so many types for one rule.
    async fn types(&self, policy: &ValidatingAdmissionPolicy) -> Vec<CheckedType> {
        let spec = policy.spec.clone().unwrap_or_default();
        let mut out: Vec<CheckedType> = Vec::new();
        for (group, version, resource) in policies::named_resources(&spec) {
            // A resource without a group is one of any group.
            let rows = ResourceTable::builtin().rows().iter().filter(|row| {
                (row.version, row.resource) == (version.as_str(), resource.as_str())
                    && (group.is_empty() || row.group == group)
            });
            let mut found: Vec<CheckedType> = rows
                .filter_map(|row| built_in(row.group, row.version, row.kind))
                .collect();
            if found.is_empty() && !group.is_empty() {
                let wanted = Wanted::Resource(&resource);
                found.extend(self.custom(&group, &version, wanted).await);
            }
            out.extend(found);
            if out.len() >= policies::MAX_TYPES {
                break;
            }
        }
        out.sort_by(|a, b| key(a).cmp(&key(b)));
        out.dedup_by(|a, b| key(a) == key(b));
        out
    }

    /// What the parameters of a policy look like.
    async fn params(&self, policy: &ValidatingAdmissionPolicy) -> Option<Schema> {
        let kind = policy.spec.as_ref()?.param_kind.as_ref()?;
        let (api_version, kind) = (kind.api_version.as_deref()?, kind.kind.as_deref()?);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = match built_in(group, version, kind) {
            Some(found) => Some(found),
            None => self.custom(group, version, Wanted::Kind(kind)).await,
        };
        found.map(|found| found.schema)
    }

    /// The kind of a custom resource and its schema, as the server publishes them.
    async fn custom(&self, group: &str, version: &str, wanted: Wanted<'_>) -> Option<CheckedType> {
        let read = async |path: String| {
            let request = http::Request::get(path).body(Vec::new()).ok()?;
            self.client.request::<Value>(request).await.ok()
        };
        let kind = match wanted {
            Wanted::Kind(kind) => kind.to_owned(),
            Wanted::Resource(resource) => {
                let listed = read(format!("/apis/{group}/{version}")).await?;
                let mut resources = listed["resources"].as_array()?.iter();
                let found = resources.find(|r| r["name"] == resource)?;
                found["kind"].as_str()?.to_owned()
            }
        };
        let document = read(format!("/openapi/v3/apis/{group}/{version}")).await?;
        let of_kind = |schema: &&Value| {
            let gvks = schema["x-kubernetes-group-version-kind"].as_array();
            gvks.is_some_and(|all| {
                all.iter()
                    .any(|g| g["group"] == group && g["version"] == version && g["kind"] == kind)
            })
        };
        let schema = document["components"]["schemas"]
            .as_object()?
            .values()
            .find(of_kind)?;
        let props: JSONSchemaProps = serde_json::from_value(schema.clone()).ok()?;
        let mut schema = Schema::new(&props);
        // It is published as a reference.
        if let Some(metadata) = Type::named("apimachinery.pkg.apis.meta.v1.ObjectMeta") {
            let metadata = Schema::of_type(metadata);
            schema.properties.insert("metadata".to_owned(), metadata);
        }
        Some(CheckedType {
            group: group.to_owned(),
            version: version.to_owned(),
            kind,
            schema,
        })
    }
}

/// What is looked for among the custom resources of a group and version.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Resource(&'a str),
    Kind(&'a str),
}

fn key(ty: &CheckedType) -> (&str, &str, &str) {
    (&ty.group, &ty.version, &ty.kind)
}

fn built_in(group: &str, version: &str, kind: &str) -> Option<CheckedType> {
    Some(CheckedType {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        schema: Schema::of_type(Type::of_kind(group, version, kind)?),
    })
}

impl Reconciler for PolicyStatus {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, _key: ObjectKey) -> Result<Requeue, Error> {
        let api = Api::<ValidatingAdmissionPolicy>::all(self.client.clone());
        let mut errors = Vec::new();
        let all: Vec<Arc<ValidatingAdmissionPolicy>> = self.policies.list();
        for policy in all.iter().filter(|policy| is_stale(policy)) {
            let types = self.types(policy).await;
            let params = self.params(policy).await;
            let spec = policy.spec.clone().unwrap_or_default();
            let warnings = policies::type_check(&spec, &types, params.as_ref());
            let status = status(policy, warnings);
            let name = owner::name(&policy.metadata);
            let params = PatchParams::default();
            match api
                .patch_status(name, &params, &Patch::Merge(&status))
                .await
            {
                Err(error) if !is_not_found(&error) => errors.push(error.into()),
                _ => {}
            }
        }
        Error::all(errors).map(|()| Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_stale_when_the_policy_has_changed() {
        let policy = |generation: i64, status: Value| {
            let value =
                json!({"metadata": {"generation": generation}, "spec": {}, "status": status});
            serde_json::from_value::<ValidatingAdmissionPolicy>(value).unwrap()
        };
        assert!(is_stale(&policy(1, Value::Null)));
        assert!(is_stale(&policy(1, json!({"observedGeneration": 1}))));
        let checked = json!({"observedGeneration": 1, "typeChecking": {}});
        assert!(!is_stale(&policy(1, checked.clone())));
        assert!(is_stale(&policy(2, checked)));
        let written = status(&policy(2, Value::Null), Vec::new());
        assert_eq!(
            written,
            json!({"status": {"observedGeneration": 2, "typeChecking": {}}})
        );
    }
}

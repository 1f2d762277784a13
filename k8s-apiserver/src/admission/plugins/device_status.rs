//! [`DeviceStatus`]: who may say which part of what a claim to devices has.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use k8s_model::{
    field::{self, Path},
    names,
    status::{self, GroupResource},
};
use serde_json::Value;

use crate::{
    admission::{AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step},
    auth::Identity,
    authz::{Attributes, Authorizer, denied},
};

const GROUP: &str = "resource.k8s.io";
const RESOURCE: &str = "resourceclaims";
/// Where a token that is bound to a pod says on which node that runs.
const NODE: &str = "authentication.kubernetes.io/node-name";

/// Lets only those change what devices a claim has and for whom who may `update` (or `patch`) `resourceclaims/binding`,
/// and only those what is told of a driver's devices who may do that for the driver: with the verb
/// `arbitrary-node:update` of `resourceclaims/driver`, or with `associated-node:update` on the node that they run on.
/// Upstream has this among the rules of the kind. See
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>.
#[derive(Debug)]
pub struct DeviceStatus(Arc<dyn Authorizer>);

impl DeviceStatus {
    /// Asks the authorizer.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        DeviceStatus(authorizer)
    }

    /// Whether one of the verbs is allowed; if none is, why the first is not.
    async fn may(
        &self,
        request: &AdmissionRequest<'_>,
        verbs: &[String],
        (subresource, namespace, name): (&str, &str, &str),
    ) -> Result<(), String> {
        let mut first = None;
        for verb in verbs {
            let attributes = Attributes {
                user: request.user,
                verb,
                group: GROUP,
                version: request.resource.version,
                resource: RESOURCE,
                subresource,
                namespace,
                name,
                path: "",
                resource_request: true,
                selectors: None,
            };
            let decision = self.0.authorize(&attributes).await;
            if decision.is_allowed() {
                return Ok(());
            }
            first.get_or_insert_with(|| denied(&attributes, decision.reason()).to_string());
        }
        Err(first.unwrap_or_default())
    }

    async fn check(
        &self,
        request: &AdmissionRequest<'_>,
        new: &Value,
        old: &Value,
    ) -> field::ErrorList {
        let path = Path::new("status");
        let mut found = field::ErrorList::new();
        let verb = request.more.verb_of_update();
        let same = |name: &str| present(&new[name]) == present(&old[name]);
        if !same("allocation") || !same("reservedFor") {
            let place = ("binding", "", "");
            if let Err(why) = self.may(request, &[verb.to_owned()], place).await {
                found.push(field::forbidden(
                    path.clone(),
                    format!(
                        "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
                    ),
                ));
            }
        }
        let mut verbs = vec![format!("arbitrary-node:{verb}")];
        if runs_on(request.user, node_of(&new["allocation"])) {
            verbs.insert(0, format!("associated-node:{verb}"));
        }
        for driver in changed_drivers(&new["devices"], &old["devices"]) {
            let place = ("driver", request.namespace, driver);
            if let Err(why) = self.may(request, &verbs, place).await {
                found.push(field::forbidden(
                    path.child("devices"),
                    format!(
                        "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
                        verbs.join(" ")
                    ),
                ));
            }
        }
        found
    }
}

/// What is there, if it is more than nothing.
fn present(value: &Value) -> Option<&Value> {
    let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    (!empty).then_some(value)
}

/// The node that an allocation is for, if it is for one alone.
fn node_of(allocation: &Value) -> &str {
    fn only(value: &Value) -> Option<&Value> {
        match value.as_array()?.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
    let node = || {
        let term = only(&allocation["nodeSelector"]["nodeSelectorTerms"])?;
        let field = only(&term["matchFields"])?;
        let by_name = field["key"] == "metadata.name" && field["operator"] == "In";
        let alone = by_name && present(&term["matchExpressions"]).is_none();
        only(&field["values"])?.as_str().filter(|_| alone)
    };
    node().unwrap_or_default()
}

/// Whether it is a service account whose token says that it runs on the node.
fn runs_on(user: &Identity, node: &str) -> bool {
    let named = user.extra.get(NODE).map(Vec::as_slice);
    !node.is_empty()
        && user.as_service_account().is_some()
        && matches!(named, Some([one]) if one == node && names::dns_subdomain(one, false).is_empty())
}

/// The drivers of whose devices something else is told.
fn changed_drivers<'v>(new: &'v Value, old: &'v Value) -> BTreeSet<&'v str> {
    let all = |list: &'v Value| list.as_array().into_iter().flatten();
    let is = |a: &Value, b: &Value| {
        let keys = ["driver", "pool", "device", "shareID"];
        keys.iter().all(|key| a[*key] == b[*key])
    };
    let differs = |device: &Value, others: &'v Value| {
        let mut others = all(others);
        others.find(|other| is(device, other)) != Some(device)
    };
    let changed = all(new).filter(|device| differs(device, old));
    let changed = changed.chain(all(old).filter(|device| differs(device, new)));
    changed
        .map(|device| device["driver"].as_str().unwrap_or_default())
        .collect()
}

#[async_trait]
impl AdmissionPlugin for DeviceStatus {
    fn name(&self) -> &str {
        "DeviceStatus"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        (group, resource) == (GROUP, RESOURCE)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let (Some(new), Some(old)) = (&request.object, request.old) else {
            return Ok(());
        };
        if request.resource.resource != RESOURCE || request.subresource != "status" {
            return Ok(());
        }
        let (new, old) = (new.to_value(), old.to_value());
        let found = self.check(request, &new["status"], &old["status"]).await;
        if found.is_empty() {
            return Ok(());
        }
        let kind = GroupResource::new(GROUP, "ResourceClaim");
        let status = status::invalid(kind, request.name, &found);
        Err(AdmissionError::Status(Box::new(status)))
    }
}

//! [`PolicyParams`]: who may have policies read what.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::{
    ResourceTable,
    field::{self, Path},
    status::{self, GroupResource},
};
use serde_json::Value;

use crate::{
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
    },
    auth::Identity,
    authz::{Attributes, Authorizer},
};

const GROUP: &str = "admissionregistration.k8s.io";
const ALL: &str = "*";

/// Lets a policy have parameters of a kind, and a binding refer to some, only if its writer may read them: what a policy
/// says of a request may tell what is in them. Upstream has this among the rules of the kinds.
#[derive(Debug)]
pub struct PolicyParams {
    reader: Arc<dyn ObjectReader>,
    authorizer: Arc<dyn Authorizer>,
}

/// A group, a version and a resource; what is not known stands for all.
struct Place {
    group: String,
    version: String,
    resource: String,
}

impl PolicyParams {
    /// Looks the policies of bindings up there, and asks the authorizer.
    pub fn new(reader: Arc<dyn ObjectReader>, authorizer: Arc<dyn Authorizer>) -> Self {
        PolicyParams { reader, authorizer }
    }

    async fn may_get(&self, user: &Identity, place: &Place, namespace: &str, name: &str) -> bool {
        let attributes = Attributes {
            user,
            verb: "get",
            group: &place.group,
            version: &place.version,
            resource: &place.resource,
            subresource: "",
            namespace,
            name,
            path: "",
            resource_request: true,
            selectors: None,
        };
        self.authorizer.authorize(&attributes).await.is_allowed()
    }

    async fn of_policy(&self, request: &AdmissionRequest<'_>, new: &Value) -> Option<field::Error> {
        let kind = &new["spec"]["paramKind"];
        let place = place_of(request, kind);
        if self.may_get(request.user, &place, ALL, ALL).await {
            return None;
        }
        let text = format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            in_go(request.user),
            kind["kind"].as_str().unwrap_or_default(),
            kind["apiVersion"].as_str().unwrap_or_default()
        );
        Some(field::forbidden(Path::new("spec").child("paramKind"), text))
    }

    async fn of_binding(
        &self,
        request: &AdmissionRequest<'_>,
        new: &Value,
        policies: &str,
    ) -> Result<Option<field::Error>, AdmissionError> {
        let spec = &new["spec"];
        let named = spec["policyName"].as_str().unwrap_or_default();
        let policy = self.reader.get_raw(GROUP, policies, "", named).await?;
        let policy: Value = policy
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        let place = place_of(request, &policy["spec"]["paramKind"]);
        let of = |name: &str| spec["paramRef"][name].as_str().unwrap_or_default();
        let (namespace, name) = (of("namespace"), of("name"));
        if self.may_get(request.user, &place, namespace, name).await {
            return Ok(None);
        }
        let text = format!(
            "user {} does not have \"get\" permission on the object referenced by paramRef",
            in_go(request.user)
        );
        let path = Path::new("spec").child("paramRef");
        Ok(Some(field::forbidden(path, text)))
    }
}

/// Where objects of a kind are.
fn place_of(request: &AdmissionRequest<'_>, kind: &Value) -> Place {
    let all = || ALL.to_owned();
    let Some(api_version) = kind["apiVersion"].as_str() else {
        return Place {
            group: all(),
            version: all(),
            resource: all(),
        };
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = kind["kind"].as_str().unwrap_or_default();
    let find = |table: &ResourceTable| {
        let row = table.kind(group, version, kind);
        row.map(|row| row.resource.to_owned())
    };
    let resource = match request.more.registry {
        Some(registry) => find(&registry.served.load().table),
        None => find(ResourceTable::builtin()),
    };
    Place {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.unwrap_or_else(all),
    }
}

/// A user as Go shows one.
fn in_go(user: &Identity) -> String {
    let extra = user.extra.iter();
    let extra: Vec<String> = extra
        .map(|(key, values)| format!("{key}:[{}]", values.join(" ")))
        .collect();
    let groups = user.groups.join(" ");
    let (name, uid) = (&user.name, &user.uid);
    format!("&{{{name} {uid} [{groups}] map[{}]}}", extra.join(" "))
}

#[async_trait]
impl AdmissionPlugin for PolicyParams {
    fn name(&self) -> &str {
        "PolicyParams"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, _resource: &str) -> bool {
        group == GROUP
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let (policies, is_binding) = match request.resource.resource {
            "validatingadmissionpolicies" => ("validatingadmissionpolicies", false),
            "mutatingadmissionpolicies" => ("mutatingadmissionpolicies", false),
            "validatingadmissionpolicybindings" => ("validatingadmissionpolicies", true),
            "mutatingadmissionpolicybindings" => ("mutatingadmissionpolicies", true),
            _ => return Ok(()),
        };
        if request.resource.group != GROUP || !request.subresource.is_empty() {
            return Ok(());
        }
        let Some(new) = request.object.as_deref().map(|object| object.to_value()) else {
            return Ok(());
        };
        let old = request.old.map_or(Value::Null, |old| old.to_value());
        let same = |name: &str| new["spec"][name] == old["spec"][name];
        let finding = if is_binding {
            if new["spec"]["paramRef"].is_null() || same("paramRef") && same("policyName") {
                return Ok(());
            }
            self.of_binding(request, &new, policies).await?
        } else {
            if new["spec"]["paramKind"].is_null() || same("paramKind") {
                return Ok(());
            }
            self.of_policy(request, &new).await
        };
        let Some(finding) = finding else {
            return Ok(());
        };
        let kind = GroupResource::new(GROUP, request.resource.kind);
        let status = status::invalid(kind, request.name, &vec![finding]);
        Err(AdmissionError::Status(Box::new(status)))
    }
}

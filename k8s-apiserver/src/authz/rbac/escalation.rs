//! [`EscalationCheck`]: nobody grants more than they have.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use super::{GROUP, Rbac, rules};
use crate::{
    Error,
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, more::SentOptions,
    },
    auth::{Identity, MASTERS},
    authz::{Attributes, Authorizer},
};

/// Refuses roles and bindings that would give away more than their writer has.
///
/// The writer of a role must hold all of its rules, or be allowed the verb `escalate` on it; the
/// writer of a binding must hold all rules of its role, or be allowed the verb `bind` on the role. Upstream
/// has this in the storage of the four resources, before their validation: it belongs behind all plugins that change
/// objects. What those behind it make of an object is judged once more after all. See
/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>.
#[derive(Debug)]
pub struct EscalationCheck {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

impl EscalationCheck {
    /// A check of the rules that `rbac` knows; `authorizer` is asked for `escalate` and `bind`.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        EscalationCheck { rbac, authorizer }
    }

    async fn allowed(
        &self,
        user: &Identity,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let attributes = Attributes {
            user,
            verb,
            group: GROUP,
            version: "*",
            resource,
            subresource: "",
            namespace,
            name,
            path: "",
            resource_request: true,
            selectors: None,
        };
        self.authorizer.authorize(&attributes).await.is_allowed()
    }

    /// Whether the user holds all these rules in the namespace.
    fn confirm(
        &self,
        user: &Identity,
        namespace: &str,
        wanted: &[PolicyRule],
    ) -> Result<(), AdmissionError> {
        let (held, errors) = self.rbac.rules_for(user, namespace);
        let missing = rules::uncovered(&held, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = rules::compact(missing)
            .iter()
            .map(rules::describe)
            .collect();
        lines.sort();
        lines.dedup();
        let mut text = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            rules::go_quoted(&user.groups),
            lines.join("\n")
        );
        if !errors.is_empty() {
            text.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(AdmissionError::forbidden(text))
    }
}

/// Whether a change is of what the garbage collector changes, and of nothing else.
pub(crate) fn is_for_collection(new: &Value, old: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        if let Some(meta) = object["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "managedFields"] {
                meta.remove(field);
            }
            // It says nothing of the object.
            meta.remove("resourceVersion");
        }
        object
    };
    without(new) == without(old)
}

fn aggregates(role: &Value) -> bool {
    role["aggregationRule"]["clusterRoleSelectors"]
        .as_array()
        .is_some_and(|selectors| !selectors.is_empty())
}

fn rules_in(role: &Value) -> Vec<PolicyRule> {
    serde_json::from_value(role["rules"].clone()).unwrap_or_default()
}

#[async_trait]
impl AdmissionPlugin for EscalationCheck {
    fn name(&self) -> &str {
        "RBACEscalation"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit, Step::Validate]
    }

    fn concerns(&self, group: &str, _resource: &str) -> bool {
        group == GROUP
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        self.validate(request).await
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if request.resource.group != GROUP
            || !request.subresource.is_empty()
            || request.user.in_group(MASTERS)
        {
            return Ok(());
        }
        let Some(new) = request.object.as_deref().map(|object| object.to_value()) else {
            return Ok(());
        };
        let old = request.old.map(|object| object.to_value());
        let user = request.user;
        // Everything else counts: a label alone may make a role a part of others.
        if old.as_ref().is_some_and(|old| is_for_collection(&new, old)) {
            return Ok(());
        }
        match request.resource.resource {
            resource @ ("roles" | "clusterroles") => {
                // A new object has no name in its request, unless it is applied.
                let is_applied =
                    matches!(request.more.options, SentOptions::Write(options) if options.patches);
                let name = match request.operation {
                    Operation::Create if !is_applied => "",
                    _ => request.name,
                };
                if self
                    .allowed(user, "escalate", resource, request.namespace, name)
                    .await
                {
                    return Ok(());
                }
                self.confirm(user, request.namespace, &rules_in(&new))?;
                // What will be found is not known, so it takes everything.
                if aggregates(&new) || old.as_ref().is_some_and(aggregates) {
                    return self
                        .confirm(user, request.namespace, &super::everything())
                        .map_err(|_| {
                            AdmissionError::forbidden(
                                "must have cluster-admin privileges to use the aggregationRule",
                            )
                        });
                }
                Ok(())
            }
            "rolebindings" | "clusterrolebindings" => {
                let kind = new["roleRef"]["kind"].as_str().unwrap_or_default();
                let name = new["roleRef"]["name"].as_str().unwrap_or_default();
                let resource = match kind {
                    "Role" => "roles",
                    "ClusterRole" => "clusterroles",
                    // Upstream does not class this.
                    other => {
                        let text = format!("unsupported role reference kind: {other:?}");
                        let status = Error::unknown(text).into_status();
                        return Err(AdmissionError::Status(Box::new(status)));
                    }
                };
                if self
                    .allowed(user, "bind", resource, request.namespace, name)
                    .await
                {
                    return Ok(());
                }
                let rules = self
                    .rbac
                    .rules_of(kind, name, request.namespace)
                    .map_err(|_| AdmissionError::NotFound {
                        group: GROUP.to_owned(),
                        resource: resource.to_owned(),
                        name: name.to_owned(),
                    })?;
                self.confirm(user, request.namespace, &rules)
            }
            _ => Ok(()),
        }
    }
}

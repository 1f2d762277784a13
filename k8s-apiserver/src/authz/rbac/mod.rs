//! Role-based access control: what the roles that are bound to a user allow.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>. The index follows the
//! stored roles and bindings, so a change holds a moment after it is made; members of
//! `system:masters` may do everything without any role.

pub mod bootstrap;
mod escalation;
mod index;
mod rules;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use parking_lot::RwLock;

pub use self::escalation::EscalationCheck;
pub(crate) use self::escalation::is_for_collection;
use self::index::Index;
pub(crate) use self::rules::{allows, go_quoted};
use super::{Attributes, Authorizer, Decision, KnownRules, aggregate};
use crate::{
    admission::{
        follow::Follower,
        reader::{ObjectReader, RawEvent},
    },
    auth::{Identity, MASTERS},
};

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// The authorizer of roles and bindings.
#[derive(Debug)]
pub struct Rbac {
    index: Arc<RwLock<Index>>,
    follower: Follower,
}

impl Rbac {
    /// Starts to follow the stored roles and bindings, in tasks that end when the value is dropped.
    /// Until [`Rbac::synced`] it knows nothing and allows nobody but `system:masters`.
    pub fn start(reader: &dyn ObjectReader) -> Self {
        let index = Arc::new(RwLock::new(Index::default()));
        let mut follower = Follower::new();
        let mut follow = |resource: &str, apply: fn(&mut Index, RawEvent)| {
            let index = index.clone();
            follower.follow(reader, GROUP, resource, move |event| {
                apply(&mut index.write(), event);
            });
        };
        follow("roles", Index::apply_role);
        follow("clusterroles", Index::apply_cluster_role);
        follow("rolebindings", |index, event| {
            index.apply_binding(false, event);
        });
        follow("clusterrolebindings", |index, event| {
            index.apply_binding(true, event);
        });
        Rbac { index, follower }
    }

    /// Waits until all that is stored is known.
    pub async fn synced(&self) {
        self.follower.synced().await;
    }

    /// The rules that the user has in the namespace (empty: in the cluster as a whole), and why
    /// some cannot be had.
    pub fn rules_for(&self, user: &Identity, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        self.index.read().visit(user, namespace, |found| {
            match found {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(error) => errors.push(error),
            }
            true
        });
        // They need no binding, but usually have one to `cluster-admin`.
        if user.in_group(MASTERS) && !everything().iter().all(|rule| rules.contains(rule)) {
            rules.extend(everything());
        }
        (rules, errors)
    }

    /// The rules of a role, or why there are none.
    pub(crate) fn rules_of(
        &self,
        kind: &str,
        name: &str,
        namespace: &str,
    ) -> Result<Arc<[PolicyRule]>, String> {
        let role = index::RoleRef {
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        self.index.read().rules_of(&role, namespace).cloned()
    }
}

pub(super) fn everything() -> [PolicyRule; 2] {
    let all = || Some(vec!["*".to_owned()]);
    [
        PolicyRule {
            api_groups: all(),
            resources: all(),
            verbs: vec!["*".to_owned()],
            ..PolicyRule::default()
        },
        PolicyRule {
            non_resource_urls: all(),
            verbs: vec!["*".to_owned()],
            ..PolicyRule::default()
        },
    ]
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow;
        }
        let mut allowed = false;
        let mut errors = Vec::new();
        self.index
            .read()
            .visit(attributes.user, attributes.namespace, |found| {
                match found {
                    Ok(rules) => allowed = rules.iter().any(|rule| allows(rule, attributes)),
                    Err(error) => errors.push(error),
                }
                !allowed
            });
        if allowed {
            return Decision::Allow;
        }
        let errors = aggregate(&errors).map(|errors| format!("RBAC: {errors}"));
        Decision::unsaid(errors.unwrap_or_default())
    }

    async fn explain(&self, attributes: &Attributes<'_>) -> String {
        if attributes.user.in_group(MASTERS) {
            return String::new();
        }
        let index = self.index.read();
        let source = index.source(attributes.user, attributes.namespace, |rules| {
            rules.iter().any(|rule| allows(rule, attributes))
        });
        source.map_or_else(String::new, |source| format!("RBAC: allowed by {source}"))
    }

    fn rules(&self, user: &Identity, namespace: &str) -> KnownRules {
        let (rules, errors) = self.rules_for(user, namespace);
        KnownRules {
            rules,
            incomplete: false,
            errors,
        }
    }
}

#[cfg(test)]
mod tests;

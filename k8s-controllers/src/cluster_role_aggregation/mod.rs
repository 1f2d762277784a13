//! ClusterRole aggregation: a role with an `aggregationRule` has the rules of the roles that it selects.
//!
//! Mirrors upstream's `pkg/controller/clusterroleaggregation`. See
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::{
    Api, Client,
    api::PostParams,
    core::{Selector, SelectorExt},
};

use crate::{
    Error,
    common::{context::Context, owner},
    error::is_not_found,
    runtime::{Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

pub(crate) struct Aggregation {
    client: Client,
    roles: Informer<ClusterRole>,
}

/// The one key: every change of a role is a reason to look at all of them, for they are few.
fn all_roles() -> ObjectKey {
    ObjectKey::new("", "clusterroles")
}

/// The controller, its handlers in place. It has one key.
pub(crate) fn controller(context: &Context) -> Controller<Aggregation> {
    let reconciler = Aggregation {
        client: context.client.clone(),
        roles: context.informers.informer(),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.roles.add_handler(move |_| adds.add(all_roles()));
    let ready = reconciler.roles.synced();
    Controller::new("clusterrole-aggregation-controller", reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

/// The rules that the role is to have; `None` when it has them, or is not aggregated. The pure core.
fn wanted(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let rule = role.aggregation_rule.as_ref()?;
    let mut sorted: Vec<&ClusterRole> = all.iter().map(Arc::as_ref).collect();
    sorted.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        // Validation lets no others through.
        let Ok(selector) = Selector::try_from(selector.clone()) else {
            continue;
        };
        for other in &sorted {
            let labels = other.metadata.labels.clone().unwrap_or_default();
            if other.metadata.name == role.metadata.name || !selector.matches(&labels) {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

impl Reconciler for Aggregation {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, _key: ObjectKey) -> Result<Requeue, Error> {
        let all = self.roles.list();
        let api = Api::<ClusterRole>::all(self.client.clone());
        let mut errors = Vec::new();
        for role in &all {
            let Some(rules) = wanted(role, &all) else {
                continue;
            };
            let mut role = ClusterRole::clone(role);
            role.rules = Some(rules);
            let name = owner::name(&role.metadata).to_owned();
            match api.replace(&name, &PostParams::default(), &role).await {
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
    use serde_json::json;

    use super::*;

    fn role(value: serde_json::Value) -> Arc<ClusterRole> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn rules_of_selected_roles_are_taken_once_and_in_order_of_names() {
        let rule =
            |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let labels = json!({"aggregate": "yes"});
        let sum = role(json!({
            "metadata": {"name": "sum", "labels": labels},
            "aggregationRule": {"clusterRoleSelectors": [
                {"matchLabels": {"aggregate": "yes"}}, {"matchExpressions": [{"key": "aggregate", "operator": "Exists"}]},
            ]},
            "rules": [rule("stale")],
        }));
        let b = role(
            json!({"metadata": {"name": "b", "labels": labels}, "rules": [rule("pods"), rule("nodes")]}),
        );
        let a =
            role(json!({"metadata": {"name": "a", "labels": labels}, "rules": [rule("nodes")]}));
        let other = role(json!({"metadata": {"name": "other"}, "rules": [rule("secrets")]}));
        let all = [sum.clone(), b, a, other.clone()];
        let rules = wanted(&sum, &all).unwrap();
        let resources: Vec<_> = rules.iter().map(|r| r.resources.clone().unwrap()).collect();
        assert_eq!(resources, [["nodes"], ["pods"]]);
        let mut right = ClusterRole::clone(&sum);
        right.rules = Some(rules);
        assert_eq!(wanted(&right, &all), None);
        assert_eq!(wanted(&other, &all), None);
    }
}

//! Roles and bindings in memory, found by subject.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use k8s_openapi::{
    api::rbac::v1::{AggregationRule, PolicyRule},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    admission::reader::RawEvent,
    auth::{Identity, SERVICE_ACCOUNT_PREFIX},
};

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRole {
    metadata: Meta,
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredBinding {
    metadata: Meta,
    role_ref: RoleRef,
    subjects: Option<Vec<StoredSubject>>,
}

/// The role that a binding grants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct RoleRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct StoredSubject {
    kind: String,
    name: String,
    namespace: Option<String>,
}

/// Somebody to whom a binding grants its role. A service account is the user that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
}

type Key = (String, String);

#[derive(Debug, Default)]
struct ClusterRole {
    labels: BTreeMap<String, String>,
    selectors: Option<Vec<LabelSelector>>,
    own: Arc<[PolicyRule]>,
    /// What the selectors find, once somebody has asked since a role changed.
    found: OnceLock<Arc<[PolicyRule]>>,
}

/// The bindings of one namespace (or of the cluster) by subject.
#[derive(Debug, Default)]
struct BySubject {
    users: HashMap<String, Granted>,
    groups: HashMap<String, Granted>,
}

/// The names of bindings and what they grant.
type Granted = Vec<(String, RoleRef)>;

impl BySubject {
    fn of(&mut self, subject: &Subject) -> (&mut HashMap<String, Granted>, String) {
        match subject {
            Subject::User(name) => (&mut self.users, name.clone()),
            Subject::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    fn add(&mut self, subject: &Subject, binding: &str, role: &RoleRef) {
        let (map, name) = self.of(subject);
        map.entry(name)
            .or_default()
            .push((binding.to_owned(), role.clone()));
    }

    fn remove(&mut self, subject: &Subject, binding: &str) {
        let (map, name) = self.of(subject);
        if let Some(granted) = map.get_mut(&name) {
            granted.retain(|(of, _)| of != binding);
            if granted.is_empty() {
                map.remove(&name);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// What the user is granted, directly or by a group.
    fn granted<'a>(&'a self, user: &Identity) -> impl Iterator<Item = &'a RoleRef> {
        let groups = user.groups.iter().filter_map(|g| self.groups.get(g));
        self.users
            .get(&user.name)
            .into_iter()
            .chain(groups)
            .flatten()
            .map(|(_, role)| role)
    }

    /// What the user is granted, by which binding, and as whom in upstream's words.
    fn grants<'a>(
        &'a self,
        user: &'a Identity,
    ) -> impl Iterator<Item = (&'a str, &'a RoleRef, String)> {
        let as_user = move || match user.as_service_account() {
            Some((namespace, name)) => {
                format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
            None => format!("User {:?}", user.name),
        };
        let own = self.users.get(&user.name).into_iter().flatten();
        let own = own.map(move |(binding, role)| (binding.as_str(), role, as_user()));
        let groups = user.groups.iter().flat_map(|group| {
            let granted = self.groups.get(group).into_iter().flatten();
            granted.map(move |(binding, role)| (binding.as_str(), role, format!("Group {group:?}")))
        });
        own.chain(groups)
    }
}

/// All roles and bindings. The namespace of what belongs to the cluster is empty.
#[derive(Debug, Default)]
pub(crate) struct Index {
    roles: HashMap<Key, Arc<[PolicyRule]>>,
    cluster_roles: BTreeMap<String, ClusterRole>,
    /// Whom each binding is about.
    bindings: HashMap<Key, Vec<Subject>>,
    by_subject: HashMap<String, BySubject>,
}

fn decode<T: DeserializeOwned>(json: &Bytes, what: &str) -> Option<T> {
    serde_json::from_slice(json)
        .inspect_err(|error| tracing::error!(%error, what, "stored object cannot be decoded"))
        .ok()
}

impl Index {
    pub(crate) fn apply_role(&mut self, event: RawEvent) {
        match event {
            RawEvent::Snapshot(all) => {
                self.roles.clear();
                for json in &all {
                    self.put_role(json);
                }
            }
            RawEvent::Applied(json) => self.put_role(&json),
            RawEvent::Deleted(json) => {
                if let Some(role) = decode::<StoredRole>(&json, "role") {
                    self.roles
                        .remove(&(role.metadata.namespace, role.metadata.name));
                }
            }
        }
    }

    fn put_role(&mut self, json: &Bytes) {
        if let Some(role) = decode::<StoredRole>(json, "role") {
            self.roles.insert(
                (role.metadata.namespace, role.metadata.name),
                role.rules.unwrap_or_default().into(),
            );
        }
    }

    pub(crate) fn apply_cluster_role(&mut self, event: RawEvent) {
        match event {
            RawEvent::Snapshot(all) => {
                self.cluster_roles.clear();
                for json in &all {
                    self.put_cluster_role(json);
                }
            }
            RawEvent::Applied(json) => self.put_cluster_role(&json),
            RawEvent::Deleted(json) => {
                if let Some(role) = decode::<StoredRole>(&json, "clusterrole") {
                    self.cluster_roles.remove(&role.metadata.name);
                }
            }
        }
        for role in self.cluster_roles.values_mut() {
            role.found.take();
        }
    }

    fn put_cluster_role(&mut self, json: &Bytes) {
        if let Some(role) = decode::<StoredRole>(json, "clusterrole") {
            self.cluster_roles.insert(
                role.metadata.name,
                ClusterRole {
                    labels: role.metadata.labels,
                    selectors: role
                        .aggregation_rule
                        .map(|rule| rule.cluster_role_selectors.unwrap_or_default()),
                    own: role.rules.unwrap_or_default().into(),
                    found: OnceLock::new(),
                },
            );
        }
    }

    /// The rules of a role: its own, or those of the roles that it is made of.
    ///
    /// Upstream a controller writes the latter into the role; here they hold at once, whether or not such
    /// a controller runs. They are worked out when they are asked for: many roles come at once, and few are made of
    /// others.
    fn cluster_role_rules(&self, name: &str) -> Option<&Arc<[PolicyRule]>> {
        let role = self.cluster_roles.get(name)?;
        if role.selectors.is_none() {
            return Some(&role.own);
        }
        Some(role.found.get_or_init(|| {
            let mut rules = Vec::new();
            self.collect(name, &mut BTreeSet::new(), &mut rules);
            rules.into()
        }))
    }

    fn collect<'a>(
        &'a self,
        name: &'a str,
        seen: &mut BTreeSet<&'a str>,
        rules: &mut Vec<PolicyRule>,
    ) {
        let Some(role) = self.cluster_roles.get(name) else {
            return;
        };
        if !seen.insert(name) {
            return;
        }
        let Some(selectors) = &role.selectors else {
            for rule in role.own.iter() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            return;
        };
        for (other, candidate) in &self.cluster_roles {
            if selectors.iter().any(|s| selects(s, &candidate.labels)) {
                self.collect(other, seen, rules);
            }
        }
    }

    /// For role bindings, and for those of the cluster (whose namespace is empty).
    pub(crate) fn apply_binding(&mut self, cluster: bool, event: RawEvent) {
        match event {
            RawEvent::Snapshot(all) => {
                let stale: Vec<Key> = self
                    .bindings
                    .keys()
                    .filter(|(namespace, _)| namespace.is_empty() == cluster)
                    .cloned()
                    .collect();
                for key in stale {
                    self.remove_binding(&key);
                }
                for json in &all {
                    self.put_binding(json);
                }
            }
            RawEvent::Applied(json) => self.put_binding(&json),
            RawEvent::Deleted(json) => {
                if let Some(binding) = decode::<StoredBinding>(&json, "rolebinding") {
                    self.remove_binding(&(binding.metadata.namespace, binding.metadata.name));
                }
            }
        }
    }

    fn put_binding(&mut self, json: &Bytes) {
        let Some(binding) = decode::<StoredBinding>(json, "rolebinding") else {
            return;
        };
        let (namespace, name) = (binding.metadata.namespace, binding.metadata.name);
        let mut subjects: Vec<Subject> = Vec::new();
        for subject in binding.subjects.unwrap_or_default() {
            let subject = match subject.kind.as_str() {
                "User" => Subject::User(subject.name),
                "Group" => Subject::Group(subject.name),
                "ServiceAccount" => {
                    let of = subject.namespace.filter(|n| !n.is_empty());
                    let of = of.as_deref().unwrap_or(&namespace);
                    if of.is_empty() {
                        continue;
                    }
                    Subject::User(format!("{SERVICE_ACCOUNT_PREFIX}{of}:{}", subject.name))
                }
                _ => continue,
            };
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        let key = (namespace, name);
        self.remove_binding(&key);
        let by_subject = self.by_subject.entry(key.0.clone()).or_default();
        for subject in &subjects {
            by_subject.add(subject, &key.1, &binding.role_ref);
        }
        self.bindings.insert(key, subjects);
    }

    fn remove_binding(&mut self, key: &Key) {
        let Some(subjects) = self.bindings.remove(key) else {
            return;
        };
        let Some(by_subject) = self.by_subject.get_mut(&key.0) else {
            return;
        };
        for subject in &subjects {
            by_subject.remove(subject, &key.1);
        }
        if by_subject.is_empty() {
            self.by_subject.remove(&key.0);
        }
    }

    /// The rules of the role; an error text, as upstream has it, if there is no such role.
    pub(crate) fn rules_of(
        &self,
        role: &RoleRef,
        namespace: &str,
    ) -> Result<&Arc<[PolicyRule]>, String> {
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_role_rules(&role.name).ok_or_else(|| {
                format!(
                    "clusterrole.rbac.authorization.k8s.io {:?} not found",
                    role.name
                )
            }),
            "Role" => self
                .roles
                .get(&(namespace.to_owned(), role.name.clone()))
                .ok_or_else(|| format!("role.rbac.authorization.k8s.io {:?} not found", role.name)),
            other => Err(format!("unsupported role reference kind: {other:?}")),
        }
    }

    /// Shows each set of rules that the user has in the namespace (none: in the cluster as a whole), or
    /// why it cannot be had, until the visitor answers false.
    pub(crate) fn visit<'a>(
        &'a self,
        user: &Identity,
        namespace: &str,
        mut visitor: impl FnMut(Result<&'a Arc<[PolicyRule]>, String>) -> bool,
    ) {
        let scopes = if namespace.is_empty() {
            [Some(""), None]
        } else {
            [Some(""), Some(namespace)]
        };
        let mut seen: Vec<&RoleRef> = Vec::new();
        for scope in scopes.into_iter().flatten() {
            let Some(by_subject) = self.by_subject.get(scope) else {
                continue;
            };
            seen.clear();
            for role in by_subject.granted(user) {
                if seen.contains(&role) {
                    continue;
                }
                seen.push(role);
                if !visitor(self.rules_of(role, scope)) {
                    return;
                }
            }
        }
    }
}

impl Index {
    /// The binding by which the user has rules that `allowed` takes, in upstream's words.
    pub(crate) fn source(
        &self,
        user: &Identity,
        namespace: &str,
        allowed: impl Fn(&[PolicyRule]) -> bool,
    ) -> Option<String> {
        let scopes = [Some(""), Some(namespace).filter(|n| !n.is_empty())];
        scopes.into_iter().flatten().find_map(|scope| {
            let by_subject = self.by_subject.get(scope)?;
            let (binding, role, subject) = by_subject
                .grants(user)
                .find(|(_, role, _)| self.rules_of(role, scope).is_ok_and(|r| allowed(r)))?;
            let binding = match scope {
                "" => format!("ClusterRoleBinding {binding:?}"),
                scope => format!("RoleBinding {:?}", format!("{binding}/{scope}")),
            };
            Some(format!(
                "{binding} of {} {:?} to {subject}",
                role.kind, role.name
            ))
        })
    }
}

/// Whether the labels are what the selector wants. An empty selector selects everything.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let value = labels.get(&wanted.key);
            let among =
                || value.is_some_and(|v| wanted.values.as_ref().is_some_and(|all| all.contains(v)));
            match wanted.operator.as_str() {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

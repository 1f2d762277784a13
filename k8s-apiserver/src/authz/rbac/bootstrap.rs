//! The roles and bindings that every cluster starts with.
//!
//! They are data, in `policy.txt` beside this file. [`reconcile`] makes what is missing and adds what
//! was taken away, as upstream's API server does at every start; it leaves alone what has been
//! annotated `rbac.authorization.kubernetes.io/autoupdate: "false"`.

use std::sync::LazyLock;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{
        core::v1::Namespace,
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{GROUP, rules};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Writes at once: they share the store's syncs.
const PARALLEL: usize = 64;

/// Everything that a cluster starts with.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Roles of the cluster.
    pub cluster_roles: Vec<ClusterRole>,
    /// Roles in `kube-system` and `kube-public`.
    pub roles: Vec<Role>,
    /// Bindings of the cluster.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// Bindings in `kube-system` and `kube-public`.
    pub role_bindings: Vec<RoleBinding>,
}

static POLICY: LazyLock<Policy> =
    LazyLock::new(|| parse(include_str!("policy.txt")).expect("policy.txt is checked by a test"));

/// Everything that a cluster starts with.
pub fn policy() -> &'static Policy {
    &POLICY
}

fn parse(text: &str) -> Result<Policy, String> {
    let mut objects: Vec<Value> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        if line.is_empty() {
            continue;
        }
        if let Some(detail) = line.strip_prefix("  ") {
            let object = objects.last_mut().ok_or("a detail of nothing")?;
            add(object, detail).ok_or_else(|| format!("malformed line {line:?}"))?;
        } else {
            objects.push(begin(line).ok_or_else(|| format!("malformed line {line:?}"))?);
        }
    }
    aggregate(&mut objects);
    let mut policy = Policy::default();
    for object in objects {
        let into = |e: serde_json::Error| e.to_string();
        match object["kind"].as_str().unwrap_or_default() {
            "ClusterRole" => policy.cluster_roles.push(decode(object).map_err(into)?),
            "Role" => policy.roles.push(decode(object).map_err(into)?),
            "ClusterRoleBinding" => policy
                .cluster_role_bindings
                .push(decode(object).map_err(into)?),
            _ => policy.role_bindings.push(decode(object).map_err(into)?),
        }
    }
    Ok(policy)
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}

fn begin(line: &str) -> Option<Value> {
    let (head, role) = match line.split_once(" -> ") {
        Some((head, role)) => (head, Some(role)),
        None => (line, None),
    };
    let (what, name) = head.split_once(' ')?;
    let (namespace, name) = match what {
        "role" | "rolebinding" => name.split_once('/')?,
        _ => ("", name),
    };
    let kind = match what {
        "clusterrole" => "ClusterRole",
        "role" => "Role",
        "clusterrolebinding" => "ClusterRoleBinding",
        "rolebinding" => "RoleBinding",
        _ => return None,
    };
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "annotations": { AUTOUPDATE: "true" },
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    match role {
        None => object["rules"] = json!([]),
        Some(role) => {
            let (kind, name) = match (what, role.split_once(' ')) {
                ("rolebinding", Some(("role", name))) => ("Role", name),
                ("rolebinding", Some(("clusterrole", name))) => ("ClusterRole", name),
                ("clusterrolebinding", None) => ("ClusterRole", role),
                _ => return None,
            };
            object["roleRef"] = json!({ "apiGroup": GROUP, "kind": kind, "name": name });
        }
    }
    Some(object)
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn add(object: &mut Value, detail: &str) -> Option<()> {
    let (what, rest) = detail.split_once(' ')?;
    let push = |list: &mut Value, item: Value| {
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().map(|list| list.push(item))
    };
    match what {
        "aggregate-to" => {
            object["metadata"]["labels"][aggregation_label(rest)] = "true".into();
            Some(())
        }
        "aggregated" => {
            object["aggregationRule"] = json!({
                "clusterRoleSelectors": [{ "matchLabels": { aggregation_label(rest): "true" } }],
            });
            Some(())
        }
        "urls" => {
            let (verbs, paths) = rest.split_once(": ")?;
            let verbs: Vec<&str> = verbs.split(',').collect();
            push(
                &mut object["rules"],
                json!({ "nonResourceURLs": words(paths), "verbs": verbs }),
            )
        }
        "allow" => {
            let mut parts = rest.splitn(4, ": ");
            let verbs: Vec<&str> = parts.next()?.split(',').collect();
            let groups: Vec<&str> = words(parts.next()?)
                .into_iter()
                .map(|g| if g == "core" { "" } else { g })
                .collect();
            let mut rule =
                json!({ "apiGroups": groups, "resources": words(parts.next()?), "verbs": verbs });
            if let Some(names) = parts.next() {
                rule["resourceNames"] = json!(words(names));
            }
            push(&mut object["rules"], rule)
        }
        "to" => {
            let subject = match rest.split_once(' ')? {
                ("user", name) => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
                ("group", name) => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
                ("account", name) => {
                    let (namespace, name) = name.split_once('/')?;
                    json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
                }
                _ => return None,
            };
            push(&mut object["subjects"], subject)
        }
        _ => None,
    }
}

fn aggregation_label(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

/// Gives the roles that are made of others the rules of those, so that they can be read in the role.
fn aggregate(objects: &mut [Value]) {
    // A part may itself be made of others: `edit` of `view`, `admin` of both.
    for target in ["view", "edit", "admin"] {
        let label = aggregation_label(target);
        let rules: Vec<Value> = objects
            .iter()
            .filter(|o| o["metadata"]["labels"][&label] == "true")
            .filter_map(|o| o["rules"].as_array())
            .flatten()
            .cloned()
            .collect();
        let role = objects
            .iter_mut()
            .find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == target);
        if let Some(role) = role {
            let mut distinct: Vec<Value> = Vec::new();
            for rule in rules {
                if !distinct.contains(&rule) {
                    distinct.push(rule);
                }
            }
            role["rules"] = Value::Array(distinct);
        }
    }
}

/// What a stored object needs to be as wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Update,
    /// The part that differs cannot be changed.
    Replace,
}

fn add_metadata(have: &mut ObjectMeta, want: &ObjectMeta) -> Need {
    let mut need = Need::Nothing;
    for (have, want) in [
        (&mut have.labels, &want.labels),
        (&mut have.annotations, &want.annotations),
    ] {
        for (key, value) in want.iter().flatten() {
            let have = have.get_or_insert_default();
            if have.get(key) != Some(value) {
                have.insert(key.clone(), value.clone());
                need = Need::Update;
            }
        }
    }
    need
}

fn add_rules(have: &mut Option<Vec<PolicyRule>>, want: &Option<Vec<PolicyRule>>) -> Need {
    let have = have.get_or_insert_default();
    let missing = rules::uncovered(have, want.as_deref().unwrap_or_default());
    if missing.is_empty() {
        return Need::Nothing;
    }
    have.extend(rules::compact(missing));
    Need::Update
}

fn add_items<T: Clone + PartialEq>(have: &mut Option<Vec<T>>, want: &Option<Vec<T>>) -> Need {
    let mut need = Need::Nothing;
    for item in want.iter().flatten() {
        let have = have.get_or_insert_default();
        if !have.contains(item) {
            have.push(item.clone());
            need = Need::Update;
        }
    }
    need
}

fn either(needs: &[Need]) -> Need {
    *needs
        .iter()
        .max_by_key(|need| **need as u8)
        .unwrap_or(&Need::Nothing)
}

/// Makes what is missing, and adds what was taken away. Safe to run at every start, from several
/// servers at once.
///
/// The client must be a member of `system:masters`.
///
/// # Errors
/// The first write that fails, other than for having been made by somebody else meanwhile.
pub async fn reconcile(client: &Client) -> Result<(), kube::Error> {
    let policy = policy();
    let cluster = async {
        settle(
            Api::<ClusterRole>::all(client.clone()),
            policy.cluster_roles.iter().collect(),
            |have, want| {
                let selectors = match (&mut have.aggregation_rule, &want.aggregation_rule) {
                    (_, None) => Need::Nothing,
                    (Some(have), Some(want)) => add_items(
                        &mut have.cluster_role_selectors,
                        &want.cluster_role_selectors,
                    ),
                    (have, Some(want)) => {
                        *have = Some(want.clone());
                        Need::Update
                    }
                };
                either(&[
                    add_metadata(&mut have.metadata, &want.metadata),
                    add_rules(&mut have.rules, &want.rules),
                    selectors,
                ])
            },
        )
        .await?;
        settle(
            Api::<ClusterRoleBinding>::all(client.clone()),
            policy.cluster_role_bindings.iter().collect(),
            |have, want| {
                if have.role_ref != want.role_ref {
                    return Need::Replace;
                }
                either(&[
                    add_metadata(&mut have.metadata, &want.metadata),
                    add_items(&mut have.subjects, &want.subjects),
                ])
            },
        )
        .await
    };
    let namespaced = async {
        let namespaces: Vec<Namespace> = ["kube-public", "kube-system"]
            .map(|name| Namespace {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                },
                ..Namespace::default()
            })
            .into();
        settle(
            Api::<Namespace>::all(client.clone()),
            namespaces.iter().collect(),
            |_, _| Need::Nothing,
        )
        .await?;
        for namespace in ["kube-public", "kube-system"] {
            let within = |meta: &ObjectMeta| meta.namespace.as_deref() == Some(namespace);
            settle(
                Api::<Role>::namespaced(client.clone(), namespace),
                policy
                    .roles
                    .iter()
                    .filter(|r| within(&r.metadata))
                    .collect(),
                |have, want| {
                    either(&[
                        add_metadata(&mut have.metadata, &want.metadata),
                        add_rules(&mut have.rules, &want.rules),
                    ])
                },
            )
            .await?;
            settle(
                Api::<RoleBinding>::namespaced(client.clone(), namespace),
                policy
                    .role_bindings
                    .iter()
                    .filter(|r| within(&r.metadata))
                    .collect(),
                |have, want| {
                    if have.role_ref != want.role_ref {
                        return Need::Replace;
                    }
                    either(&[
                        add_metadata(&mut have.metadata, &want.metadata),
                        add_items(&mut have.subjects, &want.subjects),
                    ])
                },
            )
            .await?;
        }
        Ok(())
    };
    futures::try_join!(cluster, namespaced).map(|_| ())
}

async fn settle<K>(
    api: Api<K>,
    wanted: Vec<&K>,
    merge: impl Fn(&mut K, &K) -> Need + Copy,
) -> Result<(), kube::Error>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + serde::Serialize,
{
    let mut stored: std::collections::HashMap<String, K> = api
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|object| Some((object.meta().name.clone()?, object)))
        .collect();
    let work: Vec<(&K, Option<K>)> = wanted
        .into_iter()
        .map(|want| {
            let have = want.meta().name.as_ref().and_then(|n| stored.remove(n));
            (want, have)
        })
        .collect();
    stream::iter(work)
        .map(Ok)
        .try_for_each_concurrent(PARALLEL, |(want, have)| {
            let api = &api;
            async move { one(api, want, have, merge).await }
        })
        .await
}

async fn one<K>(
    api: &Api<K>,
    want: &K,
    have: Option<K>,
    merge: impl Fn(&mut K, &K) -> Need,
) -> Result<(), kube::Error>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + serde::Serialize,
{
    let name = want.meta().name.as_deref().unwrap_or_default();
    let outcome = match have {
        None => api.create(&PostParams::default(), want).await.map(|_| ()),
        Some(mut have) => {
            let frozen = have
                .meta()
                .annotations
                .as_ref()
                .and_then(|a| a.get(AUTOUPDATE))
                .is_some_and(|value| value == "false");
            match merge(&mut have, want) {
                _ if frozen => Ok(()),
                Need::Nothing => Ok(()),
                Need::Update => api
                    .replace(name, &PostParams::default(), &have)
                    .await
                    .map(|_| ()),
                Need::Replace => {
                    api.delete(name, &DeleteParams::default()).await?;
                    api.create(&PostParams::default(), want).await.map(|_| ())
                }
            }
        }
    };
    match outcome {
        // Another server was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        outcome => outcome,
    }
}

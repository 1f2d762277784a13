//! ConfigMaps, Secrets, accounts, quotas and the grants of the group `rbac.authorization.k8s.io`.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::{
    column::{AGE, Column, NAME, text as column, wide},
    duration::since,
    view::{View, scalar, text},
};
use crate::kinds::checks;

fn age(meta: &ObjectMeta, now: Timestamp) -> Value {
    since(meta.creation_timestamp.as_ref().map(|time| time.0), now).into()
}

pub(super) const CONFIG_MAP: &[Column] = &[NAME, column("Data", "The number of its entries."), AGE];

pub(super) fn config_map(map: &ConfigMap, now: Timestamp) -> Vec<Value> {
    let entries = map.data.as_ref().map_or(0, |data| data.len())
        + map.binary_data.as_ref().map_or(0, |data| data.len());
    vec![
        checks::text(&map.metadata.name).into(),
        entries.into(),
        age(&map.metadata, now),
    ]
}

pub(super) const SECRET: &[Column] = &[
    NAME,
    column("Type", "What kind of secret it is."),
    column("Data", "The number of its entries."),
    AGE,
];

pub(super) fn secret(secret: &Secret, now: Timestamp) -> Vec<Value> {
    vec![
        checks::text(&secret.metadata.name).into(),
        checks::text(&secret.type_).into(),
        secret.data.as_ref().map_or(0, |data| data.len()).into(),
        age(&secret.metadata, now),
    ]
}

pub(super) const SERVICE_ACCOUNT: &[Column] =
    &[NAME, column("Secrets", "The number of its secrets."), AGE];

pub(super) fn service_account(view: &View) -> Vec<Value> {
    vec![view.name(), view.len("secrets").into(), view.age()]
}

pub(super) const RESOURCE_QUOTA: &[Column] = &[
    NAME,
    column(
        "Request",
        "What may be requested in the namespace, and what is.",
    ),
    column(
        "Limit",
        "What limits may sum up to in the namespace, and what they do.",
    ),
    AGE,
];

pub(super) fn resource_quota(view: &View) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = view.get("status").get("hard").and_then(Value::as_object);
    for (name, hard) in hard.into_iter().flatten() {
        let used = view
            .get("status")
            .get("used")
            .and_then(|used| used.get(name));
        let used = used.map_or("0".to_owned(), scalar);
        let to = if name.starts_with("limits.") {
            &mut limits
        } else {
            &mut requests
        };
        to.push(format!("{name}: {used}/{}", scalar(hard)));
    }
    vec![
        view.name(),
        requests.join(", ").into(),
        limits.join(", ").into(),
        view.age(),
    ]
}

pub(super) const ROLE_BINDING: &[Column] = &[
    NAME,
    column("Role", "The role that is granted."),
    AGE,
    wide("Users", "Users in the roleBinding"),
    wide("Groups", "Groups in the roleBinding"),
    wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
];

pub(super) fn role_binding(view: &View) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        view.list("subjects")
            .iter()
            .filter(|subject| text(subject, "kind") == kind)
            .map(|subject| match (kind, text(subject, "namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => {
                    format!("{namespace}/{}", text(subject, "name"))
                }
                _ => text(subject, "name").to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ")
            .into()
    };
    let role = format!(
        "{}/{}",
        view.text("roleRef.kind"),
        view.text("roleRef.name")
    );
    vec![
        view.name(),
        role.into(),
        view.age(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

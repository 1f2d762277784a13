//! Pod templates: telling them apart, and making a ReplicaSet from one.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::Value;

use super::HASH_LABEL;
use crate::common::{compat, owner};

/// Whether two templates mean the same pods. The hash label is ignored, because only a
/// ReplicaSet's template has it, and so is the difference between unset and empty.
pub(crate) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let (a, b) = (without_hash(a), without_hash(b));
    a == b || normal(&a) == normal(&b)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template
        .metadata
        .as_mut()
        .and_then(|metadata| metadata.labels.as_mut())
    {
        labels.remove(HASH_LABEL);
    }
    template
}

fn normal(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    prune(&mut value);
    value
}

/// Drops empty maps and lists, and what becomes empty by that. An empty object is kept where it is
/// a choice in itself (`emptyDir: {}`), which is wherever its parent is a list element or a union;
/// comparing two templates needs no such care, because both lose the same.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|key, value| match value {
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => {
                    !map.is_empty()
                        || !matches!(key.as_str(), "labels" | "annotations" | "metadata")
                }
                Value::Null => false,
                _ => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The hash of a template, as it appears in names and labels. Upstream hashes Go's dump of the
/// structure; any stable hash will do, because a ReplicaSet is found by comparing templates.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    if let Some(collisions) = collisions {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    let sum = bytes.iter().fold(0x811c_9dc5u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    safe_encode(&sum.to_string())
}

/// Upstream's `rand.SafeEncodeString`: no vowels, so no words.
fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes()
        .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]))
        .collect()
}

/// The Deployment's template.
pub(crate) fn of(deployment: &Deployment) -> PodTemplateSpec {
    compat::deployment_spec(deployment)
        .map(|spec| spec.template.clone())
        .unwrap_or_default()
}

/// A ReplicaSet for the Deployment's present template, without replicas.
pub(crate) fn new_replica_set(deployment: &Deployment, controller: OwnerReference) -> ReplicaSet {
    let mut template = of(deployment);
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count);
    let hash = hash(&template, collisions);
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let spec = compat::deployment_spec(deployment);
    let mut selector = spec.map(|spec| spec.selector.clone()).unwrap_or_default();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.clone());
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(format!("{}-{hash}", owner::name(&deployment.metadata)));
    set.metadata.namespace = deployment.metadata.namespace.clone();
    set.metadata.owner_references = Some(vec![controller]);
    set.metadata.labels = Some(labels);
    set.spec = compat::set(ReplicaSetSpec {
        replicas: Some(0),
        min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds),
        selector,
        template: Some(template),
    });
    set
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        let container = Container {
            image: Some(image.to_owned()),
            ..Default::default()
        };
        let mut template = PodTemplateSpec {
            spec: Some(PodSpec {
                containers: vec![container],
                ..Default::default()
            }),
            ..Default::default()
        };
        let labels = template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default();
        labels.insert("app".to_owned(), "web".to_owned());
        template
    }

    #[test]
    fn the_hash_label_and_empty_lists_make_no_difference() {
        let (a, mut b) = (template("nginx:1"), template("nginx:1"));
        b.metadata
            .as_mut()
            .unwrap()
            .labels
            .as_mut()
            .unwrap()
            .insert(HASH_LABEL.to_owned(), "x".to_owned());
        assert!(same(&a, &b));
        b.spec.as_mut().unwrap().volumes = Some(Vec::new());
        assert!(same(&a, &b));
        assert!(!same(&a, &template("nginx:2")));
    }

    #[test]
    fn the_hash_is_stable_safe_and_changes_with_template_and_collisions() {
        let first = hash(&template("nginx:1"), None);
        assert_eq!(first, hash(&template("nginx:1"), None));
        assert_ne!(first, hash(&template("nginx:2"), None));
        assert_ne!(first, hash(&template("nginx:1"), Some(1)));
        assert!(
            first.len() <= 10
                && first
                    .chars()
                    .all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)),
            "{first}"
        );
        // The digits 0 to 9 as upstream's own test vectors encode them.
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }
}

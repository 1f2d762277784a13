//! Validation of a pod, and of the pod template in another kind.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod, PodDNSConfig, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{containers, resources, scheduling, security, volumes, windows};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{
        blank, dns_label, dns_subdomain, list, messages, one_of, parse_ip, qualified_name,
        supported, text,
    },
    metadata, names,
};

/// Marks a pod that a node agent made of a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A new pod.
pub(super) fn create(pod: &Pod) -> ErrorList {
    let mut errors = metadata_and_spec(pod);
    let path = Path::new("spec");
    let Some(spec) = &pod.spec else {
        return errors;
    };
    if !list(&spec.ephemeral_containers).is_empty() {
        errors.push(field::forbidden(
            path.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
    if !blank(&spec.node_name) && !list(&spec.scheduling_gates).is_empty() {
        errors.push(field::forbidden(
            path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
    errors
}

/// What holds for every pod, new or not.
pub(super) fn metadata_and_spec(pod: &Pod) -> ErrorList {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let path = Path::new("spec");
    let mut errors = annotations(
        &pod.metadata,
        spec,
        &Path::new("metadata").child("annotations"),
    );
    errors.extend(pod_spec(spec, pod.metadata.name.as_deref(), &path));
    errors.extend(volumes::tokens_need_an_account(
        list(&spec.volumes),
        &spec.service_account_name,
        &path.child("volumes"),
    ));
    for (containers, name) in [
        (spec.containers.as_slice(), "containers"),
        (list(&spec.init_containers), "initContainers"),
    ] {
        for (index, container) in containers.iter().enumerate() {
            let image = text(&container.image);
            if image.trim() != image {
                errors.push(field::invalid(
                    path.child(name).index(index).child("image"),
                    image,
                    "must not have leading or trailing whitespace",
                ));
            }
        }
    }
    errors
}

/// Whether it stands for a pod that a node agent made of a file of its own.
pub(super) fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// The annotations that mean something for pods.
pub(super) fn annotations(meta: &ObjectMeta, spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let annotation = |name: &str| meta.annotations.as_ref().and_then(|map| map.get(name));
    if let Some(value) = annotation(MIRROR)
        && blank(&spec.node_name)
    {
        errors.push(field::invalid(
            path.key(MIRROR),
            value.as_str(),
            "must set spec.nodeName if mirror pod annotation is set",
        ));
    }
    if let Some(value) = annotation(DELETION_COST)
        && !is_deletion_cost(value)
    {
        errors.push(field::invalid(
            path.key(DELETION_COST),
            value.as_str(),
            "must be a 32bit integer",
        ));
    }
    errors
}

fn is_deletion_cost(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    !value.starts_with('+')
        && (digits == "0" || !digits.starts_with('0'))
        && value.parse::<i32>().is_ok()
}

/// The annotations that may not be added, removed or changed.
pub(super) fn annotation_updates(new: &Pod, old: &Pod, path: &Path) -> ErrorList {
    let empty = BTreeMap::new();
    let of = |pod: &Pod| {
        pod.metadata
            .annotations
            .as_ref()
            .unwrap_or(&empty)
            .get(MIRROR)
            .cloned()
    };
    match (of(old), of(new)) {
        (Some(old), new) if new.as_ref() != Some(&old) => vec![field::forbidden(
            path.key(MIRROR),
            "may not remove or update mirror pod annotation",
        )],
        (None, Some(_)) => vec![field::forbidden(
            path.key(MIRROR),
            "may not add mirror pod annotation",
        )],
        _ => ErrorList::new(),
    }
}

/// A pod's spec, or that of a template.
pub(super) fn pod_spec(spec: &PodSpec, pod_name: Option<&str>, path: &Path) -> ErrorList {
    let (volumes, mut errors) =
        volumes::volumes(list(&spec.volumes), pod_name, &path.child("volumes"));
    errors.extend(containers::containers(
        spec,
        &volumes,
        &path.child("containers"),
    ));
    errors.extend(containers::init_containers(
        spec,
        &volumes,
        &path.child("initContainers"),
    ));
    errors.extend(containers::ephemeral_containers(
        spec,
        &volumes,
        &path.child("ephemeralContainers"),
    ));
    errors.extend(one_of(
        text(&spec.restart_policy),
        &["Always", "OnFailure", "Never"],
        path.child("restartPolicy"),
    ));
    errors.extend(one_of(
        text(&spec.dns_policy),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path.child("dnsPolicy"),
    ));
    if let Some(selector) = &spec.node_selector {
        errors.extend(metadata::validate_labels(
            selector,
            &path.child("nodeSelector"),
        ));
    }
    errors.extend(security::pod(spec, path));
    if let Some(affinity) = &spec.affinity {
        errors.extend(scheduling::affinity(affinity, &path.child("affinity")));
    }
    errors.extend(dns_config(spec, &path.child("dnsConfig")));
    for (index, gate) in list(&spec.readiness_gates).iter().enumerate() {
        let path = path
            .child("readinessGates")
            .index(index)
            .child("conditionType");
        errors.extend(qualified_name(&gate.condition_type, path));
    }
    errors.extend(scheduling::gates(
        list(&spec.scheduling_gates),
        &path.child("schedulingGates"),
    ));
    errors.extend(scheduling::spreading(
        list(&spec.topology_spread_constraints),
        &path.child("topologySpreadConstraints"),
    ));
    errors.extend(windows::host_processes(spec, path));
    errors.extend(host_users(spec, path));
    for (name, value) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
    ] {
        let value = text(value);
        if !value.is_empty() {
            errors.extend(dns_subdomain(value, path.child(name)));
        }
    }
    if let Some(class) = &spec.runtime_class_name {
        errors.extend(dns_subdomain(class, path.child("runtimeClassName")));
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let wrong = names::in_range(seconds, 1, i64::from(i32::MAX));
        errors.extend(messages(
            &path.child("activeDeadlineSeconds"),
            seconds,
            wrong,
        ));
    }
    for (name, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        let value = text(value);
        if !value.is_empty() {
            errors.extend(dns_label(value, path.child(name)));
        }
    }
    errors.extend(scheduling::tolerations(
        list(&spec.tolerations),
        &path.child("tolerations"),
    ));
    errors.extend(host_aliases(spec, &path.child("hostAliases")));
    if let Some(policy) = &spec.preemption_policy {
        errors.extend(one_of(
            policy,
            &["PreemptLowerPriority", "Never"],
            path.child("preemptionPolicy"),
        ));
    }
    if let Some(overhead) = &spec.overhead {
        errors.extend(resources::limit_list(
            overhead,
            &path.child("overhead").child("limits"),
        ));
    }
    errors.extend(resources::requirements(
        &spec.resources,
        &path.child("resources"),
    ));
    if let Some(os) = &spec.os {
        let (spec_path, path) = (path, path.child("os"));
        if os.name.is_empty() {
            errors.push(field::required(path.child("name"), "cannot be empty"));
        } else {
            errors.extend(supported(&os.name, &["linux", "windows"], path));
        }
        errors.extend(windows::foreign_fields(spec, &os.name, spec_path));
    }
    errors
}

fn host_aliases(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        let path = path.index(index);
        if parse_ip(&alias.ip).is_none() {
            errors.push(field::invalid(
                path.child("ip"),
                alias.ip.as_str(),
                "must be valid IP address",
            ));
        }
        for (index, name) in list(&alias.hostnames).iter().enumerate() {
            errors.extend(dns_subdomain(name, path.child("hostnames").index(index)));
        }
    }
    errors
}

fn host_users(spec: &PodSpec, path: &Path) -> ErrorList {
    const DETAIL: &str = "when `hostUsers` is false";
    let mut errors = ErrorList::new();
    if spec.host_users != Some(false) {
        return errors;
    }
    for (set, name) in [
        (spec.host_network, "hostNetwork"),
        (spec.host_pid, "hostPID"),
        (spec.host_ipc, "hostIPC"),
    ] {
        if set == Some(true) {
            errors.push(field::forbidden(path.child(name), DETAIL));
        }
    }
    errors
}

fn dns_config(spec: &PodSpec, path: &Path) -> ErrorList {
    let none = text(&spec.dns_policy) == "None";
    let Some(config) = &spec.dns_config else {
        return if none {
            vec![field::required(
                path.clone(),
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )]
        } else {
            ErrorList::new()
        };
    };
    if none && list(&config.nameservers).is_empty() {
        return vec![field::required(
            path.child("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )];
    }
    dns_config_fields(config, path)
}

fn dns_config_fields(config: &PodDNSConfig, path: &Path) -> ErrorList {
    const SERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const SEARCH_CHARACTERS: usize = 2048;
    let mut errors = ErrorList::new();
    let (servers, searches) = (list(&config.nameservers), list(&config.searches));
    if servers.len() > SERVERS {
        errors.push(field::invalid(
            path.child("nameservers"),
            servers.to_vec(),
            format!("must not have more than {SERVERS} nameservers"),
        ));
    }
    for (index, server) in servers.iter().enumerate() {
        if parse_ip(server).is_none() {
            errors.push(field::invalid(
                path.child("nameservers").index(index),
                server.as_str(),
                "must be valid IP address",
            ));
        }
    }
    if searches.len() > SEARCHES {
        errors.push(field::invalid(
            path.child("searches"),
            searches.to_vec(),
            format!("must not have more than {SEARCHES} search paths"),
        ));
    }
    if searches.join(" ").len() > SEARCH_CHARACTERS {
        errors.push(field::invalid(
            path.child("searches"),
            searches.to_vec(),
            format!(
                "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
            ),
        ));
    }
    for (index, search) in searches.iter().enumerate() {
        if search == "." {
            continue;
        }
        let name = search.strip_suffix('.').unwrap_or(search);
        errors.extend(dns_subdomain(name, path.child("searches").index(index)));
    }
    for (index, option) in list(&config.options).iter().enumerate() {
        if blank(&option.name) {
            errors.push(field::required(
                path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
    errors
}

/// The pod template in another kind.
pub(crate) fn template(template: &PodTemplateSpec, path: &Path) -> ErrorList {
    let (no_meta, no_spec) = (ObjectMeta::default(), PodSpec::default());
    let meta = template.metadata.as_ref().unwrap_or(&no_meta);
    let spec = template.spec.as_ref().unwrap_or(&no_spec);
    let mut errors = ErrorList::new();
    if let Some(labels) = &meta.labels {
        errors.extend(metadata::validate_labels(labels, &path.child("labels")));
    }
    let at = path.child("annotations");
    if let Some(map) = &meta.annotations {
        errors.extend(metadata::validate_annotations(map, &at));
    }
    errors.extend(annotations(meta, spec, &at));
    let at = path.child("spec");
    errors.extend(pod_spec(spec, None, &at));
    if !list(&spec.ephemeral_containers).is_empty() {
        errors.push(field::forbidden(
            at.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

/// The template of a kind that keeps a number of pods running: it must match the selector and
/// restart always. The rest of it is looked at only if it is `checked`.
pub(crate) fn long_running_template(
    template: &PodTemplateSpec,
    matches: bool,
    checked: bool,
    what: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if !matches {
        let labels = template
            .metadata
            .as_ref()
            .and_then(|meta| meta.labels.as_ref());
        errors.push(field::invalid(
            path.child("metadata").child("labels"),
            labels.map(crate::kinds::checks::json).unwrap_or_default(),
            "`selector` does not match template `labels`",
        ));
    }
    if checked {
        errors.extend(self::template(template, path));
    }
    let Some(spec) = &template.spec else {
        return errors;
    };
    let at = path.child("spec");
    let policy = text(&spec.restart_policy);
    errors.extend(supported(policy, &["Always"], at.child("restartPolicy")));
    if spec.active_deadline_seconds.is_some() {
        errors.push(field::forbidden(
            at.child("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {what} is not Supported"),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::core::pod::{defaults, update};

    fn pod(patch: Value) -> Pod {
        let mut value = json!({"metadata": {"name": "a"}, "spec": {
            "containers": [{"name": "c", "image": "x:1"}]}});
        json_patch::merge(&mut value, &patch);
        let mut pod = serde_json::from_value(value).unwrap();
        defaults::pod(&mut pod);
        pod
    }

    fn found(patch: Value) -> Vec<String> {
        create(&pod(patch))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn changes(new: Value, old: Value) -> Vec<String> {
        update::update(&pod(new), &pod(old))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_plain_pod_is_valid() {
        assert_eq!(found(json!({})), [""; 0]);
    }

    #[test]
    fn a_pod_needs_containers_with_names_and_images() {
        assert_eq!(
            found(json!({"spec": {"containers": []}})),
            ["spec.containers: Required value"]
        );
        assert_eq!(
            found(json!({"spec": {"containers": [{"name": ""}]}})),
            [
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
            ]
        );
    }

    #[test]
    fn a_mount_names_a_volume_of_the_pod() {
        assert_eq!(
            found(json!({"spec": {"containers": [{"name": "c", "image": "x",
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}})),
            ["spec.containers[0].volumeMounts[0].name: Not found: \"v\""]
        );
    }

    #[test]
    fn a_probe_does_exactly_one_thing() {
        assert_eq!(
            found(json!({"spec": {"containers": [{"name": "c", "image": "x",
                "livenessProbe": {}}]}})),
            ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
        );
    }

    #[test]
    fn a_quantity_is_one() {
        assert_eq!(
            found(json!({"spec": {"containers": [{"name": "c", "image": "x",
                "resources": {"limits": {"cpu": "1Zi"}, "requests": {"cpu": "1"}}}]}})),
            [
                "spec.containers[0].resources.limits[cpu]: Invalid value: \"1Zi\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            ]
        );
    }

    #[test]
    fn a_toleration_without_key_tolerates_all() {
        let errors = found(json!({"spec": {"tolerations": [{"effect": "NoSchedule"}]}}));
        assert_eq!(
            errors,
            [
                r#"spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys""#
            ]
        );
    }

    #[test]
    fn an_update_may_change_the_image_and_little_else() {
        let image = json!({"spec": {"containers": [{"name": "c", "image": "y:1"}]}});
        assert_eq!(changes(image, json!({})), [""; 0]);
        let errors = changes(json!({"spec": {"hostname": "h"}}), json!({}));
        assert!(
            errors[0].starts_with(
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
            ),
            "{errors:?}"
        );
    }

    #[test]
    fn tolerations_are_only_added() {
        let with = json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}});
        assert_eq!(changes(with.clone(), json!({})), [""; 0]);
        assert_eq!(
            changes(json!({}), with),
            [
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
            ]
        );
    }
}

//! Validation of a pod, and of the pod template in another kind.

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    allowances::{Allowances, Before},
    annotations, claims,
    containers::{self, Around},
    dns, newer, pod_level, resources, scheduling, security, volumes, windows,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            blank, dns_label, dns_subdomain, list, messages, one_of, qualified_name, supported,
            text,
        },
        ip_fields,
    },
    metadata, names,
};

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
    errors.extend(annotations::match_fields(&pod.metadata, spec, &path));
    errors
}

/// What holds for every pod, new or not.
pub(super) fn metadata_and_spec(pod: &Pod) -> ErrorList {
    metadata_and_spec_of(pod, Allowances::default())
}

/// What holds for a pod that takes the place of another.
pub(super) fn changed(new: &Pod, old: &Pod) -> ErrorList {
    let of = |spec| Allowances::of(Some(&old.metadata), spec);
    let allowed = old.spec.as_ref().map(of);
    metadata_and_spec_of(new, allowed.unwrap_or_default())
}

fn metadata_and_spec_of(pod: &Pod, allowed: Allowances) -> ErrorList {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let path = Path::new("spec");
    let mut errors = annotations::validate(
        &pod.metadata,
        spec,
        allowed.deletion_cost,
        &Path::new("metadata").child("annotations"),
    );
    errors.extend(pod_spec(spec, Some(&pod.metadata), allowed, &path));
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
            let path = path.child(name).index(index);
            errors.extend(containers::trimmed_image(container, &path));
        }
    }
    errors
}

/// Whether it stands for a pod that a node agent made of a file of its own.
pub(super) fn is_mirror(pod: &Pod) -> bool {
    annotations::is_mirror(&pod.metadata)
}

/// A pod's spec, or that of a template.
fn pod_spec(
    spec: &PodSpec,
    pod: Option<&ObjectMeta>,
    allowed: Allowances,
    path: &Path,
) -> ErrorList {
    let (volumes, mut errors) = volumes::volumes(
        list(&spec.volumes),
        pod.and_then(|meta| meta.name.as_deref()),
        allowed,
        &path.child("volumes"),
    );
    errors.extend(claims::of_pod(
        list(&spec.resource_claims),
        pod.is_some_and(annotations::is_mirror),
        &path.child("resourceClaims"),
    ));
    let around = Around {
        spec,
        volumes: &volumes,
        claims: claims::names(spec),
        allowed,
    };
    errors.extend(containers::containers(&around, &path.child("containers")));
    errors.extend(containers::init_containers(
        &around,
        &path.child("initContainers"),
    ));
    errors.extend(containers::ephemeral_containers(
        &around,
        &path.child("ephemeralContainers"),
    ));
    errors.extend(pod_level::validate(
        spec,
        &around.claims,
        allowed.broken_pages,
        &path.child("resources"),
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
    errors.extend(security::pod(spec, allowed.host_sysctls, path));
    if let Some(affinity) = &spec.affinity {
        errors.extend(scheduling::affinity(
            affinity,
            allowed,
            &path.child("affinity"),
        ));
    }
    errors.extend(dns::dns_config(spec, &path.child("dnsConfig")));
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
        allowed,
        &path.child("topologySpreadConstraints"),
    ));
    errors.extend(windows::host_processes(spec, path));
    errors.extend(host_users(spec, allowed.host_network_users, path));
    if !allowed.mapped_devices {
        errors.extend(containers::mapped_devices(spec, path));
    }
    errors.extend(hostname_override(spec, &path.child("hostnameOverride")));
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
        allowed.comparisons,
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
        errors.extend(resources::overhead(
            overhead,
            allowed.broken_pages,
            &path.child("overhead").child("limits"),
        ));
    }
    if let Some(os) = &spec.os {
        let (spec_path, path) = (path, path.child("os"));
        if os.name.is_empty() {
            errors.push(field::required(path.child("name"), ""));
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
        let at = path.child("ip");
        errors.extend(ip_fields::legacy_ip(&alias.ip, ip_fields::NONE, at));
        for (index, name) in list(&alias.hostnames).iter().enumerate() {
            errors.extend(dns_subdomain(name, path.child("hostnames").index(index)));
        }
    }
    errors
}

/// What of the host a pod with a user namespace of its own may not have.
fn host_users(spec: &PodSpec, with_network: bool, path: &Path) -> ErrorList {
    const DETAIL: &str = "when `hostUsers` is false";
    let mut errors = ErrorList::new();
    if spec.host_users != Some(false) {
        return errors;
    }
    for (set, name) in [
        (spec.host_network.filter(|_| !with_network), "hostNetwork"),
        // So upstream spells them here.
        (spec.host_pid, "HostPID"),
        (spec.host_ipc, "HostIPC"),
    ] {
        if set == Some(true) {
            errors.push(field::forbidden(path.child(name), DETAIL));
        }
    }
    errors
}

/// A pod's own name for itself, which may be longer than a label.
fn hostname_override(spec: &PodSpec, path: &Path) -> ErrorList {
    const LONGEST: usize = 64;
    let mut errors = ErrorList::new();
    let Some(name) = newer::hostname_override(spec) else {
        return errors;
    };
    for (set, other) in [
        (spec.set_hostname_as_fqdn, "setHostnameAsFQDN"),
        (spec.host_network, "hostNetwork"),
    ] {
        if set == Some(true) {
            let text = format!("may not be specified when {other} is true");
            errors.push(field::forbidden(path.clone(), text));
        }
    }
    if name.len() > LONGEST {
        errors.push(field::too_long(path.clone(), LONGEST));
    }
    errors.extend(dns_subdomain(name, path.clone()));
    errors
}

/// The pod template in another kind, that may take the place of another template.
pub(crate) fn changed_template(
    template: &PodTemplateSpec,
    old: Before<'_>,
    path: &Path,
) -> ErrorList {
    let (no_meta, no_spec) = (ObjectMeta::default(), PodSpec::default());
    let meta = template.metadata.as_ref().unwrap_or(&no_meta);
    let spec = template.spec.as_ref().unwrap_or(&no_spec);
    let mut errors = template_metadata(template, old, path);
    let at = path.child("spec");
    let allowed = Allowances::of_template(old);
    errors.extend(pod_spec(spec, None, allowed, &at));
    errors.extend(annotations::match_fields(meta, spec, &at));
    if !list(&spec.ephemeral_containers).is_empty() {
        errors.push(field::forbidden(
            at.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

/// The labels and annotations of the pod template in another kind.
pub(crate) fn template_metadata(
    template: &PodTemplateSpec,
    old: Before<'_>,
    path: &Path,
) -> ErrorList {
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
    let any_cost = Allowances::of_template(old).deletion_cost;
    errors.extend(annotations::validate(meta, spec, any_cost, &at));
    errors
}

/// A check of the pod template in another kind, such as [`changed_template`] and [`template_metadata`].
pub(crate) type TemplateCheck = fn(&PodTemplateSpec, Before<'_>, &Path) -> ErrorList;

/// The template of a kind that keeps a number of pods running, that may take the place of another: it must match the
/// selector and restart always. Of the rest those `checks` are made.
pub(crate) fn changed_long_running_template(
    template: &PodTemplateSpec,
    old: Before<'_>,
    matches: bool,
    checks: &[TemplateCheck],
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
    let checks = checks.iter();
    errors.extend(checks.flat_map(|check| check(template, old, path)));
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

    #[test]
    fn what_was_stored_does_not_stand_in_the_way_of_updates() {
        let required = json!({"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}]});
        let keys = json!({"matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]});
        let init = json!([{"name": "i", "image": "x:1",
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]);
        let label = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        for (spec, expected) in [
            (
                json!({"hostNetwork": true,
                    "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}),
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true".to_owned(),
            ),
            (
                json!({"affinity": {"nodeAffinity":
                    {"requiredDuringSchedulingIgnoredDuringExecution": required}}}),
                format!("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"b c\": {label}"),
            ),
            (
                json!({"hostUsers": false, "hostNetwork": true}),
                "spec.hostNetwork: Forbidden: when `hostUsers` is false".to_owned(),
            ),
            (
                json!({"tolerations": [{"key": "k", "operator": "Gt", "value": "-5"}]}),
                r#"spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt""#.to_owned(),
            ),
            (
                json!({"initContainers": init}),
                "spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: \"RestartContainer\": must not be set to 'RestartContainer' for non-sidecar initContainers".to_owned(),
            ),
        ] {
            let bad = json!({"spec": spec});
            assert_eq!(found(bad.clone()), [expected]);
            let mut other = bad.clone();
            other["metadata"] = json!({"labels": {"a": "b"}});
            assert_eq!(changes(other, bad), [""; 0]);
        }
        // Where the key is said twice, the update has another rule.
        let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "t",
            "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"], "labelSelector": keys}]}});
        let constraint = "spec.topologySpreadConstraints[0]";
        let told = "[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector";
        assert_eq!(found(spread.clone()), [format!("{constraint}{told}")]);
        assert_eq!(
            changes(spread.clone(), spread),
            [format!("{constraint}.matchLabelKeys{told}")]
        );
    }

    #[test]
    fn what_was_stored_may_stay_where_it_is() {
        let cost = "controller.kubernetes.io/pod-deletion-cost";
        let pages = "Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi";
        let asked = json!({"limits": {"hugepages-2Mi": "3Mi", "memory": "1Gi"}});
        for (bad, expected) in [
            (
                json!({"metadata": {"annotations": {cost: "+1"}}}),
                vec![format!(
                    "metadata.annotations[{cost}]: Invalid value: \"+1\": must be a 32bit integer"
                )],
            ),
            (
                json!({"spec": {"initContainers": [{"name": "i", "image": "x:1", "resources": asked}]}}),
                ["limits", "requests"]
                    .map(|list| format!("spec.initContainers[0].resources.{list}[hugepages-2Mi]: {pages}"))
                    .into(),
            ),
            (
                json!({"spec": {"overhead": {"hugepages-2Mi": "3Mi"}}}),
                vec![format!("spec.overhead.limits[hugepages-2Mi]: {pages}")],
            ),
            (
                json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "t",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}}),
                vec!["spec.topologySpreadConstraints[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'".to_owned()],
            ),
            (
                json!({"spec": {"volumes": [{"name": "v", "image": {}}]}}),
                vec!["spec.volumes[0].image.reference: Required value".to_owned()],
            ),
            (
                json!({"spec": {"serviceAccountName": "s", "volumes": [{"name": "v",
                    "projected": {"sources": [{"serviceAccountToken": {"path": "..t"}}]}}]}}),
                vec!["spec.volumes[0].projected.path: Invalid value: \"..t\": must not start with '..'".to_owned()],
            ),
        ] {
            assert_eq!(found(bad.clone()), expected);
            let mut other = bad.clone();
            json_patch::merge(&mut other, &json!({"metadata": {"labels": {"a": "b"}}}));
            assert_eq!(changes(other, bad), [""; 0]);
        }
    }

    #[test]
    fn users_of_their_own_have_nothing_of_the_hosts() {
        let spec = json!({"spec": {"hostUsers": false, "hostPID": true, "hostIPC": true,
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}],
            "containers": [{"name": "c", "image": "x:1", "securityContext": {"procMount": "Unmasked"},
                "volumeDevices": [{"name": "v", "devicePath": "/v"}]}]}});
        let expected = ["HostPID", "HostIPC", "containers[0].volumeDevices"]
            .map(|at| format!("spec.{at}: Forbidden: when `hostUsers` is false"));
        assert_eq!(found(spec), expected);
    }

    #[test]
    fn a_pods_own_name_for_itself_is_short_and_its_own() {
        let errors = found(
            json!({"spec": {"hostNetwork": true, "setHostnameAsFQDN": true,
            "hostnameOverride": "a".repeat(65)}}),
        );
        let at = "spec.hostnameOverride";
        assert_eq!(
            errors,
            [
                format!("{at}: Forbidden: may not be specified when setHostnameAsFQDN is true"),
                format!("{at}: Forbidden: may not be specified when hostNetwork is true"),
                format!("{at}: Too long: may not be more than 64 bytes"),
            ]
        );
        let fine = json!({"spec": {"hostnameOverride": "a.b"}});
        assert_eq!(found(fine), [""; 0]);
    }

    #[test]
    fn hosts_have_addresses_that_all_read_alike() {
        let alias = |ip: &str| found(json!({"spec": {"hostAliases": [{"ip": ip}]}}));
        for good in ["10.0.0.1", "2001:DB8::1"] {
            assert_eq!(alias(good), [""; 0]);
        }
        for (bad, text) in [
            (
                "",
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ] {
            let told = format!("spec.hostAliases[0].ip: Invalid value: {bad:?}: {text}");
            assert_eq!(alias(bad), [told]);
        }
    }
}

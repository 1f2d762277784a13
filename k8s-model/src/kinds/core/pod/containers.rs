//! Validation of containers: ports, environment, mounts, probes, lifecycle.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvFromSource, EnvVar, EphemeralContainer, ExecAction,
        HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe,
        ResourceFieldSelector, Volume, VolumeDevice, VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{resources, security, volumes};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{
        PROTOCOLS, blank, dns_label, int_or_string, list, messages, non_negative, one_of,
        port_number, port_number_or_name, qualified_name, supported, text,
    },
    kinds::quantities,
    names,
};

/// The volumes that containers may mount, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];

/// The containers proper.
pub(super) fn containers(spec: &PodSpec, volumes: &Volumes<'_>, path: &Path) -> ErrorList {
    if spec.containers.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut errors = ErrorList::new();
    let mut names = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.index(index);
        errors.extend(container_common(container, volumes, &path));
        if !names.insert(container.name.as_str()) {
            errors.push(field::duplicate(
                path.child("name"),
                container.name.as_str(),
            ));
        }
        if let Some(policy) = &container.restart_policy {
            errors.extend(supported(
                policy,
                RESTART_POLICIES,
                path.child("restartPolicy"),
            ));
        }
        errors.extend(hooks_and_probes(container, spec, &path));
    }
    errors.extend(host_port_conflicts(&spec.containers, path));
    errors
}

/// The init containers.
pub(super) fn init_containers(spec: &PodSpec, volumes: &Volumes<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut names: BTreeSet<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    for (index, container) in list(&spec.init_containers).iter().enumerate() {
        let at = path.index(index);
        errors.extend(container_common(container, volumes, &at));
        if let Some(policy) = &container.restart_policy {
            errors.extend(supported(
                policy,
                RESTART_POLICIES,
                at.child("restartPolicy"),
            ));
        }
        if names.contains(container.name.as_str()) {
            errors.push(field::duplicate(at.child("name"), container.name.as_str()));
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        errors.extend(host_port_conflicts(std::slice::from_ref(container), path));
        if super::is_sidecar(container) {
            errors.extend(hooks_and_probes(container, spec, &at));
            continue;
        }
        for (set, name) in [
            (container.lifecycle.is_some(), "lifecycle"),
            (container.liveness_probe.is_some(), "livenessProbe"),
            (container.readiness_probe.is_some(), "readinessProbe"),
            (container.startup_probe.is_some(), "startupProbe"),
        ] {
            if set {
                errors.push(field::forbidden(
                    at.child(name),
                    "may not be set for init containers without restartPolicy=Always",
                ));
            }
        }
    }
    errors
}

/// The ephemeral containers.
pub(super) fn ephemeral_containers(
    spec: &PodSpec,
    volumes: &Volumes<'_>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let others: BTreeSet<&str> = spec
        .containers
        .iter()
        .chain(list(&spec.init_containers))
        .map(|container| container.name.as_str())
        .collect();
    let mut names = others.clone();
    for (index, ephemeral) in list(&spec.ephemeral_containers).iter().enumerate() {
        let path = path.index(index);
        let container = as_container(ephemeral);
        errors.extend(container_common(&container, volumes, &path));
        if !names.insert(&ephemeral.name) {
            errors.push(field::duplicate(
                path.child("name"),
                ephemeral.name.as_str(),
            ));
        }
        let target = text(&ephemeral.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            errors.push(field::not_found(path.child("targetContainerName"), target));
        }
        for (set, name) in [
            (!list(&ephemeral.ports).is_empty(), "ports"),
            (!resources::is_empty(&ephemeral.resources), "resources"),
            (ephemeral.liveness_probe.is_some(), "livenessProbe"),
            (ephemeral.readiness_probe.is_some(), "readinessProbe"),
            (ephemeral.startup_probe.is_some(), "startupProbe"),
            (ephemeral.lifecycle.is_some(), "lifecycle"),
            (ephemeral.restart_policy.is_some(), "restartPolicy"),
        ] {
            if set {
                errors.push(field::forbidden(
                    path.child(name),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
        for (index, mount) in list(&ephemeral.volume_mounts).iter().enumerate() {
            let path = path.child("volumeMounts").index(index);
            for (set, name) in [
                (!blank(&mount.sub_path), "subPath"),
                (!blank(&mount.sub_path_expr), "subPathExpr"),
            ] {
                if set {
                    errors.push(field::forbidden(
                        path.child(name),
                        "cannot be set for an Ephemeral Container",
                    ));
                }
            }
        }
    }
    errors
}

/// The fields that an ephemeral container shares with the others.
pub(super) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let ephemeral = ephemeral.clone();
    Container {
        args: ephemeral.args,
        command: ephemeral.command,
        env: ephemeral.env,
        env_from: ephemeral.env_from,
        image: ephemeral.image,
        image_pull_policy: ephemeral.image_pull_policy,
        name: ephemeral.name,
        ports: ephemeral.ports,
        resources: ephemeral.resources,
        security_context: ephemeral.security_context,
        termination_message_path: ephemeral.termination_message_path,
        termination_message_policy: ephemeral.termination_message_policy,
        volume_devices: ephemeral.volume_devices,
        volume_mounts: ephemeral.volume_mounts,
        ..Container::default()
    }
}

fn container_common(container: &Container, volumes: &Volumes<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if container.name.is_empty() {
        errors.push(field::required(path.child("name"), ""));
    } else {
        errors.extend(dns_label(&container.name, path.child("name")));
    }
    if blank(&container.image) {
        errors.push(field::required(path.child("image"), ""));
    }
    errors.extend(one_of(
        text(&container.termination_message_policy),
        MESSAGE_POLICIES,
        path.child("terminationMessagePolicy"),
    ));
    errors.extend(ports(list(&container.ports), &path.child("ports")));
    errors.extend(env(list(&container.env), &path.child("env")));
    errors.extend(env_from(list(&container.env_from), &path.child("envFrom")));
    errors.extend(volume_mounts(
        container,
        volumes,
        &path.child("volumeMounts"),
    ));
    errors.extend(volume_devices(
        list(&container.volume_devices),
        list(&container.volume_mounts),
        volumes,
        &path.child("volumeDevices"),
    ));
    errors.extend(one_of(
        text(&container.image_pull_policy),
        PULL_POLICIES,
        path.child("imagePullPolicy"),
    ));
    errors.extend(resources::requirements(
        &container.resources,
        &path.child("resources"),
    ));
    if let Some(context) = &container.security_context {
        errors.extend(security::container(context, &path.child("securityContext")));
    }
    errors
}

fn ports(ports: &[ContainerPort], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(&port.name);
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() {
                if !seen.insert(name) {
                    errors.push(field::duplicate(path.child("name"), name));
                }
            } else {
                errors.extend(messages(&path.child("name"), name, wrong));
            }
        }
        if port.container_port == 0 {
            errors.push(field::required(path.child("containerPort"), ""));
        } else {
            errors.extend(port_number(
                port.container_port,
                path.child("containerPort"),
            ));
        }
        match port.host_port {
            None | Some(0) => {}
            Some(host_port) => errors.extend(port_number(host_port, path.child("hostPort"))),
        }
        errors.extend(one_of(
            text(&port.protocol),
            PROTOCOLS,
            path.child("protocol"),
        ));
    }
    errors
}

fn host_port_conflicts(containers: &[Container], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in list(&container.ports).iter().enumerate() {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else {
                continue;
            };
            let key = format!(
                "{}/{}/{host_port}",
                text(&port.protocol),
                text(&port.host_ip)
            );
            if seen.contains(&key) {
                let path = path.index(index).child("ports").index(port_index);
                errors.push(field::duplicate(path.child("hostPort"), key));
            } else {
                seen.insert(key);
            }
        }
    }
    errors
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn env(variables: &[EnvVar], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        if variable.name.is_empty() {
            errors.push(field::required(path.child("name"), ""));
        } else {
            errors.extend(messages(
                &path.child("name"),
                variable.name.as_str(),
                names::relaxed_env_var_name(&variable.name),
            ));
        }
        errors.extend(env_value_from(variable, &path.child("valueFrom")));
    }
    errors
}

fn env_value_from(variable: &EnvVar, path: &Path) -> ErrorList {
    let Some(source) = &variable.value_from else {
        return ErrorList::new();
    };
    let mut errors = ErrorList::new();
    let mut sources = 0;
    if let Some(reference) = &source.field_ref {
        sources += 1;
        errors.extend(field_ref(reference, ENV_FIELDS, &path.child("fieldRef")));
    }
    if let Some(reference) = &source.resource_field_ref {
        sources += 1;
        let path = path.child("resourceFieldRef");
        errors.extend(resource_field_ref(reference, &path, false));
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        let path = path.child("configMapKeyRef");
        errors.extend(key_ref(&reference.name, &reference.key, &path));
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        let path = path.child("secretKeyRef");
        errors.extend(key_ref(&reference.name, &reference.key, &path));
    }
    k8s_openapi::k8s_if_ge_1_34! {
        if source.file_key_ref.is_some() {
            sources += 1;
        }
    }
    if sources == 0 {
        errors.push(field::invalid(
            path.clone(),
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ));
    } else if !blank(&variable.value) {
        errors.push(field::invalid(
            path.clone(),
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources > 1 {
        errors.push(field::invalid(
            path.clone(),
            "",
            "may not have more than one field specified at a time",
        ));
    }
    errors
}

fn key_ref(name: &str, key: &str, path: &Path) -> ErrorList {
    let mut errors = messages(&path.child("name"), name, names::dns_subdomain(name, false));
    if key.is_empty() {
        errors.push(field::required(path.child("key"), ""));
    } else {
        errors.extend(messages(
            &path.child("key"),
            key,
            names::config_map_key(key),
        ));
    }
    errors
}

/// A field of the pod by path, one of `supported_paths` or a subscripted label or annotation.
pub(super) fn field_ref(
    reference: &ObjectFieldSelector,
    supported_paths: &[&str],
    path: &Path,
) -> ErrorList {
    const CONVERTIBLE: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let field_path = reference.field_path.as_str();
    let version = text(&reference.api_version);
    if version.is_empty() {
        return vec![field::required(path.child("apiVersion"), "")];
    }
    if field_path.is_empty() {
        return vec![field::required(path.child("fieldPath"), "")];
    }
    let wrong = |reason: String| {
        vec![field::invalid(
            path.child("fieldPath"),
            field_path,
            format!("error converting fieldPath: {reason}"),
        )]
    };
    if version != "v1" {
        return wrong(format!("unsupported pod version: {version}"));
    }
    let subscripted = field_path
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => qualified_name_at(&key.to_lowercase(), path),
        Some(("metadata.labels", key)) => qualified_name_at(key, path),
        Some(_) => wrong(format!(
            "field label does not support subscript: {field_path}"
        )),
        None => {
            let internal = if field_path == "spec.host" {
                "spec.nodeName"
            } else {
                field_path
            };
            if !CONVERTIBLE.contains(&internal) {
                return wrong(format!("field label not supported: {field_path}"));
            }
            supported(internal, supported_paths, path.child("fieldPath"))
        }
    }
}

fn qualified_name_at(name: &str, path: &Path) -> ErrorList {
    qualified_name(name, path.clone())
}

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A container's resource by name.
pub(super) fn resource_field_ref(
    reference: &ResourceFieldSelector,
    path: &Path,
    in_volume: bool,
) -> ErrorList {
    const SIZES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let mut errors = ErrorList::new();
    let resource = reference.resource.as_str();
    let huge_pages =
        resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && blank(&reference.container_name) {
        errors.push(field::required(path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(field::required(path.child("resource"), ""));
    } else if !huge_pages {
        errors.extend(supported(resource, RESOURCE_FIELDS, path.child("resource")));
    }
    let Some(divisor) = &reference.divisor else {
        return errors;
    };
    let path = path.child("divisor");
    let Some(amount) = quantities::parse(divisor) else {
        errors.push(quantities::malformed(divisor, path));
        return errors;
    };
    if amount.is_zero() {
        return errors;
    }
    let (allowed, sort): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (SIZES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (SIZES, "local ephemeral storage")
        }
        _ if huge_pages => (SIZES, "hugepages"),
        _ => return errors,
    };
    if !allowed.contains(&divisor.0.as_str()) {
        let values = if sort == "cpu" {
            "1m and 1".to_owned()
        } else {
            SIZES.join(", ")
        };
        errors.push(field::invalid(
            path,
            resource,
            format!("only divisor's values {values} are supported with the {sort} resource"),
        ));
    }
    errors
}

fn env_from(sources: &[EnvFromSource], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.extend(messages(
                &at.child("prefix"),
                prefix,
                names::relaxed_env_var_name(prefix),
            ));
        }
        let mut count = 0;
        for (name, reference) in [
            (
                "configMapRef",
                source.config_map_ref.as_ref().map(|r| &r.name),
            ),
            ("secretRef", source.secret_ref.as_ref().map(|r| &r.name)),
        ] {
            let Some(target) = reference else { continue };
            count += 1;
            let path = at.child(name).child("name");
            if target.is_empty() {
                errors.push(field::required(path, ""));
            } else {
                errors.extend(messages(
                    &path,
                    target.as_str(),
                    names::dns_subdomain(target, true),
                ));
            }
        }
        if count == 0 {
            errors.push(field::invalid(
                path.clone(),
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ));
        } else if count > 1 {
            errors.push(field::invalid(
                path.clone(),
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
    errors
}

fn volume_mounts(container: &Container, known: &Volumes<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut mount_points = BTreeSet::new();
    let devices = list(&container.volume_devices);
    for (index, mount) in list(&container.volume_mounts).iter().enumerate() {
        let at = path.index(index);
        if mount.name.is_empty() {
            errors.push(field::required(at.child("name"), ""));
        }
        if !known.contains_key(mount.name.as_str()) {
            errors.push(field::not_found(at.child("name"), mount.name.as_str()));
        }
        if mount.mount_path.is_empty() {
            errors.push(field::required(at.child("mountPath"), ""));
        }
        let mut invalid = |name: &str, value: &str, detail: &str| {
            errors.push(field::invalid(at.child(name), value, detail));
        };
        if !mount_points.insert(mount.mount_path.as_str()) {
            invalid("mountPath", &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            invalid(
                "name",
                &mount.name,
                "must not already exist in volumeDevices",
            );
        }
        if devices
            .iter()
            .any(|device| device.device_path == mount.mount_path)
        {
            invalid(
                "mountPath",
                &mount.mount_path,
                "must not already exist as a path in volumeDevices",
            );
        }
        let (sub_path, sub_path_expr) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        if !sub_path_expr.is_empty() && !sub_path.is_empty() {
            invalid(
                "subPathExpr",
                sub_path_expr,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        if !sub_path.is_empty() {
            errors.extend(volumes::descending_path(sub_path, path.child("subPath")));
        }
        if !sub_path_expr.is_empty() {
            errors.extend(volumes::descending_path(
                sub_path_expr,
                path.child("subPathExpr"),
            ));
        }
        errors.extend(mount_propagation(
            mount,
            container,
            path.child("mountPropagation"),
        ));
        errors.extend(recursive_read_only(mount, at.child("recursiveReadOnly")));
    }
    errors
}

fn mount_propagation(mount: &VolumeMount, container: &Container, path: Path) -> ErrorList {
    let Some(propagation) = &mount.mount_propagation else {
        return ErrorList::new();
    };
    let mut errors = supported(
        propagation,
        &["Bidirectional", "HostToContainer", "None"],
        path.clone(),
    );
    let privileged = container
        .security_context
        .as_ref()
        .is_some_and(|context| context.privileged == Some(true));
    if propagation == "Bidirectional" && !privileged {
        errors.push(field::forbidden(
            path,
            "Bidirectional mount propagation is available only to privileged containers",
        ));
    }
    errors
}

fn recursive_read_only(mount: &VolumeMount, path: Path) -> ErrorList {
    let value = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return ErrorList::new(),
        Some(value) => value,
    };
    let mut errors = ErrorList::new();
    if mount.read_only != Some(true) {
        errors.push(field::forbidden(
            path.clone(),
            "may only be specified when readOnly is true",
        ));
    }
    if mount
        .mount_propagation
        .as_deref()
        .is_some_and(|p| p != "None")
    {
        errors.push(field::forbidden(
            path.clone(),
            "may only be specified when mountPropagation is None or not specified",
        ));
    }
    errors.extend(supported(
        value,
        &["Disabled", "Enabled", "IfPossible"],
        path,
    ));
    errors
}

fn volume_devices(
    devices: &[VolumeDevice],
    mounts: &[VolumeMount],
    known: &Volumes<'_>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in devices.iter().enumerate() {
        let path = path.index(index);
        let (name, device_path) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.push(field::required(path.child("name"), ""));
        }
        if !names.insert(name) {
            errors.push(field::invalid(path.child("name"), name, "must be unique"));
        }
        match known.get(name) {
            None => errors.push(field::not_found(path.child("name"), name)),
            Some(volume)
                if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() =>
            {
                errors.push(field::invalid(
                    path.child("name"),
                    name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                ));
            }
            Some(_) => {}
        }
        if device_path.is_empty() {
            errors.push(field::required(path.child("devicePath"), ""));
        }
        let mut invalid = |detail: &str| {
            errors.push(field::invalid(
                path.child("devicePath"),
                device_path,
                detail,
            ));
        };
        if paths.contains(device_path) {
            invalid("must be unique");
        }
        if volumes::has_backsteps(device_path) {
            invalid("can not contain backsteps ('..')");
        } else {
            paths.insert(device_path);
        }
        if mounts.iter().any(|mount| mount.mount_path == device_path) {
            invalid("must not already exist as a path in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.name == name) {
            errors.push(field::invalid(
                path.child("name"),
                name,
                "must not already exist in volumeMounts",
            ));
        }
    }
    errors
}

fn hooks_and_probes(container: &Container, spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(lifecycle) = &container.lifecycle {
        errors.extend(self::lifecycle(lifecycle, spec, &path.child("lifecycle")));
    }
    let once = |probe: &Probe, path: &Path| {
        let threshold = probe.success_threshold.unwrap_or_default();
        (threshold != 1)
            .then(|| field::invalid(path.child("successThreshold"), threshold, "must be 1"))
    };
    if let Some(probe) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        errors.extend(self::probe(probe, &path));
        errors.extend(once(probe, &path));
    }
    if let Some(probe) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        errors.extend(self::probe(probe, &path));
        if let Some(seconds) = probe.termination_grace_period_seconds {
            errors.push(field::invalid(
                path.child("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    }
    if let Some(probe) = &container.startup_probe {
        let path = path.child("startupProbe");
        errors.extend(self::probe(probe, &path));
        errors.extend(once(probe, &path));
    }
    errors
}

fn probe(probe: &Probe, path: &Path) -> ErrorList {
    let mut errors = handler(
        &Handler {
            exec: probe.exec.as_ref(),
            http_get: probe.http_get.as_ref(),
            tcp_port: probe.tcp_socket.as_ref().map(|socket| &socket.port),
            grpc_port: probe.grpc.as_ref().map(|grpc| grpc.port),
            sleep: None,
        },
        path,
        0,
    );
    for (value, name) in [
        (probe.initial_delay_seconds, "initialDelaySeconds"),
        (probe.timeout_seconds, "timeoutSeconds"),
        (probe.period_seconds, "periodSeconds"),
        (probe.success_threshold, "successThreshold"),
        (probe.failure_threshold, "failureThreshold"),
    ] {
        errors.extend(non_negative(value.unwrap_or_default(), path.child(name)));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds
        && seconds <= 0
    {
        errors.push(field::invalid(
            path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    errors
}

fn lifecycle(lifecycle: &Lifecycle, spec: &PodSpec, path: &Path) -> ErrorList {
    let grace = spec.termination_grace_period_seconds.unwrap_or_default();
    let mut errors = ErrorList::new();
    for (hook, name) in [
        (&lifecycle.post_start, "postStart"),
        (&lifecycle.pre_stop, "preStop"),
    ] {
        if let Some(hook) = hook {
            errors.extend(handler(&Handler::of_hook(hook), &path.child(name), grace));
        }
    }
    errors
}

/// What a probe or a hook does; exactly one of these.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_port: Option<&'a IntOrString>,
    grpc_port: Option<i32>,
    sleep: Option<i64>,
}

impl<'a> Handler<'a> {
    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        Handler {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_port: hook.tcp_socket.as_ref().map(|socket| &socket.port),
            grpc_port: None,
            sleep: hook.sleep.as_ref().map(|sleep| sleep.seconds),
        }
    }
}

fn handler(handler: &Handler<'_>, path: &Path, grace: i64) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut count = 0;
    let mut check = |set: bool, name: &str, check: &dyn Fn(&Path) -> ErrorList| {
        if !set {
            return;
        }
        if count > 0 {
            errors.push(field::forbidden(
                path.child(name),
                "may not specify more than 1 handler type",
            ));
        } else {
            count += 1;
            errors.extend(check(&path.child(name)));
        }
    };
    check(
        handler.exec.is_some(),
        "exec",
        &|path| match handler.exec.map(|exec| list(&exec.command)) {
            Some([]) => vec![field::required(path.child("command"), "")],
            _ => ErrorList::new(),
        },
    );
    check(handler.http_get.is_some(), "httpGet", &|path| {
        handler
            .http_get
            .map(|get| http_get(get, path))
            .unwrap_or_default()
    });
    check(handler.tcp_port.is_some(), "tcpSocket", &|path| {
        handler
            .tcp_port
            .map(|port| port_number_or_name(port, path.child("port")))
            .unwrap_or_default()
    });
    check(handler.grpc_port.is_some(), "grpc", &|path| {
        handler
            .grpc_port
            .map(|port| port_number(port, path.child("port")))
            .unwrap_or_default()
    });
    check(
        handler.sleep.is_some(),
        "sleep",
        &|path| match handler.sleep {
            Some(seconds) if seconds < 0 || seconds > grace => vec![field::invalid(
                path.clone(),
                seconds,
                format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                ),
            )],
            _ => ErrorList::new(),
        },
    );
    if count == 0 {
        errors.push(field::required(path.clone(), "must specify a handler type"));
    }
    errors
}

fn http_get(get: &HTTPGetAction, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if blank(&get.path) {
        errors.push(field::required(path.child("path"), ""));
    }
    errors.extend(port_number_or_name(&get.port, path.child("port")));
    errors.extend(supported(
        text(&get.scheme),
        &["HTTP", "HTTPS"],
        path.child("scheme"),
    ));
    for header in list(&get.http_headers) {
        errors.extend(messages(
            &path.child("httpHeaders"),
            header.name.as_str(),
            names::http_header_name(&header.name),
        ));
    }
    errors
}

/// With `hostNetwork`, a port is the same inside and out.
pub(super) fn host_network(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, container) in spec.containers.iter().enumerate() {
        for (port_index, port) in list(&container.ports).iter().enumerate() {
            if port.host_port.unwrap_or_default() != 0
                && port.host_port != Some(port.container_port)
            {
                let path = path.index(index).child("ports").index(port_index);
                errors.push(field::invalid(
                    path.child("containerPort"),
                    int_or_string(&IntOrString::Int(port.container_port)),
                    "must match `hostPort` when `hostNetwork` is true",
                ));
            }
        }
    }
    errors
}

//! Validation of containers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, EphemeralContainer, PodSpec, Volume};

use super::{
    environment::{env, env_from},
    mounts::{volume_devices, volume_mounts},
    probes::hooks_and_probes,
    resources, security,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{
        PROTOCOLS, blank, dns_label, list, messages, one_of, port_number, supported, text,
    },
    names,
};

/// The volumes that containers may mount, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];
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
                    port.container_port,
                    "must match `hostPort` when `hostNetwork` is true",
                ));
            }
        }
    }
    errors
}

//! Validation of containers.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::api::core::v1::{Container, ContainerPort, EphemeralContainer, PodSpec, Volume};

use super::{
    allowances::Allowances,
    environment::{env, env_from},
    mounts::{volume_devices, volume_mounts},
    newer,
    probes::hooks_and_probes,
    resize, resources, security,
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

/// What the containers of a pod are checked against.
pub(super) struct Around<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: &'a Volumes<'a>,
    /// The names of the pod's resource claims.
    pub(super) claims: BTreeSet<&'a str>,
    pub(super) allowed: Allowances,
}

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];

/// The containers proper.
pub(super) fn containers(around: &Around<'_>, path: &Path) -> ErrorList {
    let spec = around.spec;
    if spec.containers.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut errors = ErrorList::new();
    let mut names = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.index(index);
        errors.extend(container_common(container, around, &path));
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
pub(super) fn init_containers(around: &Around<'_>, path: &Path) -> ErrorList {
    let spec = around.spec;
    let mut errors = ErrorList::new();
    let mut names: BTreeSet<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    for (index, container) in list(&spec.init_containers).iter().enumerate() {
        let at = path.index(index);
        errors.extend(container_common(container, around, &at));
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
        if !around.allowed.init_restarts {
            errors.extend(resize::no_restarts(container, &at.child("resizePolicy")));
        }
    }
    errors
}

/// Whether init containers that come to an end are to be restarted when they are resized.
pub(super) fn has_init_restarts(spec: &PodSpec) -> bool {
    list(&spec.init_containers)
        .iter()
        .filter(|container| !super::is_sidecar(container))
        .any(|container| !resize::no_restarts(container, &Path::default()).is_empty())
}

/// Whether containers of another user namespace than the host's have block devices, which belong to the host's users.
pub(super) fn has_mapped_devices(spec: &PodSpec) -> bool {
    !mapped_devices(spec, &Path::default()).is_empty()
}

/// The block devices of containers in a user namespace of their own.
pub(super) fn mapped_devices(spec: &PodSpec, path: &Path) -> ErrorList {
    if spec.host_users != Some(false) {
        return ErrorList::new();
    }
    all(spec)
        .filter(|(_, _, container)| !list(&container.volume_devices).is_empty())
        .map(|(list, index, _)| {
            let at = path.child(list).index(index).child("volumeDevices");
            field::forbidden(at, "when `hostUsers` is false")
        })
        .collect()
}

/// All containers, with the list that each is in and its place there.
pub(super) fn all(
    spec: &PodSpec,
) -> impl Iterator<Item = (&'static str, usize, Cow<'_, Container>)> {
    let init = list(&spec.init_containers).iter().enumerate();
    let main = spec.containers.iter().enumerate();
    let added = list(&spec.ephemeral_containers).iter().enumerate();
    init.map(|(index, container)| ("initContainers", index, Cow::Borrowed(container)))
        .chain(main.map(|(index, container)| ("containers", index, Cow::Borrowed(container))))
        .chain(added.map(|(index, container)| {
            let container = Cow::Owned(as_container(container));
            ("ephemeralContainers", index, container)
        }))
}

/// The containers proper and the init containers.
pub(super) fn all_mut(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    let init = spec.init_containers.iter_mut().flatten();
    init.chain(&mut spec.containers)
}

/// The ephemeral containers.
pub(super) fn ephemeral_containers(around: &Around<'_>, path: &Path) -> ErrorList {
    let spec = around.spec;
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
        errors.extend(container_common(&container, around, &path));
        errors.extend(trimmed_image(&container, &path));
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
            (!list(&ephemeral.resize_policy).is_empty(), "resizePolicy"),
            (ephemeral.restart_policy.is_some(), "restartPolicy"),
            (newer::has_restart_rules(ephemeral), "restartPolicyRules"),
            (ephemeral.liveness_probe.is_some(), "livenessProbe"),
            (ephemeral.readiness_probe.is_some(), "readinessProbe"),
            (ephemeral.startup_probe.is_some(), "startupProbe"),
            (ephemeral.lifecycle.is_some(), "lifecycle"),
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
        resize_policy: ephemeral.resize_policy,
        resources: ephemeral.resources,
        security_context: ephemeral.security_context,
        termination_message_path: ephemeral.termination_message_path,
        termination_message_policy: ephemeral.termination_message_policy,
        volume_devices: ephemeral.volume_devices,
        volume_mounts: ephemeral.volume_mounts,
        ..Container::default()
    }
}

/// The image's name, in a pod: templates may have it padded.
pub(super) fn trimmed_image(container: &Container, path: &Path) -> Option<field::Error> {
    let image = text(&container.image);
    let detail = "must not have leading or trailing whitespace";
    (image.trim() != image).then(|| field::invalid(path.child("image"), image, detail))
}

fn container_common(container: &Container, around: &Around<'_>, path: &Path) -> ErrorList {
    let volumes = around.volumes;
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
    errors.extend(resources::of_container(
        &container.resources,
        &around.claims,
        around.allowed.broken_pages,
        &path.child("resources"),
    ));
    errors.extend(resize::policies(
        list(&container.resize_policy),
        text(&around.spec.restart_policy),
        &path.child("resizePolicy"),
    ));
    if let Some(context) = &container.security_context {
        errors.extend(security::container(
            context,
            around.spec.host_users != Some(false),
            &path.child("securityContext"),
        ));
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

/// With `hostNetwork`, a port is the same inside and out. Only a pod's own ports have had the other filled in.
pub(super) fn host_network(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, container) in spec.containers.iter().enumerate() {
        for (port_index, port) in list(&container.ports).iter().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if host_port != 0 && host_port != port.container_port {
                let path = path.index(index).child("ports").index(port_index);
                errors.push(field::invalid(
                    path.child("hostPort"),
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
    errors
}

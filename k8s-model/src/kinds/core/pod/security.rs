//! Validation of security contexts.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

use super::{containers, volumes, windows};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, messages, supported},
        difference::spelled,
    },
    names,
};

fn id(value: Option<i64>, path: Path) -> ErrorList {
    value
        .map(|value| messages(&path, value, names::in_range(value, 0, i64::from(i32::MAX))))
        .unwrap_or_default()
}

/// A container's security context.
pub(super) fn container(context: &SecurityContext, host_users: bool, path: &Path) -> ErrorList {
    let mut errors = id(context.run_as_user, path.child("runAsUser"));
    errors.extend(id(context.run_as_group, path.child("runAsGroup")));
    if let Some(mount) = &context.proc_mount {
        errors.extend(supported(
            mount,
            &["Default", "Unmasked"],
            path.child("procMount"),
        ));
        if host_users && mount == "Unmasked" {
            errors.push(field::invalid(
                path.child("procMount"),
                mount.as_str(),
                "`hostUsers` must be false to use `Unmasked`",
            ));
        }
    }
    errors.extend(seccomp(
        &context.seccomp_profile,
        &path.child("seccompProfile"),
    ));
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            errors.push(field::invalid_spelled(
                path.clone(),
                &spelled("SecurityContext", context),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = context.capabilities.iter().flat_map(|c| list(&c.add));
        for _ in added.filter(|name| *name == "CAP_SYS_ADMIN") {
            errors.push(field::invalid_spelled(
                path.clone(),
                &spelled("SecurityContext", context),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
    if let Some(options) = &context.windows_options {
        errors.extend(windows::options(options, &path.child("windowsOptions")));
    }
    errors.extend(app_armor(
        &context.app_armor_profile,
        &path.child("appArmorProfile"),
    ));
    errors
}

/// A pod's security context, and the fields of the spec that go with it.
pub(super) fn pod(spec: &PodSpec, host_sysctls: bool, spec_path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if spec.host_network == Some(true) {
        errors.extend(containers::host_network(
            spec,
            &spec_path.child("containers"),
        ));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.push(field::invalid(
            spec_path
                .child("securityContext")
                .child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    let Some(context) = &spec.security_context else {
        return errors;
    };
    let path = spec_path.child("securityContext");
    errors.extend(context_fields(context, &path));
    let sysctls = list(&context.sysctls);
    errors.extend(self::sysctls(sysctls, &path.child("sysctls")));
    if !host_sysctls {
        errors.extend(self::host_sysctls(spec, &path.child("sysctls")));
    }
    errors
}

fn context_fields(context: &PodSecurityContext, path: &Path) -> ErrorList {
    let mut errors = id(context.fs_group, path.child("fsGroup"));
    errors.extend(id(context.run_as_user, path.child("runAsUser")));
    errors.extend(id(context.run_as_group, path.child("runAsGroup")));
    for (index, group) in list(&context.supplemental_groups).iter().enumerate() {
        errors.extend(id(
            Some(*group),
            path.child("supplementalGroups").index(index),
        ));
    }
    if let Some(policy) = &context.fs_group_change_policy {
        errors.extend(supported(
            policy,
            &["Always", "OnRootMismatch"],
            path.child("fsGroupChangePolicy"),
        ));
    }
    if let Some(options) = &context.windows_options {
        errors.extend(windows::options(options, &path.child("windowsOptions")));
    }
    if let Some(policy) = &context.supplemental_groups_policy {
        errors.extend(supported(
            policy,
            &["Merge", "Strict"],
            path.child("supplementalGroupsPolicy"),
        ));
    }
    if let Some(policy) = &context.se_linux_change_policy {
        errors.extend(supported(
            policy,
            &["MountOption", "Recursive"],
            path.child("seLinuxChangePolicy"),
        ));
    }
    errors.extend(seccomp(
        &context.seccomp_profile,
        &path.child("seccompProfile"),
    ));
    errors.extend(app_armor(
        &context.app_armor_profile,
        &path.child("appArmorProfile"),
    ));
    errors
}

/// How long the name of a profile on a node's disk is at most: as long as a path.
const LONGEST_PROFILE: usize = 4095;

/// An AppArmor profile.
pub(super) fn app_armor(profile: &Option<AppArmorProfile>, path: &Path) -> ErrorList {
    let Some(profile) = profile else {
        return ErrorList::new();
    };
    let file = path.child("localhostProfile");
    let missing = || field::required(file.clone(), "must be set when AppArmor type is Localhost");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => vec![missing()],
        ("Localhost", Some(name)) => {
            let mut errors = ErrorList::new();
            if name.trim() != name {
                let text = "must not be padded with whitespace";
                errors.push(field::invalid(file.clone(), name.as_str(), text));
            } else if name.is_empty() {
                errors.push(missing());
            }
            if name.len() > LONGEST_PROFILE {
                errors.push(field::too_long(file, LONGEST_PROFILE));
            }
            errors
        }
        ("RuntimeDefault" | "Unconfined", None) => ErrorList::new(),
        ("RuntimeDefault" | "Unconfined", Some(name)) => vec![field::invalid(
            file,
            name.as_str(),
            "can only be set when AppArmor type is Localhost",
        )],
        ("", _) => vec![field::required(
            path.child("type"),
            "type is required when appArmorProfile is set",
        )],
        (sort, _) => supported(
            sort,
            &["Localhost", "RuntimeDefault", "Unconfined"],
            path.child("type"),
        ),
    }
}

fn seccomp(profile: &Option<SeccompProfile>, path: &Path) -> ErrorList {
    let Some(profile) = profile else {
        return ErrorList::new();
    };
    let at = path.child("type");
    let mut errors = match profile.type_.as_str() {
        "" => vec![field::required(
            at,
            "type is required when seccompProfile is set",
        )],
        sort => supported(sort, &["Localhost", "RuntimeDefault", "Unconfined"], at),
    };
    let file = path.child("localhostProfile");
    match (&profile.localhost_profile, profile.type_.as_str()) {
        (None, "Localhost") => errors.push(field::required(
            file,
            "must be set when seccomp type is Localhost",
        )),
        (Some(name), "Localhost") => errors.extend(volumes::descending_path(name, file)),
        (Some(_), _) => errors.push(field::invalid_spelled(
            file,
            &spelled("SeccompProfile", profile),
            "can only be set when seccomp type is Localhost",
        )),
        (None, _) => {}
    }
    errors
}

fn sysctls(sysctls: &[Sysctl], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let (path, name) = (path.index(index).child("name"), sysctl.name.as_str());
        if name.is_empty() {
            errors.push(field::required(path, ""));
        } else if !is_sysctl_name(name) {
            errors.push(field::invalid(
                path,
                name,
                "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ));
        } else if seen.contains(name) {
            errors.push(field::duplicate(path, name));
        }
        seen.insert(name);
    }
    errors
}

/// Whether a pod has settings of a kernel's namespace that is the host's.
pub(super) fn has_host_sysctls(spec: &PodSpec) -> bool {
    !host_sysctls(spec, &Path::default()).is_empty()
}

/// The settings that would be the host's, not the pod's.
fn host_sysctls(spec: &PodSpec, path: &Path) -> ErrorList {
    let context = spec.security_context.as_ref();
    let sysctls = context.map_or([].as_slice(), |context| list(&context.sysctls));
    let mut errors = ErrorList::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let shared = match namespace(&sysctl.name) {
            Some(Namespace::Network) if spec.host_network == Some(true) => "hostNetwork",
            Some(Namespace::Communication) if spec.host_ipc == Some(true) => "hostIPC",
            _ => continue,
        };
        errors.push(field::invalid(
            path.index(index).child("name"),
            sysctl.name.as_str(),
            format!("may not be specified when '{shared}' is true"),
        ));
    }
    errors
}

/// What of a kernel a pod can have for itself.
enum Namespace {
    Network,
    Communication,
}

/// The namespace that a setting belongs to.
fn namespace(sysctl: &str) -> Option<Namespace> {
    const COMMUNICATION: &[&str] = &[
        "kernel.msg",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    let name = dotted(sysctl);
    let name = name.split('*').next().unwrap_or_default();
    if name.starts_with("net.") {
        Some(Namespace::Network)
    } else if COMMUNICATION.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(Namespace::Communication)
    } else {
        None
    }
}

/// A setting's name with dots between its parts: where slashes are, a dot is part of a part.
fn dotted(sysctl: &str) -> String {
    let turned = sysctl.find(['.', '/']).map(|at| &sysctl[at..]);
    if turned.is_none_or(|rest| rest.starts_with('.')) {
        return sysctl.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    sysctl.chars().map(swap).collect()
}

fn is_sysctl_name(name: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|segment| {
            let bytes = segment.as_bytes();
            match (bytes.first(), bytes.last()) {
                (Some(first), Some(last)) => {
                    alphanumeric(*first)
                        && alphanumeric(*last)
                        && bytes
                            .iter()
                            .all(|c| alphanumeric(*c) || matches!(c, b'-' | b'_'))
                }
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_app_armor_profile_has_a_known_type_and_a_name_if_it_is_a_file() {
        let found = |profile: Value| {
            told(app_armor(
                &Some(serde_json::from_value(profile).unwrap()),
                &Path::new("p"),
            ))
        };
        for fine in [
            json!({"type": "Localhost", "localhostProfile": "a"}),
            json!({"type": "RuntimeDefault"}),
            json!({"type": "Unconfined"}),
        ] {
            assert_eq!(found(fine), [""; 0]);
        }
        let missing =
            "p.localhostProfile: Required value: must be set when AppArmor type is Localhost";
        let long = "a".repeat(LONGEST_PROFILE + 1);
        for (profile, expected) in [
            (json!({"type": "Localhost"}), missing),
            (
                json!({"type": "Localhost", "localhostProfile": ""}),
                missing,
            ),
            (
                json!({"type": "Localhost", "localhostProfile": " a"}),
                "p.localhostProfile: Invalid value: \" a\": must not be padded with whitespace",
            ),
            (
                json!({"type": "Localhost", "localhostProfile": long}),
                "p.localhostProfile: Too long: may not be more than 4095 bytes",
            ),
            (
                json!({"type": "Unconfined", "localhostProfile": "a"}),
                "p.localhostProfile: Invalid value: \"a\": can only be set when AppArmor type is Localhost",
            ),
            (
                json!({"type": ""}),
                "p.type: Required value: type is required when appArmorProfile is set",
            ),
            (
                json!({"type": "X"}),
                "p.type: Unsupported value: \"X\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
            ),
        ] {
            assert_eq!(found(profile), [expected]);
        }
    }

    #[test]
    fn settings_of_the_hosts_kernel_are_not_a_pods() {
        let spec = |name: &str, shared: &str| -> PodSpec {
            serde_json::from_value(json!({"containers": [], shared: true,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}))
            .unwrap()
        };
        for (name, shared) in [
            ("net.core.somaxconn", "hostNetwork"),
            ("net/ipv4/conf/eth0.1/rp_filter", "hostNetwork"),
            ("kernel.shmmax", "hostIPC"),
            ("fs.mqueue.msg_max", "hostIPC"),
        ] {
            let bad = spec(name, shared);
            assert!(has_host_sysctls(&bad));
            let expected = format!(
                "spec.securityContext.sysctls[0].name: Invalid value: {name:?}: may not be specified when '{shared}' is true"
            );
            assert_eq!(told(pod(&bad, false, &Path::new("spec"))), [expected]);
            assert_eq!(told(pod(&bad, true, &Path::new("spec"))), [""; 0]);
        }
        for (name, shared) in [
            ("net.core.somaxconn", "hostIPC"),
            ("kernel.shmmax", "hostNetwork"),
            ("kernel.shm_next_id", "hostIPC"),
            ("network.a", "hostNetwork"),
        ] {
            assert!(!has_host_sysctls(&spec(name, shared)), "{name}");
        }
    }

    #[test]
    fn an_unmasked_proc_needs_a_user_namespace() {
        let context: SecurityContext =
            serde_json::from_value(json!({"procMount": "Unmasked"})).unwrap();
        assert_eq!(told(container(&context, false, &Path::new("c"))), [""; 0]);
        assert_eq!(
            told(container(&context, true, &Path::new("c"))),
            [
                "c.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
            ]
        );
    }
}

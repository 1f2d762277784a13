//! Validation of security contexts.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

use super::{containers, volumes, windows};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{json, list, messages, supported},
    names,
};

fn id(value: Option<i64>, path: Path) -> ErrorList {
    value
        .map(|value| messages(&path, value, names::in_range(value, 0, i64::from(i32::MAX))))
        .unwrap_or_default()
}

/// A container's security context.
pub(super) fn container(context: &SecurityContext, path: &Path) -> ErrorList {
    let mut errors = id(context.run_as_user, path.child("runAsUser"));
    errors.extend(id(context.run_as_group, path.child("runAsGroup")));
    if let Some(mount) = &context.proc_mount {
        errors.extend(supported(
            mount,
            &["Default", "Unmasked"],
            path.child("procMount"),
        ));
    }
    errors.extend(seccomp(
        &context.seccomp_profile,
        &path.child("seccompProfile"),
    ));
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            errors.push(field::invalid(
                path.clone(),
                json(context),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = context.capabilities.iter().flat_map(|c| list(&c.add));
        for _ in added.filter(|name| *name == "CAP_SYS_ADMIN") {
            errors.push(field::invalid(
                path.clone(),
                json(context),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
    if let Some(options) = &context.windows_options {
        errors.extend(windows::options(options, &path.child("windowsOptions")));
    }
    errors
}

/// A pod's security context, and the fields of the spec that go with it.
pub(super) fn pod(spec: &PodSpec, spec_path: &Path) -> ErrorList {
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
    errors.extend(context_fields(context, &spec_path.child("securityContext")));
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
    errors.extend(sysctls(list(&context.sysctls), &path.child("sysctls")));
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
    errors.extend(seccomp(
        &context.seccomp_profile,
        &path.child("seccompProfile"),
    ));
    errors
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
        (Some(_), _) => errors.push(field::invalid(
            file,
            json(profile),
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

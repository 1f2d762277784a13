//! Fields that only one operating system has.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext, WindowsSecurityContextOptions};
use regex::Regex;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, messages},
    names,
};

/// Upstream's `maxGMSACredentialSpecLengthInKiB`.
const LARGEST_SPEC_KIB: usize = 64;
/// Upstream's `maxRunAsUserNameDomainLength`.
const LONGEST_DOMAIN: usize = 256;
/// Upstream's `maxRunAsUserNameUserLength`.
const LONGEST_USER: usize = 104;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is well formed")
}

static NETBIOS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$"#));
static DNS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9](?:\.[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9])*$",
    )
});

/// The options that Windows alone has.
pub(super) fn options(options: &WindowsSecurityContextOptions, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(name) = &options.gmsa_credential_spec_name {
        let at = path.child("gmsaCredentialSpecName");
        errors.extend(messages(
            &at,
            name.as_str(),
            names::dns_subdomain(name, false),
        ));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let wrong = match spec.len() {
            0 => Some("gmsaCredentialSpec cannot be an empty string".to_owned()),
            long if long > LARGEST_SPEC_KIB * 1024 => Some(format!(
                "gmsaCredentialSpec size must be under {LARGEST_SPEC_KIB} KiB"
            )),
            _ => None,
        };
        let at = path.child("gmsaCredentialSpec");
        errors.extend(wrong.map(|text| field::invalid(at, spec.as_str(), text)));
    }
    if let Some(name) = &options.run_as_user_name {
        let at = path.child("runAsUserName");
        errors.extend(messages(&at, name.as_str(), user_name(name)));
    }
    errors
}

/// What is wrong with a user's name, as in `DOMAIN\user`.
fn user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".into()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".into()];
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".into()],
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= LONGEST_DOMAIN) {
        wrong.push(format!(
            "runAsUserName's Domain length must be under {LONGEST_DOMAIN} characters"
        ));
    }
    if domain.is_some_and(|domain| !NETBIOS.is_match(domain) && !DNS.is_match(domain)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".into());
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".into());
    } else if user.len() > LONGEST_USER {
        wrong.push(format!(
            "runAsUserName's User length must not be longer than {LONGEST_USER} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".into());
    }
    if user.contains(|c| r#""/\:;|=,+*?<>@[]"#.contains(c)) {
        wrong.push(
            r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#
                .into(),
        );
    }
    wrong
}

/// The security contexts of all containers, with their paths; none for a container without.
fn contexts<'s>(
    spec: &'s PodSpec,
    path: &Path,
) -> impl Iterator<Item = (Path, Option<&'s SecurityContext>)> {
    let at = |name: &str, index: usize| path.child(name).index(index).child("securityContext");
    let init = list(&spec.init_containers).iter().enumerate();
    let init = init.map(|(n, c)| (at("initContainers", n), c.security_context.as_ref()));
    let main = spec.containers.iter().enumerate();
    let main = main.map(|(n, c)| (at("containers", n), c.security_context.as_ref()));
    let added = list(&spec.ephemeral_containers).iter().enumerate();
    let added = added.map(|(n, c)| (at("ephemeralContainers", n), c.security_context.as_ref()));
    init.chain(main)
        .chain(added)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Containers that run as processes of the host: all of them or none, and in its network.
pub(super) fn host_processes(spec: &PodSpec, path: &Path) -> ErrorList {
    let pod = spec.security_context.as_ref();
    let pod = pod.and_then(|context| context.windows_options.as_ref()?.host_process);
    let mut errors = ErrorList::new();
    let (mut all, mut of_host) = (0, 0);
    for (path, context) in contexts(spec, path) {
        all += 1;
        let own = context.and_then(|context| context.windows_options.as_ref()?.host_process);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            errors.push(field::invalid(
                path.child("windowsOptions").child("hostProcess"),
                own,
                format!("pod hostProcess value must be identical if both are specified, was {pod}"),
            ));
        }
        of_host += u32::from(own.or(pod) == Some(true));
    }
    if of_host > 0 && of_host != all {
        errors.push(field::invalid(
            path.clone(),
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        ));
    }
    if of_host > 0 && spec.host_network != Some(true) {
        errors.push(field::invalid(
            path.child("hostNetwork"),
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        ));
    }
    errors
}

/// Fields that the pod's operating system doesn't have.
pub(super) fn foreign_fields(spec: &PodSpec, os: &str, path: &Path) -> ErrorList {
    match os {
        "linux" => of_windows(spec, path),
        "windows" => of_linux(spec, path),
        _ => ErrorList::new(),
    }
}

fn of_windows(spec: &PodSpec, path: &Path) -> ErrorList {
    const TEXT: &str = "windows options cannot be set for a linux pod";
    let pod = spec.security_context.as_ref();
    let pod = pod.is_some_and(|context| context.windows_options.is_some());
    let own = contexts(spec, path)
        .filter(|(_, context)| context.is_some_and(|context| context.windows_options.is_some()))
        .map(|(path, _)| path);
    pod.then(|| path.child("securityContext"))
        .into_iter()
        .chain(own)
        .map(|path| field::forbidden(path.child("windowsOptions"), TEXT))
        .collect()
}

fn of_linux(spec: &PodSpec, path: &Path) -> ErrorList {
    const TEXT: &str = "cannot be set for a windows pod";
    let mut errors = ErrorList::new();
    let mut check = |path: &Path, fields: &[(bool, &str)]| {
        for (_, name) in fields.iter().filter(|(set, _)| *set) {
            errors.push(field::forbidden(path.child(name), TEXT));
        }
    };
    let context = spec.security_context.clone().unwrap_or_default();
    let at = path.child("securityContext");
    let groups = context.supplemental_groups_policy.is_some();
    check(
        &at,
        &[(context.app_armor_profile.is_some(), "appArmorProfile")],
    );
    check(
        &at,
        &[(context.se_linux_options.is_some(), "seLinuxOptions")],
    );
    check(
        path,
        &[
            (spec.host_users.is_some(), "hostUsers"),
            (spec.host_pid == Some(true), "hostPID"),
            (spec.host_ipc == Some(true), "hostIPC"),
        ],
    );
    check(
        &at,
        &[
            (context.seccomp_profile.is_some(), "seccompProfile"),
            (context.fs_group.is_some(), "fsGroup"),
            (
                context.fs_group_change_policy.is_some(),
                "fsGroupChangePolicy",
            ),
            (!list(&context.sysctls).is_empty(), "sysctls"),
        ],
    );
    check(
        path,
        &[(
            spec.share_process_namespace.is_some(),
            "shareProcessNamespace",
        )],
    );
    check(
        &at,
        &[
            (context.run_as_user.is_some(), "runAsUser"),
            (context.run_as_group.is_some(), "runAsGroup"),
            (context.supplemental_groups.is_some(), "supplementalGroups"),
            (groups, "supplementalGroupsPolicy"),
            (
                context.se_linux_change_policy.is_some(),
                "seLinuxChangePolicy",
            ),
        ],
    );
    for (path, context) in contexts(spec, path) {
        let Some(context) = context else { continue };
        check(
            &path,
            &[
                (context.app_armor_profile.is_some(), "appArmorProfile"),
                (context.se_linux_options.is_some(), "seLinuxOptions"),
                (context.seccomp_profile.is_some(), "seccompProfile"),
                (context.capabilities.is_some(), "capabilities"),
                (
                    context.read_only_root_filesystem.is_some(),
                    "readOnlyRootFilesystem",
                ),
                (context.privileged.is_some(), "privileged"),
                (
                    context.allow_privilege_escalation.is_some(),
                    "allowPrivilegeEscalation",
                ),
                (context.proc_mount.is_some(), "procMount"),
                (context.run_as_user.is_some(), "runAsUser"),
                (context.run_as_group.is_some(), "runAsGroup"),
            ],
        );
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_windows_have_names_with_or_without_a_domain() {
        for good in [
            "ContainerUser",
            r"DOMAIN\user",
            r"a.example.com\user",
            "a b",
        ] {
            assert_eq!(user_name(good), [""; 0], "{good}");
        }
        for bad in ["", "a\tb", r"a\b\c", r"d\", "..", "a@b", r".d\u"] {
            assert_eq!(user_name(bad).len(), 1, "{bad}: {:?}", user_name(bad));
        }
    }
}

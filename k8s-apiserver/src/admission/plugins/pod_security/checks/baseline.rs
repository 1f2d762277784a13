//! The level `baseline`.

use k8s_openapi::api::core::v1::{LifecycleHandler, Probe, SELinuxOptions};

use super::{
    Check, Finding, Subject, Values,
    containers::{Container, all},
    finding, named, plural, quoted, seccomp, setters, unless_own_users,
};

pub(super) const CHECKS: &[Check] = &[
    check("appArmorProfile", &[(0, app_armor)]),
    check("capabilities_baseline", &[(0, capabilities)]),
    check("hostNamespaces", &[(0, host_namespaces)]),
    check("hostPathVolumes", &[(0, host_paths)]),
    check("hostPorts", &[(0, host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    check("privileged", &[(0, privileged)]),
    check(
        "procMount",
        &[
            (0, proc_mount),
            (35, |subject| unless_own_users(subject, proc_mount)),
        ],
    ),
    check("seLinuxOptions", &[(0, se_linux_0), (31, se_linux_31)]),
    check(
        "seccompProfile_baseline",
        &[(0, seccomp::annotations), (19, seccomp::baseline)],
    ),
    check(
        "sysctls",
        &[
            (0, |subject| sysctls(subject, 0)),
            (27, |subject| sysctls(subject, 27)),
            (29, |subject| sysctls(subject, 29)),
            (32, |subject| sysctls(subject, 32)),
            (37, |subject| sysctls(subject, 37)),
        ],
    ),
    check("windowsHostProcess", &[(0, host_process)]),
];

const fn check(id: &'static str, versions: &'static [(u32, super::CheckFn)]) -> Check {
    Check {
        id,
        versions,
        replaces: "",
    }
}

/// The containers that a condition is true of.
pub(super) fn bad<'a>(
    subject: &Subject<'a>,
    mut is_bad: impl FnMut(&Container<'a>) -> bool,
) -> Vec<&'a str> {
    all(subject.spec)
        .filter(|container| is_bad(container))
        .map(|container| container.name)
        .collect()
}

fn app_armor(subject: &Subject<'_>) -> Option<Finding> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let forbidden = |sort: &str| !matches!(sort, "RuntimeDefault" | "Localhost");
    let mut values = Values::new();
    let pod = subject.spec.security_context.as_ref();
    let pod = pod
        .and_then(|security| security.app_armor_profile.as_ref())
        .map(|profile| profile.type_.as_str())
        .filter(|sort| forbidden(sort));
    values.extend(pod);
    let containers = bad(subject, |container| {
        let profile = container
            .security
            .and_then(|s| s.app_armor_profile.as_ref());
        let sort = profile.map(|p| p.type_.as_str()).filter(|s| forbidden(s));
        values.extend(sort);
        sort.is_some()
    });
    let mut annotations: Vec<String> = subject
        .annotations()
        .filter(|(key, value)| {
            key.starts_with(ANNOTATION)
                && !value.is_empty()
                && *value != "runtime/default"
                && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    let mut who: Vec<String> = setters(pod.is_some(), &containers).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<&str> = values
        .into_iter()
        .chain(annotations.iter().map(String::as_str))
        .collect();
    finding(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(values)
        ),
    )
}

fn capabilities(subject: &Subject<'_>) -> Option<Finding> {
    const DEFAULT: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut values = Values::new();
    let containers = bad(subject, |container| {
        let added = container
            .security
            .and_then(|security| security.capabilities.as_ref()?.add.as_deref())
            .unwrap_or_default();
        let before = added.iter().map(String::as_str);
        let mut extra = before.filter(|c| !DEFAULT.contains(c)).peekable();
        let found = extra.peek().is_some();
        values.extend(extra);
        found
    });
    if containers.is_empty() {
        return None;
    }
    finding(
        "non-default capabilities",
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&containers),
            quoted(values)
        ),
    )
}

fn host_namespaces(subject: &Subject<'_>) -> Option<Finding> {
    let spec = subject.spec;
    let shared: Vec<&str> = [
        (spec.host_network, "hostNetwork=true"),
        (spec.host_pid, "hostPID=true"),
        (spec.host_ipc, "hostIPC=true"),
    ]
    .into_iter()
    .filter(|(set, _)| *set == Some(true))
    .map(|(_, text)| text)
    .collect();
    if shared.is_empty() {
        return None;
    }
    finding("host namespaces", shared.join(", "))
}

fn host_paths(subject: &Subject<'_>) -> Option<Finding> {
    let volumes: Vec<&str> = subject
        .spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume.host_path.is_some())
        .map(|volume| volume.name.as_str())
        .collect();
    if volumes.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", volumes.len());
    finding("hostPath volumes", format!("{word} {}", quoted(volumes)))
}

fn host_ports(subject: &Subject<'_>) -> Option<Finding> {
    let mut ports = std::collections::BTreeSet::new();
    let containers = bad(subject, |container| {
        let used = container.ports.iter().filter_map(|port| port.host_port);
        let used: Vec<i32> = used.filter(|port| *port != 0).collect();
        ports.extend(used.iter().map(ToString::to_string));
        !used.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let shown: Vec<&str> = ports.iter().map(String::as_str).collect();
    finding(
        "hostPort",
        format!(
            "{} {} {} {}",
            named(&containers),
            plural("uses", "use", containers.len()),
            plural("hostPort", "hostPorts", ports.len()),
            shown.join(", ")
        ),
    )
}

fn probe_hosts(subject: &Subject<'_>) -> Option<Finding> {
    fn of_probe(probe: &Probe) -> [Option<&String>; 2] {
        let http = probe.http_get.as_ref();
        let tcp = probe.tcp_socket.as_ref();
        [
            http.and_then(|get| get.host.as_ref()),
            tcp.and_then(|socket| socket.host.as_ref()),
        ]
    }
    fn of_handler(handler: &LifecycleHandler) -> [Option<&String>; 2] {
        let http = handler.http_get.as_ref();
        let tcp = handler.tcp_socket.as_ref();
        [
            http.and_then(|get| get.host.as_ref()),
            tcp.and_then(|socket| socket.host.as_ref()),
        ]
    }
    let mut hosts = Values::new();
    let mut containers = bad(subject, |container| {
        let handlers = container
            .lifecycle
            .into_iter()
            .flat_map(|lifecycle| [lifecycle.post_start.as_ref(), lifecycle.pre_stop.as_ref()])
            .flatten();
        let found: Vec<&str> = container
            .probes
            .into_iter()
            .flatten()
            .flat_map(of_probe)
            .chain(handlers.flat_map(of_handler))
            .flatten()
            .map(String::as_str)
            .filter(|host| !host.is_empty())
            .collect();
        hosts.extend(&found);
        !found.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    containers.sort_unstable();
    finding(
        "probe or lifecycle host",
        format!(
            "{} {} {} {}",
            named(&containers),
            plural("uses", "use", containers.len()),
            plural(
                "probe or lifecycle host",
                "probe or lifecycle hosts",
                hosts.len()
            ),
            quoted(hosts)
        ),
    )
}

fn privileged(subject: &Subject<'_>) -> Option<Finding> {
    let containers = bad(subject, |container| {
        container.security.and_then(|s| s.privileged) == Some(true)
    });
    if containers.is_empty() {
        return None;
    }
    let who = named(&containers);
    finding(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

pub(super) fn proc_mount(subject: &Subject<'_>) -> Option<Finding> {
    let mut values = Values::new();
    let containers = bad(subject, |container| {
        let mount = container.security.and_then(|s| s.proc_mount.as_deref());
        let mount = mount.filter(|mount| *mount != "Default");
        values.extend(mount);
        mount.is_some()
    });
    if containers.is_empty() {
        return None;
    }
    finding(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            named(&containers),
            quoted(values)
        ),
    )
}

fn se_linux_0(subject: &Subject<'_>) -> Option<Finding> {
    se_linux(
        subject,
        &["", "container_t", "container_init_t", "container_kvm_t"],
    )
}

fn se_linux_31(subject: &Subject<'_>) -> Option<Finding> {
    se_linux(
        subject,
        &[
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ],
    )
}

fn se_linux(subject: &Subject<'_>, allowed: &[&str]) -> Option<Finding> {
    fn set(text: &Option<String>) -> bool {
        text.as_deref().is_some_and(|text| !text.is_empty())
    }
    let mut types = Values::new();
    let (mut user, mut role) = (false, false);
    let mut forbidden = |options: &'_ SELinuxOptions| {
        let sort = options.type_.as_deref().unwrap_or_default();
        let bad = !allowed.contains(&sort);
        user |= set(&options.user);
        role |= set(&options.role);
        (bad, bad || set(&options.user) || set(&options.role))
    };
    let options = subject.spec.security_context.as_ref();
    let options = options.and_then(|security| security.se_linux_options.as_ref());
    let mut pod = false;
    if let Some(options) = options {
        let (bad_type, bad) = forbidden(options);
        if bad_type {
            types.extend(options.type_.as_deref());
        }
        pod = bad;
    }
    let containers = bad(subject, |container| {
        let options = container.security.and_then(|s| s.se_linux_options.as_ref());
        options.is_some_and(|options| {
            let (bad_type, bad) = forbidden(options);
            if bad_type {
                types.extend(options.type_.as_deref());
            }
            bad
        })
    });
    let who = setters(pod, &containers)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        let word = plural("type", "types", types.len());
        what.push(format!("{word} {}", quoted(types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    finding(
        "seLinuxOptions",
        format!(
            "{who} set forbidden securityContext.seLinuxOptions: {}",
            what.join("; ")
        ),
    )
}

fn sysctls(subject: &Subject<'_>, minor: u32) -> Option<Finding> {
    const SAFE: &[(u32, &str)] = &[
        (0, "kernel.shm_rmid_forced"),
        (0, "net.ipv4.ip_local_port_range"),
        (0, "net.ipv4.tcp_syncookies"),
        (0, "net.ipv4.ping_group_range"),
        (0, "net.ipv4.ip_unprivileged_port_start"),
        (27, "net.ipv4.ip_local_reserved_ports"),
        (29, "net.ipv4.tcp_keepalive_time"),
        (29, "net.ipv4.tcp_fin_timeout"),
        (29, "net.ipv4.tcp_keepalive_intvl"),
        (29, "net.ipv4.tcp_keepalive_probes"),
        (32, "net.ipv4.tcp_rmem"),
        (32, "net.ipv4.tcp_wmem"),
        (37, "net.ipv4.tcp_slow_start_after_idle"),
        (37, "net.ipv4.tcp_notsent_lowat"),
    ];
    let set = subject.spec.security_context.as_ref();
    let unsafe_ones: Vec<&str> = set
        .and_then(|security| security.sysctls.as_deref())
        .unwrap_or_default()
        .iter()
        .map(|sysctl| sysctl.name.as_str())
        .filter(|name| {
            !SAFE
                .iter()
                .any(|(since, safe)| safe == name && minor >= *since)
        })
        .collect();
    if unsafe_ones.is_empty() {
        return None;
    }
    finding("forbidden sysctls", unsafe_ones.join(", "))
}

fn host_process(subject: &Subject<'_>) -> Option<Finding> {
    let containers = bad(subject, |container| {
        let options = container.security.and_then(|s| s.windows_options.as_ref());
        options.and_then(|options| options.host_process) == Some(true)
    });
    let pod = subject.spec.security_context.as_ref();
    let pod = pod.and_then(|security| security.windows_options.as_ref());
    let pod = pod.and_then(|options| options.host_process) == Some(true);
    let who = setters(pod, &containers)?;
    finding(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

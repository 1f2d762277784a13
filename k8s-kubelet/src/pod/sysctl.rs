//! Which kernel parameters a pod may set.

use super::{PodView, admission::Refusal};

/// Those that are namespaced and isolated: upstream's list at v1.37.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// A namespace of the kernel that has parameters of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// The namespace that a parameter, or all with this prefix, belong to.
fn namespace(name: &str) -> Option<Namespace> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name == "kernel.sem" || ipc.iter().any(|p| name.starts_with(p)) {
        Some(Namespace::Ipc)
    } else if name.starts_with("net.") {
        Some(Namespace::Net)
    } else {
        None
    }
}

/// The name with dots between its parts, where slashes separate them. A name's first separator
/// is what separates.
pub(crate) fn dotted(name: &str) -> String {
    if name
        .find(['.', '/'])
        .is_none_or(|i| name[i..].starts_with('.'))
    {
        return name.to_owned();
    }
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// A parameter, or with `*` at its end all of a prefix, that may be allowed beside the safe ones;
/// `None` for one that is not known to be namespaced.
pub(crate) fn pattern(text: &str) -> Option<String> {
    let name = dotted(text);
    namespace(name.strip_suffix('*').unwrap_or(&name)).map(|_| name)
}

/// Decides on the parameters of a pod. `unsafe_ones` are [`pattern`]s.
pub(crate) fn admit(pod: &PodView, unsafe_ones: &[String]) -> Result<(), Refusal> {
    let spec = pod.spec();
    let wanted = spec
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.as_deref());
    for sysctl in wanted.unwrap_or_default() {
        let name = dotted(&sysctl.name);
        let matches = |p: &String| match p.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *p == name,
        };
        let refuse = |why: &str| Refusal {
            reason: "SysctlForbidden".to_owned(),
            message: format!("forbidden sysctl: {name:?} {why}"),
        };
        if !SAFE.contains(&name.as_str()) && !unsafe_ones.iter().any(matches) {
            return Err(refuse("not allowlisted"));
        }
        match namespace(&name) {
            Some(Namespace::Ipc) if spec.host_ipc == Some(true) => {
                return Err(refuse("not allowed with host ipc enabled"));
            }
            Some(Namespace::Net) if spec.host_network == Some(true) => {
                return Err(refuse("not allowed with host net enabled"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(names: &[&str], host: bool, allowed: &[&str]) -> Option<String> {
        let sysctls: Vec<_> = names
            .iter()
            .map(|n| json!({"name": n, "value": "1"}))
            .collect();
        let spec = json!({
            "hostIPC": host, "hostNetwork": host,
            "securityContext": {"sysctls": sysctls}, "containers": [],
        });
        let pod = PodView::new(serde_json::from_value(json!({"spec": spec})).unwrap());
        let allowed: Vec<String> = allowed.iter().map(|p| pattern(p).unwrap()).collect();
        let refusal = admit(&pod, &allowed).err()?;
        assert_eq!(refusal.reason, "SysctlForbidden");
        Some(refusal.message)
    }

    #[test]
    fn safe_parameters_are_allowed_and_others_where_the_node_says_so() {
        let safe = ["kernel.shm_rmid_forced", "net/ipv4/tcp_syncookies"];
        assert_eq!(refused(&safe, false, &[]), None);
        assert_eq!(
            refused(&["kernel.msgmax"], false, &[]).unwrap(),
            "forbidden sysctl: \"kernel.msgmax\" not allowlisted"
        );
        assert_eq!(refused(&["kernel.msgmax"], false, &["kernel.msg*"]), None);
        assert_eq!(refused(&["kernel.msgmax"], false, &["kernel/msgmax"]), None);
        assert!(refused(&["kernel.msgmnb"], false, &["kernel.msgmax"]).is_some());
    }

    #[test]
    fn the_nodes_own_parameters_are_never_set() {
        assert_eq!(
            refused(&["net.ipv4.tcp_syncookies"], true, &[]).unwrap(),
            "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"
        );
        assert_eq!(
            refused(&["kernel.shm_rmid_forced"], true, &[]).unwrap(),
            "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"
        );
        assert_eq!(
            (pattern("vm.swappiness"), pattern("kernel.*")),
            (None, None)
        );
    }

    #[test]
    fn the_first_separator_separates() {
        assert_eq!(dotted("net/ipv4/conf/eth0.1/x"), "net.ipv4.conf.eth0/1.x");
        assert_eq!(dotted("net.ipv4.conf.eth0/1.x"), "net.ipv4.conf.eth0/1.x");
        assert_eq!(dotted("plain"), "plain");
    }
}

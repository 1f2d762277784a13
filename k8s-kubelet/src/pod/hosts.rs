//! A pod's `/etc/hosts` and host name.

use std::{fmt::Write as _, net::IpAddr};

use super::PodView;

/// The host name inside the pod and, with a subdomain, the domain it belongs to.
pub(crate) fn hostname(pod: &PodView, cluster_domain: &str) -> (String, String) {
    let name = pod
        .spec()
        .hostname
        .as_deref()
        .filter(|h| !h.is_empty())
        .unwrap_or(pod.name());
    // 64 bytes with the terminating zero is what the kernel takes.
    let name = name
        .get(..63)
        .unwrap_or(name)
        .trim_end_matches(['-', '.'])
        .to_owned();
    let domain = match pod.spec().subdomain.as_deref() {
        Some(sub) if !sub.is_empty() => format!("{sub}.{}.svc.{cluster_domain}", pod.namespace()),
        _ => String::new(),
    };
    (name, domain)
}

/// The text of the pod's `/etc/hosts`; `node_hosts` is the node's own, for pods on its network.
pub(crate) fn hosts_file(
    pod: &PodView,
    ips: &[IpAddr],
    cluster_domain: &str,
    node_hosts: &str,
) -> String {
    let mut out = String::new();
    if pod.host_network() {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(node_hosts);
    } else {
        out.push_str("# Kubernetes-managed hosts file.\n");
        out.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        out.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n");
        out.push_str("fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (name, domain) = hostname(pod, cluster_domain);
        for ip in ips {
            let _ = if domain.is_empty() {
                writeln!(out, "{ip}\t{name}")
            } else {
                writeln!(out, "{ip}\t{name}.{domain}\t{name}")
            };
        }
    }
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let _ = writeln!(
                out,
                "{}\t{}",
                alias.ip,
                alias
                    .hostnames
                    .iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("\t")
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};

    use super::*;

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let mut pod = Pod {
            spec: Some(PodSpec {
                subdomain: Some("sub".to_owned()),
                host_aliases: Some(vec![HostAlias {
                    ip: "1.2.3.4".to_owned(),
                    hostnames: Some(vec!["foo".to_owned(), "bar".to_owned()]),
                }]),
                ..Default::default()
            }),
            ..Default::default()
        };
        pod.metadata.name = Some("web-0".to_owned());
        pod.metadata.namespace = Some("ns".to_owned());
        let text = hosts_file(
            &PodView::new(pod),
            &["10.0.0.7".parse().unwrap()],
            "cluster.local",
            "",
        );
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.0.0.7\tweb-0.sub.ns.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n"));
    }
}

//! A pod's `/etc/resolv.conf`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodDNSConfig;
use k8s_runtime::DnsConfig;

use super::PodView;

/// Reads a `resolv.conf`.
pub(crate) fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut out = DnsConfig::default();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|l| !l.starts_with(['#', ';']))
    {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => out.servers.extend(fields.next().map(str::to_owned)),
            Some("search") => {
                out.searches = fields
                    .filter(|s| *s != ".")
                    .map(|s| s.trim_end_matches('.').to_owned())
                    .collect();
            }
            Some("options") => {
                for option in fields {
                    set_option(&mut out.options, option);
                }
            }
            _ => {}
        }
    }
    out
}

fn option_name(option: &str) -> &str {
    option.split(':').next().unwrap_or(option)
}

fn set_option(options: &mut Vec<String>, option: &str) {
    match options
        .iter_mut()
        .find(|o| option_name(o) == option_name(option))
    {
        Some(there) => option.clone_into(there),
        None => options.push(option.to_owned()),
    }
}

fn without_duplicates(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// What goes into the pod's `resolv.conf`, by its DNS policy. Where the policy asks for the
/// cluster's DNS and there is none, the node's is used, as upstream does.
pub(crate) fn dns_config(
    pod: &PodView,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
    node: &DnsConfig,
) -> DnsConfig {
    let policy = pod.spec().dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod.host_network(),
        _ => false,
    };
    let mut out = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !cluster_dns.is_empty() {
        let mut searches = Vec::new();
        if !cluster_domain.is_empty() {
            searches.push(format!("{}.svc.{cluster_domain}", pod.namespace()));
            searches.push(format!("svc.{cluster_domain}"));
            searches.push(cluster_domain.to_owned());
        }
        searches.extend(node.searches.iter().cloned());
        DnsConfig {
            servers: cluster_dns.iter().map(ToString::to_string).collect(),
            searches: without_duplicates(searches),
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        node.clone()
    };
    if let Some(PodDNSConfig {
        nameservers,
        searches,
        options,
        ..
    }) = &pod.spec().dns_config
    {
        out.servers.extend(nameservers.iter().flatten().cloned());
        out.searches.extend(searches.iter().flatten().cloned());
        out.servers = without_duplicates(out.servers);
        out.searches = without_duplicates(out.searches);
        for option in options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let text = match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            };
            set_option(&mut out.options, &text);
        }
    }
    out.servers.truncate(3);
    out.searches.truncate(32);
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec};

    use super::*;

    fn pod(policy: &str, host_network: bool) -> PodView {
        let mut pod = Pod {
            spec: Some(PodSpec {
                dns_policy: Some(policy.to_owned()),
                host_network: Some(host_network),
                ..Default::default()
            }),
            ..Default::default()
        };
        pod.metadata.namespace = Some("ns".to_owned());
        PodView::new(pod)
    }

    #[test]
    fn policies_choose_between_cluster_and_node() {
        let node =
            parse_resolv_conf("nameserver 9.9.9.9\nsearch corp.example.\noptions timeout:1\n");
        let dns = ["10.96.0.10".parse().unwrap()];
        let cluster = dns_config(&pod("ClusterFirst", false), &dns, "cluster.local", &node);
        assert_eq!(cluster.servers, ["10.96.0.10"]);
        assert_eq!(
            cluster.searches,
            [
                "ns.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
                "corp.example"
            ]
        );
        assert_eq!(cluster.options, ["ndots:5"]);
        for p in [pod("ClusterFirst", true), pod("Default", false)] {
            assert_eq!(dns_config(&p, &dns, "cluster.local", &node), node);
        }
        assert_eq!(
            dns_config(&pod("None", false), &dns, "cluster.local", &node),
            DnsConfig::default()
        );
    }
}

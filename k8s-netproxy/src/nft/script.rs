//! The commands that take the table from one rule set to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

use super::layout::TABLE;
use crate::{RuleSet, ServicePortName, ServiceRule};

/// A map of the table, by its name and the text of its keys and values.
type Elements = BTreeMap<&'static str, BTreeMap<String, String>>;

/// The table's changeable contents, as nftables would print them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    sets: BTreeMap<String, u64>,
    chains: BTreeMap<String, Vec<String>>,
    elements: Elements,
}

impl Contents {
    /// The contents for a rule set.
    pub(super) fn of(rules: &RuleSet) -> Self {
        let mut contents = Contents::default();
        for (name, rule) in &rules.services {
            contents.add(name, rule);
        }
        contents
    }

    fn add(&mut self, name: &ServicePortName, rule: &ServiceRule) {
        let base = chain_base(name);
        let protocol = name.protocol;
        let at = |ip: &IpAddr| format!("{ip} . {protocol} . {}", rule.port);
        let node_port = rule.node_port.map(|port| format!("{protocol} . {port}"));
        self.element("cluster-ips", rule.cluster_ip.to_string(), String::new());

        if rule.cluster_endpoints.is_empty() {
            self.element(
                "no-endpoint-services",
                at(&rule.cluster_ip),
                "goto reject-chain".into(),
            );
        } else {
            let chain = format!("service-{base}");
            // Traffic that the node itself sends to a cluster IP needs no masquerade; what comes back through
            // the endpoint's node does. Upstream masquerades off-cluster sources; only
            // hairpins need it inside (see the endpoint chains).
            self.balance(&chain, &base, rule, &rule.cluster_endpoints, Vec::new());
            self.element("service-ips", at(&rule.cluster_ip), format!("goto {chain}"));
        }

        if node_port.is_none() && rule.external_ips.is_empty() {
            return;
        }
        if rule.external_endpoints.is_empty() {
            for ip in &rule.external_ips {
                self.element("no-endpoint-services", at(ip), "goto reject-chain".into());
            }
            if let Some(key) = node_port {
                self.element("no-endpoint-nodeports", key, "goto reject-chain".into());
            }
            return;
        }
        let chain = format!("external-{base}");
        let first = if rule.preserve_source {
            Vec::new()
        } else {
            vec!["jump mark-for-masquerade".to_owned()]
        };
        self.balance(&chain, &base, rule, &rule.external_endpoints, first);
        for ip in &rule.external_ips {
            self.element("service-ips", at(ip), format!("goto {chain}"));
        }
        if let Some(key) = node_port {
            self.element("service-nodeports", key, format!("goto {chain}"));
        }
    }

    /// A chain that sends each connection to one of the endpoints, after `rules`.
    fn balance(
        &mut self,
        chain: &str,
        base: &str,
        rule: &ServiceRule,
        endpoints: &[SocketAddr],
        mut rules: Vec<String>,
    ) {
        let chains: Vec<String> = endpoints
            .iter()
            .map(|e| self.endpoint(base, rule, e))
            .collect();
        if rule.affinity.is_some() {
            for (endpoint, to) in endpoints.iter().zip(&chains) {
                rules.push(format!(
                    "ip saddr @{} goto {to}",
                    affinity_set(base, endpoint)
                ));
            }
        }
        match chains.as_slice() {
            [one] => rules.push(format!("goto {one}")),
            many => {
                let map: Vec<String> = many
                    .iter()
                    .enumerate()
                    .map(|(i, c)| format!("{i} : goto {c}"))
                    .collect();
                rules.push(format!(
                    "numgen random mod {} vmap {{ {} }}",
                    many.len(),
                    map.join(", ")
                ));
            }
        }
        self.chains.insert(chain.to_owned(), rules);
    }

    /// The chain that sends a connection to one endpoint.
    fn endpoint(&mut self, base: &str, rule: &ServiceRule, endpoint: &SocketAddr) -> String {
        let name = format!("endpoint-{base}__{}_{}", endpoint.ip(), endpoint.port());
        let mut rules = vec![format!(
            "ip saddr {} jump mark-for-masquerade",
            endpoint.ip()
        )];
        if let Some(timeout) = rule.affinity {
            let set = affinity_set(base, endpoint);
            rules.push(format!("update @{set} {{ ip saddr }}"));
            self.sets.insert(set, timeout.as_secs().max(1));
        }
        let protocol = base_protocol(base);
        rules.push(format!("meta l4proto {protocol} dnat to {endpoint}"));
        self.chains.insert(name.clone(), rules);
        name
    }

    fn element(&mut self, map: &'static str, key: String, value: String) {
        // Two Services may claim one external address and port: the first in name order has it.
        self.elements
            .entry(map)
            .or_default()
            .entry(key)
            .or_insert(value);
    }

    /// The commands that lead from `old` to these contents, to be run in one transaction; empty
    /// where nothing differs.
    pub(super) fn since(&self, old: &Contents) -> String {
        let mut script = String::new();
        self.forget_elements(old, &mut script);
        self.write_chains(old, &mut script);
        self.write_elements(old, &mut script);
        self.forget_chains(old, &mut script);
        script
    }

    /// Elements are forgotten before they are written, since a changed one is both.
    fn forget_elements(&self, old: &Contents, script: &mut String) {
        for (map, elements) in &old.elements {
            let new = self.elements.get(map);
            let gone = elements
                .iter()
                .filter(|(k, v)| new.and_then(|n| n.get(*k)) != Some(v))
                .map(|(k, _)| k.clone());
            elements_command(script, "delete", map, gone);
        }
    }

    fn write_elements(&self, old: &Contents, script: &mut String) {
        for (map, elements) in &self.elements {
            let was = old.elements.get(map);
            let added = elements
                .iter()
                .filter(|(k, v)| was.and_then(|w| w.get(*k)) != Some(v))
                .map(|(k, v)| {
                    if v.is_empty() {
                        k.clone()
                    } else {
                        format!("{k} : {v}")
                    }
                });
            elements_command(script, "add", map, added);
        }
    }

    fn write_chains(&self, old: &Contents, script: &mut String) {
        for (set, seconds) in self
            .sets
            .iter()
            .filter(|(s, t)| old.sets.get(*s) != Some(t))
        {
            if old.sets.contains_key(set) {
                // A set's timeout can't be changed: its rules go first, then it is made anew.
                for (chain, _) in old
                    .chains
                    .iter()
                    .filter(|(_, r)| r.iter().any(|r| r.contains(set.as_str())))
                {
                    line(script, format_args!("flush chain ip {TABLE} {chain}"));
                }
                line(script, format_args!("delete set ip {TABLE} {set}"));
            }
            line(
                script,
                format_args!(
                    "add set ip {TABLE} {set} {{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; }}"
                ),
            );
        }
        let changed: Vec<_> = self
            .chains
            .iter()
            .filter(|(c, r)| old.chains.get(*c) != Some(r))
            .collect();
        for (chain, _) in &changed {
            line(script, format_args!("add chain ip {TABLE} {chain}"));
            if old.chains.contains_key(*chain) {
                line(script, format_args!("flush chain ip {TABLE} {chain}"));
            }
        }
        // A chain whose affinity set was remade lost its rules with the others'.
        let remade: BTreeSet<&String> = self
            .sets
            .iter()
            .filter(|(s, t)| old.sets.get(*s).is_some_and(|o| o != *t))
            .map(|(s, _)| s)
            .collect();
        for (chain, rules) in &self.chains {
            let is_changed = old.chains.get(chain) != Some(rules);
            let lost = !is_changed
                && rules
                    .iter()
                    .any(|r| remade.iter().any(|s| r.contains(s.as_str())));
            if is_changed || lost {
                for rule in rules {
                    line(script, format_args!("add rule ip {TABLE} {chain} {rule}"));
                }
            }
        }
    }

    /// Chains that nothing leads to any more: emptied first, since they may lead to each other.
    fn forget_chains(&self, old: &Contents, script: &mut String) {
        let gone: Vec<_> = old
            .chains
            .keys()
            .filter(|c| !self.chains.contains_key(*c))
            .collect();
        for chain in &gone {
            line(script, format_args!("flush chain ip {TABLE} {chain}"));
        }
        for chain in &gone {
            line(script, format_args!("delete chain ip {TABLE} {chain}"));
        }
        for set in old.sets.keys().filter(|s| !self.sets.contains_key(*s)) {
            line(script, format_args!("delete set ip {TABLE} {set}"));
        }
    }
}

fn line(script: &mut String, text: std::fmt::Arguments<'_>) {
    script
        .write_fmt(text)
        .expect("writing to a string cannot fail");
    script.push('\n');
}

fn elements_command(
    script: &mut String,
    verb: &str,
    map: &str,
    elements: impl Iterator<Item = String>,
) {
    let elements: Vec<String> = elements.collect();
    if !elements.is_empty() {
        line(
            script,
            format_args!(
                "{verb} element ip {TABLE} {map} {{ {} }}",
                elements.join(", ")
            ),
        );
    }
}

/// A chain name's part that stands for a Service port: a hash, so that it is unique and short, and
/// the names, so that a person can read it.
fn chain_base(name: &ServicePortName) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let readable: String = format!("{}/{}", name.namespace, name.name)
        .chars()
        .take(60)
        .collect();
    let port: String = name.port.chars().take(15).collect();
    format!(
        "{:08x}-{readable}/{}/{port}",
        hasher.finish() as u32,
        name.protocol
    )
}

fn base_protocol(base: &str) -> &str {
    let mut parts = base.rsplit('/');
    parts.next();
    parts.next().unwrap_or("tcp")
}

fn affinity_set(base: &str, endpoint: &SocketAddr) -> String {
    format!("affinity-{base}__{}_{}", endpoint.ip(), endpoint.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Protocol;

    fn name(service: &str) -> ServicePortName {
        ServicePortName {
            namespace: "shop".into(),
            name: service.into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        }
    }

    fn rule(endpoints: &[&str]) -> ServiceRule {
        let endpoints: Vec<SocketAddr> = endpoints.iter().map(|e| e.parse().unwrap()).collect();
        ServiceRule {
            cluster_ip: "10.96.0.7".parse().unwrap(),
            port: 80,
            node_port: None,
            external_ips: Vec::new(),
            cluster_endpoints: endpoints.clone(),
            external_endpoints: endpoints,
            preserve_source: false,
            affinity: None,
        }
    }

    fn contents(rules: &[(&str, ServiceRule)]) -> Contents {
        Contents::of(&RuleSet {
            services: rules.iter().map(|(n, r)| (name(n), r.clone())).collect(),
        })
    }

    #[test]
    fn equal_contents_need_no_commands() {
        let a = contents(&[("web", rule(&["10.244.0.2:8080", "10.244.0.3:8080"]))]);
        assert_eq!(a.since(&a), "");
    }

    #[test]
    fn one_more_endpoint_touches_only_its_service() {
        let old = contents(&[
            ("web", rule(&["10.244.0.2:8080"])),
            ("db", rule(&["10.244.0.9:5432"])),
        ]);
        let new = contents(&[
            ("web", rule(&["10.244.0.2:8080", "10.244.0.3:8080"])),
            ("db", rule(&["10.244.0.9:5432"])),
        ]);
        let script = new.since(&old);
        assert!(script.contains("numgen random mod 2"), "{script}");
        assert!(!script.contains("shop/db"), "{script}");
    }

    #[test]
    fn a_service_without_endpoints_is_rejected_not_dropped() {
        let new = contents(&[("web", rule(&[]))]);
        let script = new.since(&Contents::default());
        assert!(
            script.contains("no-endpoint-services { 10.96.0.7 . tcp . 80 : goto reject-chain }"),
            "{script}"
        );
    }

    #[test]
    fn a_removed_service_leaves_nothing_behind() {
        let mut sticky = rule(&["10.244.0.2:8080"]);
        sticky.affinity = Some(Duration::from_secs(60));
        sticky.node_port = Some(30080);
        let old = contents(&[("web", sticky)]);
        let script = Contents::default().since(&old);
        for chain in old.chains.keys() {
            assert!(
                script.contains(&format!("delete chain ip kube-proxy {chain}\n")),
                "{script}"
            );
        }
        for set in old.sets.keys() {
            assert!(
                script.contains(&format!("delete set ip kube-proxy {set}\n")),
                "{script}"
            );
        }
    }

    #[test]
    fn node_ports_hide_the_source_unless_the_policy_is_local() {
        let mut open = rule(&["10.244.0.2:8080"]);
        open.node_port = Some(30080);
        let script = contents(&[("web", open.clone())]).since(&Contents::default());
        assert!(
            script.contains("jump mark-for-masquerade\nadd rule"),
            "{script}"
        );
        open.preserve_source = true;
        let contents = contents(&[("web", open)]);
        let external = contents
            .chains
            .iter()
            .find(|(c, _)| c.starts_with("external-"))
            .unwrap();
        assert!(!external.1.iter().any(|r| r.contains("masquerade")));
    }
}

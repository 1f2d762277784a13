//! What `/metrics` tells of addresses and ports that are handed out, under upstream's names.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{Cidr, Services, addresses, ranges::Ranges, taken};
use crate::{
    Result,
    metrics::{Counts, Timings, Writer},
    registry::Registry,
};

/// The bounds of how long it took to find an address, in seconds; as upstream.
const BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How somebody comes to an address or a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// It was asked for.
    Static,
    /// Any would do.
    Dynamic,
}

impl Scope {
    fn label(self) -> &'static str {
        match self {
            Self::Static => "scope=\"static\"",
            Self::Dynamic => "scope=\"dynamic\"",
        }
    }
}

/// What was handed out, and what could not be: also what was given back since, as a write lost a race. Dry runs do not
/// count.
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    addresses: Counts,
    address_errors: Counts,
    address_times: Timings<11>,
    ports: Counts,
    port_errors: Counts,
}

impl Allocations {
    /// An address of a range was wanted, and had after so long, if it was. It is taken later, in the commit of its Service.
    pub(super) fn address(&self, cidr: Cidr, scope: Scope, after: Option<Duration>) {
        let counts = match after {
            Some(_) => &self.addresses,
            None => &self.address_errors,
        };
        counts.count(format!("cidr=\"{cidr}\",{}", scope.label()));
        if let Some(after) = after {
            let label = format!("cidr=\"{cidr}\"");
            (self.address_times).observe(label, after.as_secs_f64(), &BOUNDS);
        }
    }

    /// A node port was wanted.
    pub(super) fn port(&self, scope: Scope, succeeded: bool) {
        let counts = if succeeded {
            &self.ports
        } else {
            &self.port_errors
        };
        counts.count(scope.label().to_owned());
    }
}

/// What Services have.
#[derive(Debug)]
pub(crate) struct InUse {
    cidrs: BTreeSet<Cidr>,
    addresses: Vec<IpAddr>,
    ports: usize,
}

impl Services {
    /// Finds out what Services have; nothing where there are none.
    pub(crate) async fn in_use(&self, registry: &Registry) -> Result<Option<InUse>> {
        if registry.stored_row("", "services").is_none() {
            return Ok(None);
        }
        Ok(Some(InUse {
            cidrs: Ranges::read(registry).await?.all(),
            addresses: addresses::taken(registry).await?,
            ports: taken(registry).await?.len(),
        }))
    }

    /// Writes what was handed out, and what is left if that is known.
    pub(crate) fn write_metrics(&self, in_use: Option<InUse>, out: &mut Writer) {
        if let Some(in_use) = &in_use {
            write_addresses(&in_use.cidrs, &in_use.addresses, out);
        }
        let counted = &self.allocations;
        counted.addresses.write(
            out,
            "kube_apiserver_clusterip_allocator_allocation_total",
            "[ALPHA] Number of Cluster IPs allocations",
        );
        counted.address_errors.write(
            out,
            "kube_apiserver_clusterip_allocator_allocation_errors_total",
            "[ALPHA] Number of errors trying to allocate Cluster IPs",
        );
        counted.address_times.write(
            out,
            &BOUNDS,
            "kube_apiserver_clusterip_allocator_allocation_duration_seconds",
            "[ALPHA] Duration in seconds to allocate a Cluster IP by ServiceCIDR",
        );
        if let Some(in_use) = &in_use {
            out.family(
                "kube_apiserver_nodeport_allocator_allocated_ports",
                "gauge",
                "[ALPHA] Gauge measuring the number of allocated NodePorts for Services",
            );
            out.sample("", "", in_use.ports as f64);
            out.family(
                "kube_apiserver_nodeport_allocator_available_ports",
                "gauge",
                "[ALPHA] Gauge measuring the number of available NodePorts for Services",
            );
            let left = self.node_ports.size().saturating_sub(in_use.ports);
            out.sample("", "", left as f64);
        }
        counted.ports.write(
            out,
            "kube_apiserver_nodeport_allocator_allocation_total",
            "[ALPHA] Number of NodePort allocations",
        );
        counted.port_errors.write(
            out,
            "kube_apiserver_nodeport_allocator_allocation_errors_total",
            "[ALPHA] Number of errors trying to allocate NodePort",
        );
    }
}

fn write_addresses(cidrs: &BTreeSet<Cidr>, taken: &[IpAddr], out: &mut Writer) {
    let used = |cidr: &Cidr| taken.iter().filter(|ip| cidr.contains_host(**ip)).count() as u128;
    let used: Vec<(Cidr, u128)> = cidrs.iter().map(|cidr| (*cidr, used(cidr))).collect();
    out.family(
        "kube_apiserver_clusterip_allocator_allocated_ips",
        "gauge",
        "[ALPHA] Gauge measuring the number of allocated IPs for Services",
    );
    for (cidr, used) in &used {
        out.sample("", &format!("cidr=\"{cidr}\""), *used as f64);
    }
    out.family(
        "kube_apiserver_clusterip_allocator_available_ips",
        "gauge",
        "[ALPHA] Gauge measuring the number of available IPs for Services",
    );
    for (cidr, used) in &used {
        // Upstream counts as far as a number goes there.
        let left = (cidr.hosts().end - cidr.hosts().start).min(i64::MAX as u128);
        let left = left.saturating_sub(*used);
        out.sample("", &format!("cidr=\"{cidr}\""), left as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_in_each_range_that_has_it() {
        let cidrs = ["10.1.0.0/24", "10.1.0.0/28", "10.2.0.0/24", "fd00::/120"];
        let cidrs = cidrs.map(|text| text.parse().unwrap()).into();
        let taken =
            ["10.1.0.3", "10.1.0.77", "10.9.0.1", "fd00::9"].map(|text| text.parse().unwrap());
        let mut out = Writer::default();
        write_addresses(&cidrs, &taken, &mut out);
        let text = out.finish();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "kube_apiserver_clusterip_allocator_allocated_ips{cidr=\"10.1.0.0/24\"} 2",
                "kube_apiserver_clusterip_allocator_allocated_ips{cidr=\"10.1.0.0/28\"} 1",
                "kube_apiserver_clusterip_allocator_allocated_ips{cidr=\"10.2.0.0/24\"} 0",
                "kube_apiserver_clusterip_allocator_allocated_ips{cidr=\"fd00::/120\"} 1",
                "kube_apiserver_clusterip_allocator_available_ips{cidr=\"10.1.0.0/24\"} 252",
                "kube_apiserver_clusterip_allocator_available_ips{cidr=\"10.1.0.0/28\"} 13",
                "kube_apiserver_clusterip_allocator_available_ips{cidr=\"10.2.0.0/24\"} 254",
                "kube_apiserver_clusterip_allocator_available_ips{cidr=\"fd00::/120\"} 254",
            ]
        );
    }
}

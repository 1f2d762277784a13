//! What is to be done about a ServiceCIDR: the pure core.

use std::net::IpAddr;

use k8s_openapi::{
    api::networking::v1::{IPAddress, ServiceCIDR},
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};

use crate::node_ipam::Cidr;

/// What holds a ServiceCIDR that is to go.
pub(super) const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
pub(super) const READY: &str = "Ready";
/// How long after it was deleted a ServiceCIDR is let go at the soonest: so long an API server may not have heard of that.
const GRACE: SignedDuration = SignedDuration::from_secs(10);
/// By these labels an address is known to be of a Service.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// It is to have the finalizer, or the condition that says that it is ready, or both.
    Ready { finalizer: bool, condition: bool },
    /// It is in use: it is to have the condition that says so.
    Hold,
    /// It goes, in a while.
    Wait(SignedDuration),
    /// It goes: the finalizer is to be taken off.
    LetGo,
}

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

/// The condition of one that can be used.
pub(super) const IS_READY: Said = Said {
    status: "True",
    reason: "",
    message: "Kubernetes Service CIDR is ready",
};

/// The condition of one that is held.
pub(super) const IS_HELD: Said = Said {
    status: "False",
    reason: "Terminating",
    message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
};

fn says(range: &ServiceCIDR, said: Said) -> bool {
    let status = range.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready: Option<&Condition> = (conditions.into_iter().flatten()).find(|c| c.type_ == READY);
    ready.is_some_and(|c| {
        (&*c.status, &*c.reason, &*c.message) == (said.status, said.reason, said.message)
    })
}

/// What is to be done about `range`, one of `all`, with these addresses.
pub(super) fn decide<'a>(
    range: &ServiceCIDR,
    all: impl Iterator<Item = &'a ServiceCIDR> + Clone,
    addresses: impl Iterator<Item = &'a IPAddress>,
    now: Timestamp,
) -> Due {
    let meta = &range.metadata;
    let has_finalizer = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let Some(deleted) = &meta.deletion_timestamp else {
        let condition = !says(range, IS_READY);
        return match (has_finalizer, condition) {
            (true, false) => Due::Nothing,
            (has, condition) => Due::Ready {
                finalizer: !has,
                condition,
            },
        };
    };
    if !has_finalizer {
        return Due::Nothing;
    }
    if !can_go(range, all, addresses) {
        return match says(range, IS_HELD) {
            true => Due::Nothing,
            false => Due::Hold,
        };
    }
    match GRACE - now.duration_since(deleted.0) {
        rest if rest.is_positive() => Due::Wait(rest),
        _ => Due::LetGo,
    }
}

/// Whether no address of a Service is in this ServiceCIDR alone.
fn can_go<'a>(
    range: &ServiceCIDR,
    all: impl Iterator<Item = &'a ServiceCIDR> + Clone,
    mut addresses: impl Iterator<Item = &'a IPAddress>,
) -> bool {
    let others = || {
        let name = &range.metadata.name;
        let others = all
            .clone()
            .filter(move |other| other.metadata.name != *name);
        others.flat_map(cidrs)
    };
    if cidrs(range).all(|cidr| others().any(|other| other.covers(&cidr))) {
        return true;
    }
    !addresses.any(|address| {
        address_of(address)
            .is_some_and(|ip| contains(range, ip) && !others().any(|other| other.contains_host(ip)))
    })
}

/// The ranges of a ServiceCIDR.
pub(super) fn cidrs(range: &ServiceCIDR) -> impl Iterator<Item = Cidr> {
    let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    let cidrs = cidrs.into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.parse().ok())
}

/// Whether the address may come from the ServiceCIDR.
pub(super) fn contains(range: &ServiceCIDR, ip: IpAddr) -> bool {
    cidrs(range).any(|cidr| cidr.contains_host(ip))
}

/// The address, if it is one of a Service.
pub(super) fn address_of(address: &IPAddress) -> Option<IpAddr> {
    let labels = address.metadata.labels.as_ref()?;
    let (label, value) = MANAGED_BY;
    labels.get(label).filter(|by| *by == value)?;
    address.metadata.name.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::common::fixture::time;

    fn range(name: &str, cidrs: &[&str]) -> ServiceCIDR {
        serde_json::from_value(
            json!({"metadata": {"name": name, "finalizers": [FINALIZER]},
            "spec": {"cidrs": cidrs}}),
        )
        .unwrap()
    }

    fn saying(mut range: ServiceCIDR, said: Said) -> ServiceCIDR {
        let condition = Condition {
            type_: READY.to_owned(),
            status: said.status.to_owned(),
            reason: said.reason.to_owned(),
            message: said.message.to_owned(),
            last_transition_time: time("2026-01-01T00:00:00Z"),
            observed_generation: None,
        };
        range.status.get_or_insert_default().conditions = Some(vec![condition]);
        range
    }

    fn leaving(mut range: ServiceCIDR) -> ServiceCIDR {
        range.metadata.deletion_timestamp = Some(time("2026-01-01T00:00:00Z"));
        range
    }

    fn address(ip: &str) -> IPAddress {
        serde_json::from_value(json!({"metadata": {"name": ip, "labels": {
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
            "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}}))
        .unwrap()
    }

    fn due(range: &ServiceCIDR, others: &[ServiceCIDR], addresses: &[IPAddress]) -> Due {
        let all = std::iter::once(range).chain(others);
        let now = "2026-01-01T00:00:20Z".parse().unwrap();
        decide(range, all, addresses.iter(), now)
    }

    #[test]
    fn one_that_stays_has_finalizer_and_condition() {
        let mut new = range("r", &["10.1.0.0/24"]);
        new.metadata.finalizers = None;
        let ready = |finalizer, condition| Due::Ready {
            finalizer,
            condition,
        };
        assert_eq!(due(&new, &[], &[]), ready(true, true));
        let range = range("r", &["10.1.0.0/24"]);
        assert_eq!(due(&range, &[], &[]), ready(false, true));
        assert_eq!(
            due(&saying(range.clone(), IS_READY), &[], &[]),
            Due::Nothing
        );
        // It was to go, and is another's by now.
        assert_eq!(due(&saying(range, IS_HELD), &[], &[]), ready(false, true));
    }

    #[test]
    fn one_that_goes_is_held_while_addresses_are_in_no_other() {
        let going = leaving(range("r", &["10.1.0.0/24", "fd00::/64"]));
        assert_eq!(due(&going, &[], &[]), Due::LetGo);
        let inside = [address("10.1.0.7")];
        assert_eq!(due(&going, &[], &inside), Due::Hold);
        assert_eq!(
            due(&saying(going.clone(), IS_HELD), &[], &inside),
            Due::Nothing
        );
        assert_eq!(due(&going, &[], &[address("fd00::7")]), Due::Hold);
        assert_eq!(due(&going, &[], &[address("10.2.0.7")]), Due::LetGo);
        // Not the business of Services.
        let mut other = address("10.1.0.7");
        other.metadata.labels = None;
        assert_eq!(due(&going, &[], &[other]), Due::LetGo);
        // Another has the address, or all that this has.
        let part = range("p", &["10.1.0.0/28"]);
        assert_eq!(due(&going, &[part], &inside), Due::LetGo);
        let elsewhere = range("p", &["10.1.0.128/28"]);
        assert_eq!(due(&going, &[elsewhere], &inside), Due::Hold);
        // The other's last is nobody's address.
        let edge = range("p", &["10.1.0.0/29"]);
        assert_eq!(due(&going, &[edge], &inside), Due::Hold);
        let mut done = going.clone();
        done.metadata.finalizers = None;
        assert_eq!(due(&done, &[], &inside), Due::Nothing);
    }

    #[test]
    fn one_that_goes_waits_until_all_servers_know() {
        let going = leaving(range("r", &["10.1.0.0/24"]));
        let at = |now: &str| {
            decide(
                &going,
                std::iter::once(&going),
                std::iter::empty(),
                now.parse().unwrap(),
            )
        };
        assert_eq!(
            at("2026-01-01T00:00:04Z"),
            Due::Wait(SignedDuration::from_secs(6))
        );
        // A clock that is behind.
        assert_eq!(
            at("2025-12-31T23:59:59Z"),
            Due::Wait(SignedDuration::from_secs(11))
        );
        assert_eq!(at("2026-01-01T00:00:10Z"), Due::LetGo);
    }
}

//! The ranges that addresses come from: those of the ServiceCIDRs (KEP-1880).

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{api::networking::v1::ServiceCIDR, apimachinery::pkg::apis::meta::v1::Condition};
use k8s_store::List;

use super::{Cidr, Family};
use crate::{Result, registry::Registry};

pub(super) const GROUP: &str = "networking.k8s.io";
pub(super) const RESOURCE: &str = "servicecidrs";
/// The ServiceCIDR of the server's own range.
pub(super) const DEFAULT: &str = "kubernetes";
pub(super) const READY: &str = "Ready";

/// The ranges of one ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    cidrs: Vec<Cidr>,
    /// Whether new addresses may come from it.
    is_ready: bool,
}

/// The ranges of all ServiceCIDRs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Member>);

impl Ranges {
    /// Reads them from the store, so that nothing is handed out from a range that is known to go. As long as there is no
    /// ServiceCIDR of the server's own range, that range counts too.
    pub(super) async fn read(registry: &Registry) -> Result<Self> {
        let own = Member {
            cidrs: registry.services.cidrs().collect(),
            is_ready: true,
        };
        let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
            return Ok(Ranges(vec![own]));
        };
        let list = List {
            prefix: row.prefix.clone().into(),
            ..List::default()
        };
        let mut members = Vec::new();
        let mut has_default = false;
        for entry in registry.store.list(list).await?.entries {
            let object = row.decode_entry(&entry)?;
            if let Some(range) = object.downcast_ref::<ServiceCIDR>() {
                has_default |= range.metadata.name.as_deref() == Some(DEFAULT);
                members.push(Member::of(range));
            }
        }
        if !has_default {
            members.push(own);
        }
        Ok(Ranges(members))
    }

    /// One range, which is ready.
    #[cfg(test)]
    pub(super) fn of(cidr: Cidr) -> Self {
        Ranges(vec![Member {
            cidrs: vec![cidr],
            is_ready: true,
        }])
    }

    /// Those that new addresses of a family may come from.
    pub(super) fn ready(&self, family: Family) -> Vec<Cidr> {
        let ready = self.0.iter().filter(|member| member.is_ready);
        let cidrs = ready.flat_map(|member| member.cidrs.iter().copied());
        cidrs.filter(|cidr| cidr.family() == family).collect()
    }

    /// All there are, also those that are to go.
    pub(super) fn all(&self) -> BTreeSet<Cidr> {
        (self.0.iter().flat_map(|member| &member.cidrs))
            .copied()
            .collect()
    }

    /// The range that a new Service may have that address of, if it may.
    pub(super) fn offer(&self, address: IpAddr) -> Option<Cidr> {
        let mut ready = self.ready(Family::of(address)).into_iter();
        ready.find(|cidr| cidr.contains_host(address))
    }

    /// Whether the address is in any of them, whether or not that is to go.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let mut cidrs = self.0.iter().flat_map(|member| &member.cidrs);
        cidrs.any(|cidr| cidr.contains_host(address))
    }
}

impl Member {
    fn of(range: &ServiceCIDR) -> Self {
        let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
        Member {
            cidrs: (cidrs.into_iter().flatten())
                .filter_map(|cidr| Cidr::of_any_size(cidr))
                .collect(),
            is_ready: range.metadata.deletion_timestamp.is_none()
                && readiness(range).is_none_or(|status| status == "True"),
        }
    }
}

/// Its condition, if anybody has said anything.
pub(super) fn condition(range: &ServiceCIDR) -> Option<&Condition> {
    let status = range.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().find(|c| c.type_ == READY)
}

/// What its condition says. One of which nobody says anything is taken for ready: who runs no controllers can use it too.
pub(super) fn readiness(range: &ServiceCIDR) -> Option<&str> {
    condition(range).map(|condition| condition.status.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_ready_and_stays_is_offered() {
        let range = |status: &str, leaving: bool| {
            let mut value = json!({"metadata": {"name": "r"},
                "spec": {"cidrs": ["10.1.0.0/24", "2001:db8::/64"]}});
            if !status.is_empty() {
                value["status"] = json!({"conditions": [{"type": "Ready", "status": status,
                    "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            }
            if leaving {
                value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let range: ServiceCIDR = serde_json::from_value(value).unwrap();
            Ranges(vec![Member::of(&range)])
        };
        let address: IpAddr = "10.1.0.7".parse().unwrap();
        let six: IpAddr = "2001:db8::7".parse().unwrap();
        for (status, leaving, offered) in [
            ("", false, true),
            ("True", false, true),
            ("False", false, false),
            ("Unknown", false, false),
            ("", true, false),
            ("True", true, false),
        ] {
            let ranges = range(status, leaving);
            assert_eq!(
                ranges.offer(address).is_some(),
                offered,
                "{status} {leaving}"
            );
            assert_eq!(ranges.offer(six).is_some(), offered, "{status} {leaving}");
            assert!(ranges.contain(address) && ranges.contain(six));
            assert!(!ranges.contain("2001:db8:0:1::7".parse().unwrap()));
            assert!(!ranges.contain("10.1.0.0".parse().unwrap()));
        }
    }
}

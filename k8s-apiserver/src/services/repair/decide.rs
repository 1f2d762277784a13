//! What is to be done about an address: a function of what is stored.

use k8s_openapi::{
    api::networking::v1::{IPAddress, ParentReference},
    jiff::{SignedDuration, Timestamp},
};

use crate::services::{
    Family,
    addresses::{self, is_managed, is_of, is_service},
    events::Happening,
};

/// How long an address may be there before its Service, as upstream has it: an API server of upstream's makes them one
/// after the other.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// A Service by its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What is known of an address.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The address.
    pub(super) ip: std::net::IpAddr,
    /// Its object.
    pub(super) object: Option<&'a IPAddress>,
    /// The Services that have it.
    pub(super) owners: &'a [Owner],
    /// Whether the Service that its object names is there, whatever it has.
    pub(super) parent_exists: bool,
    /// Whether it is in a ServiceCIDR.
    pub(super) in_range: bool,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// An object is to be made for that Service.
    Make(Owner),
    /// The object is to name that Service, and to have the labels of a Service's address.
    Mend(Owner),
    /// The object is to go.
    Remove,
    /// It is to be looked at again at that time.
    Wait(Timestamp),
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// A Service.
    Service(Owner),
    /// The IPAddress.
    Address,
}

/// What is to be done, and what is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) action: Option<Action>,
    pub(super) told: Vec<(About, Happening)>,
}

impl Verdict {
    fn tell(&mut self, about: About, reason: &'static str, note: String) {
        let action = match about {
            About::Service(_) => "ClusterIPAllocation",
            About::Address => "IPAddressAllocation",
        };
        let happening = Happening {
            reason: reason.into(),
            action,
            note,
        };
        self.told.push((about, happening));
    }
}

/// What is to be done about an address, as upstream's `RepairIPAddress` has it.
pub(super) fn decide(facts: &Facts<'_>) -> Verdict {
    if facts.owners.is_empty() {
        return without_owner(facts);
    }
    let mut verdict = Verdict::default();
    let ip = facts.ip;
    let family = Family::of(ip).name();
    if !facts.in_range {
        for owner in facts.owners {
            let note = format!(
                "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
            );
            verdict.tell(About::Service(owner.clone()), "ClusterIPOutOfRange", note);
        }
        return verdict;
    }
    let parent = facts.object.and_then(addresses::parent);
    let named =
        |owner: &&Owner| parent.is_some_and(|parent| is_of(parent, &owner.namespace, &owner.name));
    let rightful = facts.owners.iter().find(named);
    // The first has it where the object says nothing: somebody must.
    let Some(holder) = rightful.or(facts.owners.first()) else {
        return verdict;
    };
    let Owner { namespace, name } = holder;
    if facts.object.is_none() {
        let note = format!("Cluster IP [{family}]: {ip} is not allocated; repairing");
        let about = About::Service(holder.clone());
        verdict.tell(about, "ClusterIPNotAllocated", note);
        verdict.action = Some(Action::Make(holder.clone()));
    } else if rightful.is_none() {
        let note = format!(
            "the ClusterIP [{family}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing"
        );
        let about = About::Service(holder.clone());
        verdict.tell(about, "ClusterIPNotAllocated", note);
        verdict.action = Some(Action::Mend(holder.clone()));
    } else if !facts.object.is_some_and(|object| has_labels(object, ip)) {
        verdict.action = Some(Action::Mend(holder.clone()));
    }
    for owner in facts.owners.iter().filter(|owner| *owner != holder) {
        let note = format!(
            "Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"
        );
        let about = About::Service(owner.clone());
        verdict.tell(about, "ClusterIPAlreadyAllocated", note);
    }
    verdict
}

fn without_owner(facts: &Facts<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(object) = facts.object.filter(|object| is_managed(&object.metadata)) else {
        return verdict;
    };
    if object.metadata.deletion_timestamp.is_some() {
        return verdict;
    }
    let ip = facts.ip;
    let unknown = ParentReference::default();
    let parent = addresses::parent(object).unwrap_or(&unknown);
    let namespace = parent.namespace.as_deref().unwrap_or_default();
    let name = &parent.name;
    if !is_service(parent) {
        let note = format!(
            "IPAddress {ip} appears to have been modified, not referencing a Service {}/{name} of {}: cleaning up",
            namespace, parent.resource
        );
        verdict.tell(About::Address, "IPAddressNotAllocated", note);
        verdict.action = Some(Action::Remove);
    } else if facts.parent_exists {
        let note = format!(
            "IPAddress: {ip} for Service {namespace}/{name} has a wrong reference; cleaning up"
        );
        verdict.tell(About::Address, "IPAddressWrongReference", note);
        verdict.action = Some(Action::Remove);
    } else {
        let made = object.metadata.creation_timestamp.as_ref();
        let until = made.and_then(|made| made.0.checked_add(GRACE).ok());
        match until.filter(|until| *until >= facts.now) {
            Some(until) => verdict.action = Some(Action::Wait(until)),
            None => {
                let note = format!(
                    "IPAddress: {ip} for Service {namespace}/{name} appears to have leaked: cleaning up"
                );
                verdict.tell(About::Address, "IPAddressNotAllocated", note);
                verdict.action = Some(Action::Remove);
            }
        }
    }
    verdict
}

/// Whether the object is labelled as an address of a Service.
pub(super) fn has_labels(object: &IPAddress, ip: std::net::IpAddr) -> bool {
    let labels = object.metadata.labels.as_ref();
    (addresses::labels(ip).iter()).all(|(label, value)| {
        labels
            .and_then(|all| all.get(*label))
            .is_some_and(|v| v == value)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    fn object(parent: Value) -> IPAddress {
        serde_json::from_value(json!({
            "metadata": {"name": "10.0.0.1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
            "spec": {"parentRef": parent},
        }))
        .unwrap()
    }

    fn of(name: &str) -> IPAddress {
        object(json!({"resource": "services", "namespace": "n", "name": name}))
    }

    /// What is done, and the reasons of what is told of whom.
    fn judge(
        object: Option<&IPAddress>,
        owners: &[Owner],
        change: impl Fn(&mut Facts<'_>),
    ) -> (Option<Action>, Vec<String>) {
        let mut facts = Facts {
            ip: "10.0.0.1".parse().unwrap(),
            object,
            owners,
            parent_exists: true,
            in_range: true,
            now: "2026-01-01T00:00:30Z".parse().unwrap(),
        };
        change(&mut facts);
        let verdict = decide(&facts);
        let told = verdict.told.into_iter().map(|(about, happening)| {
            let about = match about {
                About::Service(owner) => owner.name,
                About::Address => "address".to_owned(),
            };
            format!("{about} {}", happening.reason)
        });
        (verdict.action, told.collect())
    }

    #[test]
    fn an_address_is_its_services_and_nobody_elses() {
        let (a, b) = (owner("a"), owner("b"));
        let mine = of("a");
        let both = [a.clone(), b.clone()];
        let nothing = |_: &mut Facts<'_>| {};
        assert_eq!(judge(Some(&mine), &both[..1], nothing), (None, vec![]));
        // Nobody has it any more, or it is another's.
        assert_eq!(
            judge(None, &both[..1], nothing),
            (
                Some(Action::Make(a.clone())),
                vec!["a ClusterIPNotAllocated".to_owned()]
            )
        );
        assert_eq!(
            judge(Some(&of("c")), &both[..1], nothing),
            (
                Some(Action::Mend(a.clone())),
                vec!["a ClusterIPNotAllocated".to_owned()]
            )
        );
        let gateway =
            object(json!({"group": "g.io", "resource": "gateways", "namespace": "n", "name": "a"}));
        assert_eq!(
            judge(Some(&gateway), &both[..1], nothing).0,
            Some(Action::Mend(a.clone()))
        );
        // Two have it: it stays with whom it names.
        assert_eq!(
            judge(Some(&of("b")), &both, nothing),
            (None, vec!["a ClusterIPAlreadyAllocated".to_owned()])
        );
        assert_eq!(
            judge(None, &both, nothing),
            (
                Some(Action::Make(a.clone())),
                vec![
                    "a ClusterIPNotAllocated".to_owned(),
                    "b ClusterIPAlreadyAllocated".to_owned()
                ]
            )
        );
        // Its labels are gone.
        let mut bare = of("a");
        bare.metadata.labels = None;
        assert_eq!(
            judge(Some(&bare), &both[..1], nothing),
            (Some(Action::Mend(a)), vec![])
        );
        // It is in no range: that is told, and nothing is done.
        let outside = |facts: &mut Facts<'_>| facts.in_range = false;
        assert_eq!(
            judge(None, &both[..1], outside),
            (None, vec!["a ClusterIPOutOfRange".to_owned()])
        );
    }

    #[test]
    fn what_no_service_has_goes_after_a_while() {
        let gone = |facts: &mut Facts<'_>| facts.parent_exists = false;
        let until = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(
            judge(Some(&of("a")), &[], gone),
            (Some(Action::Wait(until)), vec![])
        );
        let later = |facts: &mut Facts<'_>| {
            facts.parent_exists = false;
            facts.now = "2026-01-01T00:01:01Z".parse().unwrap();
        };
        assert_eq!(
            judge(Some(&of("a")), &[], later),
            (
                Some(Action::Remove),
                vec!["address IPAddressNotAllocated".to_owned()]
            )
        );
        // Its Service has another by now.
        assert_eq!(
            judge(Some(&of("a")), &[], |_| {}),
            (
                Some(Action::Remove),
                vec!["address IPAddressWrongReference".to_owned()]
            )
        );
        // It says of itself that it is a Service's, and names none.
        let gateway = object(json!({"group": "g.io", "resource": "gateways", "name": "a"}));
        assert_eq!(judge(Some(&gateway), &[], gone).0, Some(Action::Remove));
        // What others manage is theirs, and what goes goes.
        let mut other = of("a");
        other.metadata.labels = None;
        assert_eq!(judge(Some(&other), &[], later), (None, vec![]));
        let mut leaving = of("a");
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        assert_eq!(judge(Some(&leaving), &[], later), (None, vec![]));
    }
}

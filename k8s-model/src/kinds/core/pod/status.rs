//! Changes to a pod's status: what is kept of the old one, and what is checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodCondition, PodResourceClaimStatus, PodSpec, PodStatus,
};

use super::{annotations, newer};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_subdomain, immutable, list, one_of_each_family, qualified_name, text},
        difference::spelled_list,
        ip_fields,
    },
};

/// Keeps what a new status does not say, as agents may not know of it: the class, and the generations that were seen.
pub(super) fn keep(new: &mut PodStatus, old: &PodStatus) {
    if text(&new.qos_class).is_empty() {
        new.qos_class.clone_from(&old.qos_class);
    }
    if new.observed_generation.unwrap_or_default() == 0 {
        new.observed_generation = old.observed_generation;
    }
    // A type may be there several times: each has its own.
    let mut seen: BTreeMap<&str, VecDeque<Option<i64>>> = BTreeMap::new();
    for PodCondition {
        type_,
        observed_generation,
        ..
    } in list(&old.conditions)
    {
        let all = seen.entry(type_).or_default();
        all.push_back(*observed_generation);
    }
    for condition in new.conditions.iter_mut().flatten() {
        let before = seen.get_mut(condition.type_.as_str());
        let before = before.and_then(VecDeque::pop_front).flatten();
        if condition.observed_generation.unwrap_or_default() == 0 {
            condition.observed_generation = before;
        }
    }
}

/// An update of a pod's status.
pub(super) fn validate_update(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = annotations::validate_update(new, old);
    let path = Path::new("status");
    let none = PodStatus::default();
    let no_spec = PodSpec::default();
    let spec = old.spec.as_ref().unwrap_or(&no_spec);
    let (new, old) = (
        new.status.as_ref().unwrap_or(&none),
        old.status.as_ref().unwrap_or(&none),
    );
    errors.extend(conditions(list(&new.conditions), &path.child("conditions")));
    errors.extend(nomination(new, old, spec, &path.child("nominatedNodeName")));
    errors.extend(generation(new.observed_generation, &path));
    errors.extend(immutable(
        &new.qos_class,
        &old.qos_class,
        path.child("qosClass"),
    ));
    for (new, old, containers, name) in [
        (
            &new.container_statuses,
            &old.container_statuses,
            spec.containers.as_slice(),
            "containerStatuses",
        ),
        (
            &new.init_container_statuses,
            &old.init_container_statuses,
            list(&spec.init_containers),
            "initContainerStatuses",
        ),
        // None of those is ever started again.
        (
            &new.ephemeral_container_statuses,
            &old.ephemeral_container_statuses,
            &[],
            "ephemeralContainerStatuses",
        ),
    ] {
        let restarts = |name: &str, exit_code: i32| {
            let container = containers.iter().find(|container| container.name == name);
            container.is_some_and(|container| is_restarted(container, spec, exit_code))
        };
        errors.extend(no_resurrection(
            list(new),
            list(old),
            restarts,
            &path.child(name),
        ));
    }
    errors.extend(claims(
        list(&new.resource_claim_statuses),
        spec,
        &path.child("resourceClaimStatuses"),
    ));
    errors.extend(addresses(new, old, &path));
    errors
}

fn generation(seen: Option<i64>, path: &Path) -> Option<field::Error> {
    let seen = seen.filter(|seen| *seen < 0)?;
    let text = "must be a non-negative integer";
    Some(field::invalid(path.child("observedGeneration"), seen, text))
}

fn conditions(conditions: &[PodCondition], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, condition) in conditions.iter().enumerate() {
        let (path, sort) = (path.index(index), condition.type_.as_str());
        errors.extend(generation(condition.observed_generation, &path));
        if !matches!(sort, "PodScheduled" | "Ready" | "Initialized") {
            errors.extend(qualified_name(sort, path.child("Type")));
        }
    }
    errors
}

/// The node that a pod is to have: one that has its node is to have no other.
fn nomination(new: &PodStatus, old: &PodStatus, spec: &PodSpec, path: &Path) -> ErrorList {
    let node = text(&new.nominated_node_name);
    if node.is_empty() || node == text(&old.nominated_node_name) {
        return ErrorList::new();
    }
    let mut errors = dns_subdomain(node, path.clone());
    if !text(&spec.node_name).is_empty() {
        let text = "may not be set on pods that are already bound to a node";
        errors.push(field::forbidden(path.clone(), text));
    }
    errors
}

/// The claims that were made for a pod: each for one that it names.
fn claims(statuses: &[PodResourceClaimStatus], spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, status) in statuses.iter().enumerate() {
        let (path, name) = (path.index(index), status.name.as_str());
        let mut named = list(&spec.resource_claims).iter();
        if !named.any(|claim| claim.name == name) {
            errors.push(field::invalid(
                path.child("name"),
                name,
                "must match the name of an entry in `spec.resourceClaims`",
            ));
        }
        if !seen.insert(name) {
            errors.push(field::duplicate(path.child("name"), name));
        }
        if let Some(claim) = &status.resource_claim_name {
            errors.extend(dns_subdomain(claim, path.child("resourceClaimName")));
        }
    }
    errors
}

/// The addresses of a pod and of its node: one of each family. What is there already may stay.
fn addresses(new: &PodStatus, old: &PodStatus, path: &Path) -> ErrorList {
    let of_pod = |status: &PodStatus| -> Vec<String> {
        let all = list(&status.pod_ips).iter();
        all.map(|address| address.ip.clone()).collect()
    };
    let of_host = |status: &PodStatus| -> Vec<String> {
        let all = list(&status.host_ips).iter();
        all.map(|address| address.ip.clone()).collect()
    };
    let mut errors = address_list(
        &of_pod(new),
        &of_pod(old),
        spelled_list("PodIP", new.pod_ips.as_deref()),
        &path.child("podIPs"),
    );
    let (hosts, path) = (of_host(new), path.child("hostIPs"));
    if let Some(first) = hosts.first()
        && first != text(&new.host_ip)
    {
        errors.push(field::invalid(
            path.index(0).child("ip"),
            first.as_str(),
            "must be equal to `hostIP`",
        ));
    }
    errors.extend(address_list(
        &hosts,
        &of_host(old),
        spelled_list("HostIP", new.host_ips.as_deref()),
        &path,
    ));
    errors
}

fn address_list(new: &[String], old: &[String], spelled: String, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, address) in new.iter().enumerate() {
        errors.extend(ip_fields::legacy_ip(address, old, path.index(index)));
    }
    let parsed = new.iter().filter_map(|address| ip_fields::parse(address));
    if new.len() > 2 || (new.len() > 1 && !one_of_each_family(parsed)) {
        let text = "may specify no more than one IP for each IP family";
        errors.push(field::invalid_spelled(path.clone(), &spelled, text));
    }
    errors
}

/// Whether a container that ended so is started again: as its rules say (KEP-5307), else as it says itself, else as the pod
/// says.
fn is_restarted(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    let by_policy = |policy: &str| match policy {
        "OnFailure" => exit_code != 0,
        policy => policy != "Never",
    };
    match &container.restart_policy {
        Some(own) => newer::rules_restart(container, exit_code) || by_policy(own),
        None => by_policy(text(&spec.restart_policy)),
    }
}

/// A container that has ended for good stays ended.
fn no_resurrection(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    restarts: impl Fn(&str, i32) -> bool,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, old) in old.iter().enumerate() {
        let state = old.state.as_ref();
        let Some(ended) = state.and_then(|state| state.terminated.as_ref()) else {
            continue;
        };
        let lives = |new: &ContainerStatus| {
            let state = new.state.as_ref();
            new.name == old.name && state.is_none_or(|state| state.terminated.is_none())
        };
        if new.iter().any(lives) && !restarts(&old.name, ended.exit_code) {
            errors.push(field::forbidden(
                path.index(index).child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status,
            "spec": {"nodeName": "n", "restartPolicy": "Never", "containers": [
                {"name": "c"},
                {"name": "again", "restartPolicy": "OnFailure", "restartPolicyRules": [
                    {"action": "Restart", "exitCodes": {"operator": "In", "values": [0]}}]},
            ], "initContainers": [{"name": "sidecar", "restartPolicy": "Always"}],
            "resourceClaims": [{"name": "r", "resourceClaimTemplateName": "t"}]}}))
        .unwrap()
    }

    fn changes(new: Value, old: Value) -> Vec<String> {
        validate_update(&pod(new), &pod(old))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_a_status_does_not_say_stays() {
        let kept = |new: Value, old: Value| {
            let mut new: PodStatus = serde_json::from_value(new).unwrap();
            keep(&mut new, &serde_json::from_value(old).unwrap());
            serde_json::to_value(new).unwrap()
        };
        let condition = |sort: &str, seen: Value| json!({"type": sort, "status": "True", "observedGeneration": seen});
        let plain = |sort: &str| json!({"type": sort, "status": "True"});
        let old = json!({"qosClass": "Burstable", "observedGeneration": 3, "conditions":
            [condition("a", 1.into()), condition("a", 2.into()), plain("b")]});
        assert_eq!(
            kept(
                json!({"conditions": [plain("a"), plain("b"), plain("a"), plain("a")]}),
                old.clone()
            ),
            json!({"qosClass": "Burstable", "observedGeneration": 3, "conditions":
                [condition("a", 1.into()), plain("b"), condition("a", 2.into()), plain("a")]})
        );
        let own = json!({"qosClass": "X", "observedGeneration": 4,
            "conditions": [condition("a", 4.into())]});
        assert_eq!(kept(own.clone(), old), own);
    }

    #[test]
    fn a_status_keeps_the_class_and_names_what_is_there() {
        for (new, old, expected) in [
            (
                json!({"qosClass": "Guaranteed"}),
                json!({"qosClass": "Burstable"}),
                "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
            ),
            (
                json!({"observedGeneration": -1}),
                json!({}),
                "status.observedGeneration: Invalid value: -1: must be a non-negative integer",
            ),
            (
                json!({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": -1}]}),
                json!({}),
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
            ),
            (
                json!({"nominatedNodeName": "m"}),
                json!({}),
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
            ),
            (
                json!({"resourceClaimStatuses": [{"name": "z"}]}),
                json!({}),
                "status.resourceClaimStatuses[0].name: Invalid value: \"z\": must match the name of an entry in `spec.resourceClaims`",
            ),
            (
                json!({"resourceClaimStatuses": [{"name": "r"}, {"name": "r"}]}),
                json!({}),
                "status.resourceClaimStatuses[1].name: Duplicate value: \"r\"",
            ),
            (
                json!({"podIPs": [{"ip": "x"}]}),
                json!({}),
                "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"podIPs": [{"ip": "01.1.1.1"}]}),
                json!({}),
                "status.podIPs[0]: Invalid value: \"01.1.1.1\": must not have leading 0s",
            ),
            (
                json!({"podIPs": [{"ip": "::ffff:1.1.1.1"}]}),
                json!({}),
                "status.podIPs[0]: Invalid value: \"::ffff:1.1.1.1\": must not be an IPv4-mapped IPv6 address",
            ),
            (
                json!({"podIPs": [{"ip": "1.1.1.1"}, {"ip": "::ffff:1.1.1.1"}]}),
                json!({"podIPs": [{"ip": "::ffff:1.1.1.1"}]}),
                "status.podIPs: Invalid value: [{\"IP\":\"1.1.1.1\"},{\"IP\":\"::ffff:1.1.1.1\"}]: may specify no more than one IP for each IP family",
            ),
            (
                json!({"podIPs": [{"ip": "1.1.1.1"}, {"ip": "::1"}, {"ip": "1.1.1.2"}]}),
                json!({}),
                "status.podIPs: Invalid value: [{\"IP\":\"1.1.1.1\"},{\"IP\":\"::1\"},{\"IP\":\"1.1.1.2\"}]: may specify no more than one IP for each IP family",
            ),
            (
                json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.2"}]}),
                json!({}),
                "status.hostIPs[0].ip: Invalid value: \"1.1.1.2\": must be equal to `hostIP`",
            ),
            (
                json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}]}),
                json!({}),
                "status.hostIPs: Invalid value: [{\"IP\":\"1.1.1.1\"},{\"IP\":\"1.1.1.2\"}]: may specify no more than one IP for each IP family",
            ),
        ] {
            assert_eq!(changes(new, old), [expected]);
        }
        for (new, old) in [
            (
                json!({"nominatedNodeName": "m"}),
                json!({"nominatedNodeName": "m"}),
            ),
            (
                json!({"podIPs": [{"ip": "01.1.1.1"}]}),
                json!({"podIPs": [{"ip": "01.1.1.1"}]}),
            ),
            (
                json!({"podIPs": [{"ip": "::ffff:1.1.1.1"}, {"ip": "::1"}]}),
                json!({"podIPs": [{"ip": "::ffff:1.1.1.1"}]}),
            ),
            (
                json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.1"}, {"ip": "::1"}],
                    "resourceClaimStatuses": [{"name": "r", "resourceClaimName": "x"}]}),
                json!({}),
            ),
        ] {
            assert_eq!(changes(new, old), [""; 0]);
        }
    }

    #[test]
    fn what_has_ended_lives_again_only_where_it_is_restarted() {
        let status = |list: &str, name: &str, state: Value| {
            json!({list: [
                {"name": "other", "ready": false, "restartCount": 0, "image": "", "imageID": ""},
                {"name": name, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""},
            ]})
        };
        for (list, name, code, restarts) in [
            ("containerStatuses", "c", 1, false),
            ("containerStatuses", "again", 1, true),
            ("containerStatuses", "again", 0, true),
            ("containerStatuses", "gone", 1, false),
            ("initContainerStatuses", "sidecar", 0, true),
            ("ephemeralContainerStatuses", "again", 1, false),
        ] {
            let ended = status(list, name, json!({"terminated": {"exitCode": code}}));
            let errors = changes(status(list, name, json!({"running": {}})), ended.clone());
            if restarts {
                assert_eq!(errors, [""; 0], "{name}");
            } else {
                let expected = format!(
                    "status.{list}[1].state: Forbidden: may not be transitioned to non-terminated state"
                );
                assert_eq!(errors, [expected]);
            }
            assert_eq!(changes(ended.clone(), ended), [""; 0]);
        }
    }
}

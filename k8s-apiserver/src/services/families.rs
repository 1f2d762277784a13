//! Which families of addresses a Service has, as upstream's allocators decide it.

use k8s_model::{
    field::{self, ErrorList, Path},
    services::address_findings,
};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{Family, has_cluster_ip};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// What may be handed out, the default first. There is always one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) default: Family,
    /// Whether the other is there too.
    pub(super) are_both: bool,
}

impl Families {
    fn has(self, family: Family) -> bool {
        self.are_both || family == self.default
    }
}

/// Whether nothing is to change about the addresses: one or two, as it got them, for a Service that prefers two stays as it
/// is when a cluster gets, or loses, the second.
pub(super) fn stay(new: &ServiceSpec, old: Option<&ServiceSpec>) -> bool {
    old.is_some_and(|old| {
        new.ip_family_policy.as_deref() == Some(PREFER)
            && old.ip_family_policy.as_deref().unwrap_or(PREFER) == PREFER
            && new.type_ == old.type_
            && has_cluster_ip(new)
            && ips(new) == ips(old)
            && families(new) == families(old)
    })
}

/// Fills in the policy and the families of a Service, and says what is wrong with them. Upstream's `initIPFamilyFields`.
pub(super) fn fill(service: &mut Service, old: Option<&Service>, there: Families) -> ErrorList {
    let before = old;
    let old = old.and_then(|old| old.spec.as_ref());
    let Some(spec) = service.spec.as_mut() else {
        return ErrorList::new();
    };
    if !has_cluster_ip(spec) || stay(spec, old) {
        return ErrorList::new();
    }
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    let is_anyones = is_headless && spec.selector.as_ref().is_none_or(|s| s.is_empty());
    if spec.ip_family_policy.is_none() {
        let held = old.and_then(|old| old.ip_family_policy.clone());
        let default = if is_anyones { REQUIRE } else { SINGLE };
        spec.ip_family_policy = Some(held.unwrap_or_else(|| default.to_owned()));
    }
    let wrong = address_findings(service, before);
    let Some(spec) = service.spec.as_mut().filter(|_| wrong.is_empty()) else {
        return wrong;
    };
    let policy = spec.ip_family_policy.clone().unwrap_or_default();
    let mut errors = reduce(spec, old, &policy);
    errors.extend(infer(spec, &policy, there));
    if !errors.is_empty() {
        return errors;
    }
    let default = |spec: &mut ServiceSpec| {
        if families(spec).is_empty() {
            spec.ip_families = Some(vec![there.default.name().to_owned()]);
        }
    };
    if is_anyones {
        // Whose endpoints are anybody's may be of families that there are not.
        default(spec);
        if policy != SINGLE {
            add_other(spec);
        }
        return errors;
    }
    if policy == REQUIRE && !there.are_both {
        let text = "this cluster is not configured for dual-stack services";
        errors.push(field::invalid(policy_path(), policy.as_str(), text));
    }
    for (at, family) in families(spec).iter().enumerate() {
        if !Family::parse(family).is_some_and(|family| there.has(family)) {
            let path = Path::new("spec").child("ipFamilies").index(at);
            let text = "not configured on this cluster";
            errors.push(field::invalid(path, family.as_str(), text));
        }
    }
    if errors.is_empty() {
        default(spec);
        if policy != SINGLE && there.are_both {
            add_other(spec);
        }
    }
    errors
}

/// Takes the second family and address away where an update says that there is to be one, and says what is wrong with an
/// update that takes them away otherwise.
fn reduce(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, policy: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(old) = old else {
        return errors;
    };
    if policy == SINGLE {
        if ips(spec) == ips(old) {
            spec.cluster_ips.iter_mut().for_each(|ips| ips.truncate(1));
        }
        if families(spec) == families(old) {
            spec.ip_families.iter_mut().for_each(|all| all.truncate(1));
        }
        return errors;
    }
    for (now, before, what) in [
        (ips(spec), ips(old), "cluster IP"),
        (families(spec), families(old), "IP family"),
    ] {
        if !now.is_empty() && now.len() < before.len() {
            let text = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(field::invalid(policy_path(), policy, text));
        }
    }
    errors
}

/// Adds the families of the addresses that are chosen, and says which are too many.
fn infer(spec: &mut ServiceSpec, policy: &str, there: Families) -> ErrorList {
    let mut errors = ErrorList::new();
    if policy == SINGLE {
        for (all, what) in [(ips(spec), "cluster IPs"), (families(spec), "IP families")] {
            if all.len() == 2 {
                let text = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.push(field::invalid(policy_path(), policy, text));
            }
        }
    }
    let chosen = ips(spec).to_vec();
    for (at, ip) in chosen.iter().enumerate().skip(families(spec).len()) {
        // It was looked at before: what is no address is `None`.
        let Some(family) = ip.parse().ok().map(Family::of) else {
            break;
        };
        if there.has(family) {
            let all = spec.ip_families.get_or_insert_default();
            all.push(family.name().to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(at);
            let text = format!("{} is not configured on this cluster", family.name());
            errors.push(field::invalid(path, chosen.clone(), text));
        }
    }
    errors
}

/// Adds the family that is missing, if one is.
fn add_other(spec: &mut ServiceSpec) {
    if let Some([family]) = spec.ip_families.as_deref()
        && let Some(family) = Family::parse(family)
    {
        let other = family.other().name().to_owned();
        spec.ip_families.get_or_insert_default().push(other);
    }
}

fn policy_path() -> Path {
    Path::new("spec").child("ipFamilyPolicy")
}

/// The addresses of a Service, as far as it says so.
pub(super) fn ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

/// The families of a Service, as far as it says so.
pub(super) fn families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const V4: Families = Families {
        default: Family::V4,
        are_both: false,
    };
    const BOTH: Families = Families {
        default: Family::V6,
        are_both: true,
    };

    fn service(spec: Value) -> Service {
        let mut service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
        let spec = service.spec.as_mut().unwrap();
        spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
        service
    }

    /// The policy, initials of the families and addresses, and what is wrong.
    fn filled(there: Families, spec: Value, old: Option<Value>) -> (String, Vec<String>) {
        let mut new = service(spec);
        let old = old.map(service);
        let errors = fill(&mut new, old.as_ref(), there);
        let spec = new.spec.unwrap();
        let policy = spec.ip_family_policy.clone().unwrap_or_default();
        let digits: String = (families(&spec).iter())
            .map(|family| family.trim_start_matches("IPv"))
            .collect();
        let errors = errors.iter().map(ToString::to_string).collect();
        (format!("{policy} {digits} {}", ips(&spec).len()), errors)
    }

    #[test]
    fn a_new_service_gets_the_families_that_it_wants() {
        let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        let with = |more: Value| {
            let mut spec = headless.clone();
            spec.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            spec
        };
        let selected = with(json!({"selector": {"a": "b"}}));
        for (there, spec, expected) in [
            (V4, json!({}), "SingleStack 4 0"),
            (BOTH, json!({}), "SingleStack 6 0"),
            (V4, json!({"ipFamilyPolicy": PREFER}), "PreferDualStack 4 0"),
            (
                BOTH,
                json!({"ipFamilyPolicy": PREFER}),
                "PreferDualStack 64 0",
            ),
            (
                BOTH,
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv4"]}),
                "RequireDualStack 46 0",
            ),
            (BOTH, json!({"ipFamilies": ["IPv4"]}), "SingleStack 4 0"),
            (
                BOTH,
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}),
                "SingleStack 4 1",
            ),
            (
                BOTH,
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": PREFER}),
                "PreferDualStack 46 1",
            ),
            (
                BOTH,
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
                    "ipFamilyPolicy": REQUIRE}),
                "RequireDualStack 46 2",
            ),
            (V4, headless.clone(), "RequireDualStack 46 1"),
            (BOTH, headless.clone(), "RequireDualStack 64 1"),
            (V4, selected.clone(), "SingleStack 4 1"),
            (
                V4,
                with(json!({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv6"]})),
                "SingleStack 6 1",
            ),
            (
                V4,
                with(json!({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv6"]})),
                "PreferDualStack 64 1",
            ),
        ] {
            let (is, errors) = filled(there, spec.clone(), None);
            assert_eq!((&*is, errors), (expected, Vec::new()), "{spec}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let one_v6 = json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]});
        let two = |policy: Value| {
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
                "ipFamilyPolicy": policy})
        };
        let wrong_policy = |policy: &str, text: &str| {
            format!("spec.ipFamilyPolicy: Invalid value: \"{policy}\": {text}")
        };
        let multiple = |what: &str| {
            let text = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            wrong_policy(SINGLE, &text)
        };
        let not_dual = "this cluster is not configured for dual-stack services";
        let no_v6 = |at| {
            format!(
                "spec.ipFamilies[{at}]: Invalid value: \"IPv6\": not configured on this cluster"
            )
        };
        for (there, spec, expected) in [
            (
                V4,
                one_v6,
                vec![r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster"#.to_owned()],
            ),
            (BOTH, two(json!(SINGLE)), vec![multiple("cluster IPs")]),
            (BOTH, two(json!(null)), vec![multiple("cluster IPs")]),
            (
                BOTH,
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                vec![multiple("IP families")],
            ),
            (
                V4,
                json!({"ipFamilyPolicy": REQUIRE}),
                vec![wrong_policy(REQUIRE, not_dual)],
            ),
            (
                V4,
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv4", "IPv6"]}),
                vec![wrong_policy(REQUIRE, not_dual), no_v6(1)],
            ),
            (
                V4,
                json!({"ipFamilies": ["IPv6"]}),
                vec![no_v6(0)],
            ),
            (
                BOTH,
                json!({"ipFamilies": ["IPv5"], "ipFamilyPolicy": SINGLE}),
                vec![r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#.to_owned()],
            ),
        ] {
            let (_, errors) = filled(there, spec.clone(), None);
            assert_eq!(errors, expected, "{spec}");
        }
    }

    #[test]
    fn an_update_adds_and_takes_away_the_second_family_by_its_policy() {
        let both = json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"],
            "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": PREFER});
        let one = json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"],
            "ipFamilies": ["IPv6"], "ipFamilyPolicy": PREFER});
        let with = |spec: &Value, policy: &str| {
            let mut spec = spec.clone();
            spec["ipFamilyPolicy"] = policy.into();
            spec
        };
        for (new, old, expected) in [
            // The one that it prefers to have is not pressed upon it.
            (one.clone(), &one, "PreferDualStack 6 1"),
            (both.clone(), &both, "PreferDualStack 64 2"),
            (with(&one, REQUIRE), &one, "RequireDualStack 64 1"),
            (one.clone(), &with(&one, SINGLE), "PreferDualStack 64 1"),
            (with(&both, SINGLE), &both, "SingleStack 6 1"),
            (with(&one, SINGLE), &both, "SingleStack 6 1"),
        ] {
            let (is, errors) = filled(BOTH, new.clone(), Some(old.clone()));
            assert_eq!((&*is, errors), (expected, Vec::new()), "{new}");
        }
        let release = |what: &str| {
            format!(
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary {what}"
            )
        };
        let (_, errors) = filled(BOTH, one, Some(both));
        assert_eq!(errors, [release("cluster IP"), release("IP family")]);
    }
}

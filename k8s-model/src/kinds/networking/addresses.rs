//! The rules of IPAddresses and ServiceCIDRs.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ServiceCIDR};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_subdomain, immutable, is_cidr, json, list, messages, parse_cidr, slot, text},
        typed::KindRules,
    },
    names,
};

/// The rules of IPAddresses. Their names are the addresses.
pub(crate) struct IpAddressRules;

impl KindRules for IpAddressRules {
    type Kind = IPAddress;

    const GENERATION: bool = true;

    fn validate(&self, address: &IPAddress) -> ErrorList {
        let path = Path::new("spec").child("parentRef");
        let spec: Option<&IPAddressSpec> = slot(&address.spec);
        let Some(parent) = spec.map(|spec| &spec.parent_ref) else {
            return vec![field::required(path, "")];
        };
        let mut errors = ErrorList::new();
        if !text(&parent.group).is_empty() {
            errors.extend(dns_subdomain(text(&parent.group), path.child("group")));
        }
        for (value, name) in [(&parent.resource, "resource"), (&parent.name, "name")] {
            let at = path.child(name);
            if value.is_empty() {
                errors.push(field::required(at, ""));
            } else {
                let wrong = names::path_segment(value, false);
                errors.extend(messages(&at, value.as_str(), wrong));
            }
        }
        let namespace = text(&parent.namespace);
        if !namespace.is_empty() {
            let wrong = names::path_segment(namespace, false);
            errors.extend(messages(&path.child("namespace"), namespace, wrong));
        }
        errors
    }

    fn validate_update(&self, new: &IPAddress, old: &IPAddress) -> ErrorList {
        let mut errors = self.validate(new);
        let parent = |address: &IPAddress| {
            let spec: Option<&IPAddressSpec> = slot(&address.spec);
            spec.map(|spec| spec.parent_ref.clone())
        };
        errors.extend(immutable(
            &parent(new),
            &parent(old),
            Path::new("spec").child("parentRef"),
        ));
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        match name.parse::<IpAddr>() {
            Err(_) => vec![format!("ParseAddr({name:?}): unable to parse IP")],
            Ok(ip) if ip.to_string() != name => {
                vec!["must be a canonical form IP address".to_owned()]
            }
            Ok(_) => Vec::new(),
        }
    }
}

/// The rules of ServiceCIDRs.
pub(crate) struct ServiceCidrRules;

fn cidrs(range: &ServiceCIDR) -> &[String] {
    let spec = range.spec.as_ref();
    spec.map(|spec| list(&spec.cidrs)).unwrap_or_default()
}

impl KindRules for ServiceCidrRules {
    type Kind = ServiceCIDR;

    const GENERATION: bool = true;

    fn prepare_for_create(&self, range: &mut ServiceCIDR) {
        range.status = Some(Default::default());
    }

    fn validate(&self, range: &ServiceCIDR) -> ErrorList {
        let path = Path::new("spec").child("cidrs");
        let cidrs = cidrs(range);
        if cidrs.is_empty() {
            return vec![field::required(path, "at least one CIDR required")];
        }
        let invalid = |text: &str| vec![field::invalid(path.clone(), json(&range.spec), text)];
        if cidrs.len() > 2 {
            return invalid("may only hold up to 2 values");
        }
        if let [one, other] = cidrs
            && !matches!((parse_cidr(one), parse_cidr(other)),
                (Some((one, _)), Some((other, _))) if one.is_ipv4() != other.is_ipv4())
        {
            return invalid(
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
            );
        }
        cidrs
            .iter()
            .enumerate()
            .filter(|(_, cidr)| !is_cidr(cidr))
            .map(|(index, cidr)| {
                field::invalid(
                    path.index(index),
                    cidr.as_str(),
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                )
            })
            .collect()
    }

    fn prepare_for_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR) -> ErrorList {
        let path = Path::new("spec").child("cidrs");
        let (now, before) = (cidrs(new), cidrs(old));
        // A second family may join the first.
        if let ([first, _], [only]) = (now, before)
            && first == only
        {
            return self.validate(new);
        }
        immutable(&now, &before, path)
    }

    fn prepare_for_status_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.spec.clone_from(&old.spec);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_its_name_and_keeps_its_parent() {
        let rules = IpAddressRules;
        assert!(rules.validate_name("10.0.0.1", false).is_empty());
        assert_eq!(
            rules.validate_name("2001:DB8::1", false),
            ["must be a canonical form IP address"]
        );
        assert_eq!(rules.validate_name("x", false).len(), 1);
        let address = |parent| -> IPAddress {
            let value = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}});
            serde_json::from_value(value).unwrap()
        };
        let service = address(json!({"resource": "services", "name": "s", "namespace": "n"}));
        assert!(rules.validate(&service).is_empty());
        let bad = address(json!({"resource": "", "name": "a/b"}));
        assert_eq!(
            texts(rules.validate(&bad)),
            [
                "spec.parentRef.resource: Required value",
                r#"spec.parentRef.name: Invalid value: "a/b": may not contain '/'"#,
            ]
        );
        let other = address(json!({"resource": "services", "name": "t", "namespace": "n"}));
        let found = texts(rules.validate_update(&other, &service));
        assert!(found[0].ends_with("field is immutable"), "{found:?}");
    }

    #[test]
    fn a_range_is_of_one_or_both_families_and_stays() {
        let range = |cidrs: &[&str]| -> ServiceCIDR {
            let value = json!({"metadata": {"name": "r"}, "spec": {"cidrs": cidrs}});
            serde_json::from_value(value).unwrap()
        };
        let check = |cidrs: &[&str]| texts(ServiceCidrRules.validate(&range(cidrs)));
        assert!(check(&["10.0.0.0/16", "2001:db8::/64"]).is_empty());
        assert_eq!(
            check(&[]),
            ["spec.cidrs: Required value: at least one CIDR required"]
        );
        assert_eq!(
            check(&["x"]),
            [
                r#"spec.cidrs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#
            ]
        );
        for pair in [["10.0.0.0/16", "10.1.0.0/16"], ["10.0.0.0/16", "x"]] {
            assert!(check(&pair)[0].contains("no more than one IP for each"));
        }
        let (one, two) = (
            range(&["10.0.0.0/16"]),
            range(&["10.0.0.0/16", "2001:db8::/64"]),
        );
        let change = |new: &ServiceCIDR, old| texts(ServiceCidrRules.validate_update(new, old));
        assert!(change(&two, &one).is_empty());
        assert!(change(&range(&["10.1.0.0/16"]), &one)[0].ends_with("field is immutable"));
    }
}

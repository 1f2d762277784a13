//! The rules of IPAddresses and ServiceCIDRs.

use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{IMMUTABLE, dns_subdomain, immutable, list, messages, slot, text},
        declared::Declared,
        difference::spelled,
        ip_fields,
        typed::KindRules,
    },
    metadata, names,
};

/// The rules of IPAddresses. Their names are the addresses.
pub(crate) struct IpAddressRules;

/// What has the address. One of which nothing is said is none.
fn parent(address: &IPAddress) -> Option<&ParentReference> {
    let spec: Option<&IPAddressSpec> = slot(&address.spec);
    let parent = spec.map(|spec| &spec.parent_ref)?;
    (*parent != ParentReference::default()).then_some(parent)
}

impl KindRules for IpAddressRules {
    type Kind = IPAddress;

    fn validate(&self, address: &IPAddress) -> ErrorList {
        let path = Path::new("spec").child("parentRef");
        let Some(parent) = parent(address) else {
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
        errors.extend(immutable(
            &parent(new),
            &parent(old),
            Path::new("spec").child("parentRef"),
        ));
        errors
    }

    fn declared(&self, new: &IPAddress, old: Option<&IPAddress>) -> ErrorList {
        let (now, before) = (parent(new), old.map(parent));
        let path = Path::new("spec").child("parentRef");
        Declared::of(&now, before.as_ref(), path)
            .required(Option::is_none)
            .immutable()
            .then(|parent, path| {
                let fields = parent.map(|parent| {
                    let fields = [(&parent.resource, "resource"), (&parent.name, "name")];
                    fields.into_iter().filter(|(value, _)| value.is_empty())
                });
                let fields = fields.into_iter().flatten();
                fields
                    .map(|(_, name)| field::required(path.child(name), ""))
                    .collect()
            })
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        ip_fields::canonical_ip(name).into_iter().collect()
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

    const METADATA: (usize, usize) = (0, 1);

    fn prepare_for_create(&self, range: &mut ServiceCIDR) {
        range.status = Some(Default::default());
    }

    fn validate(&self, range: &ServiceCIDR) -> ErrorList {
        let path = Path::new("spec").child("cidrs");
        let cidrs = cidrs(range);
        if cidrs.is_empty() {
            return vec![field::required(path, "at least one CIDR required")];
        }
        if cidrs.len() > 2 {
            let text = "may only hold up to 2 values";
            let spelled = spelled("ServiceCIDRSpec", &range.spec);
            return vec![field::invalid_spelled(path, &spelled, text)];
        }
        let mut errors = ErrorList::new();
        for (index, cidr) in cidrs.iter().enumerate() {
            errors.extend(ip_fields::canonical_range(cidr, path.index(index)));
        }
        if let [one, other] = cidrs
            && let (Some(one), Some(other)) =
                (ip_fields::parse_range(one), ip_fields::parse_range(other))
            && ip_fields::is_four(one.0) == ip_fields::is_four(other.0)
        {
            let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.push(field::invalid(path, cidrs.to_vec(), text));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR) -> ErrorList {
        let path = Path::new("spec").child("cidrs");
        let (now, before) = (cidrs(new), cidrs(old));
        let changed = |index: usize, now: &str| field::invalid(path.index(index), now, IMMUTABLE);
        match (now, before) {
            _ if now.len() == before.len() => {
                let pairs = now.iter().zip(before).enumerate();
                pairs
                    .filter(|(_, (now, before))| now != before)
                    .map(|(index, (now, _))| changed(index, now))
                    .collect()
            }
            // A second family may join the first.
            ([first, _], [only]) => {
                let mut errors = ErrorList::new();
                if first != only {
                    errors.push(changed(0, first));
                }
                errors.extend(self.validate(new));
                errors
            }
            _ => vec![field::invalid(path, now.to_vec(), IMMUTABLE)],
        }
    }

    fn prepare_for_status_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Strategy, kinds::typed::Typed};

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_its_name_and_keeps_its_parent() {
        let rules = IpAddressRules;
        assert!(rules.validate_name("10.0.0.1", false).is_empty());
        assert_eq!(
            rules.validate_name("2001:DB8::1", false),
            [r#"must be in canonical form ("2001:db8::1")"#]
        );
        assert_eq!(
            rules.validate_name("::ffff:10.0.0.1", false),
            ["must not be an IPv4-mapped IPv6 address"]
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
        assert_eq!(
            check(&["10.0.0.5/16", "2001:DB8::/64"]),
            [
                r#"spec.cidrs[0]: Invalid value: "10.0.0.5/16": must not have bits set beyond the prefix length"#,
                r#"spec.cidrs[1]: Invalid value: "2001:DB8::/64": must be in canonical form ("2001:db8::/64")"#,
            ]
        );
        assert_eq!(
            check(&["10.0.0.0/16", "10.1.0.0/16"]),
            [
                r#"spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"#
            ]
        );
        let found = check(&["10.0.0.0/16", "x"]);
        assert!(found.len() == 1 && found[0].starts_with("spec.cidrs[1]: "));
    }

    #[test]
    fn a_second_range_may_join_the_first_and_nothing_else_changes() {
        let range = |cidrs: &[&str]| -> ServiceCIDR {
            let value = json!({"metadata": {"name": "r"}, "spec": {"cidrs": cidrs}});
            serde_json::from_value(value).unwrap()
        };
        const FOUR: &str = "10.0.0.0/16";
        const SIX: &str = "2001:db8::/64";
        const OTHER: &str = "10.1.0.0/16";
        for (now, before, told) in [
            (vec![FOUR], vec![FOUR], vec![]),
            (vec![FOUR, SIX], vec![FOUR], vec![]),
            (
                vec![OTHER],
                vec![FOUR],
                vec![r#"spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable"#],
            ),
            (
                vec![OTHER, SIX],
                vec![FOUR],
                vec![r#"spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable"#],
            ),
            (
                vec![FOUR, "2001:db8:1::/64"],
                vec![FOUR, SIX],
                vec![r#"spec.cidrs[1]: Invalid value: "2001:db8:1::/64": field is immutable"#],
            ),
            (
                vec![FOUR],
                vec![FOUR, SIX],
                vec![r#"spec.cidrs: Invalid value: ["10.0.0.0/16"]: field is immutable"#],
            ),
        ] {
            let found = ServiceCidrRules.validate_update(&range(&now), &range(&before));
            assert_eq!(texts(found), told, "{now:?} {before:?}");
        }
    }

    #[test]
    fn a_status_brings_no_labels() {
        let range = |labels| -> ServiceCIDR {
            serde_json::from_value(json!({"metadata": {"name": "r", "labels": labels}})).unwrap()
        };
        let (mut new, old) = (range(json!({"a": "b"})), range(json!({"c": "d"})));
        ServiceCidrRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(new.metadata, old.metadata);
    }

    #[test]
    fn an_address_has_a_parent() {
        let of = |spec| -> IPAddress {
            serde_json::from_value(json!({"metadata": {"name": "10.0.0.1"}, "spec": spec})).unwrap()
        };
        let found = texts(IpAddressRules.validate(&of(json!({}))));
        assert_eq!(found, ["spec.parentRef: Required value"]);
        let group = json!({"parentRef": {"group": "a"}});
        assert_eq!(
            texts(IpAddressRules.validate(&of(group))),
            [
                "spec.parentRef.resource: Required value",
                "spec.parentRef.name: Required value"
            ]
        );
    }

    #[test]
    fn metadata_is_looked_at_once_more_where_it_changes() {
        let range = json!({"metadata": {"name": "r", "finalizers": ["x"]}, "spec": {"cidrs": ["10.0.0.0/8"]}});
        let range: ServiceCIDR = serde_json::from_value(range).unwrap();
        let found = Typed(ServiceCidrRules).validate_update(&range, &range);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(Typed(ServiceCidrRules).metadata_repeats(), (0, 1));
    }
}

//! Validation of how a pod resolves names.

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, list, messages, text},
        ip_fields,
    },
    names,
};

/// A pod's own settings of name resolution, beside its policy.
pub(super) fn dns_config(spec: &PodSpec, path: &Path) -> ErrorList {
    let none = text(&spec.dns_policy) == "None";
    let Some(config) = &spec.dns_config else {
        return if none {
            vec![field::required(
                path.clone(),
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )]
        } else {
            ErrorList::new()
        };
    };
    if none && list(&config.nameservers).is_empty() {
        return vec![field::required(
            path.child("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )];
    }
    fields(config, path)
}

fn fields(config: &PodDNSConfig, path: &Path) -> ErrorList {
    const SERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const SEARCH_CHARACTERS: usize = 2048;
    let mut errors = ErrorList::new();
    let (servers, searches) = (list(&config.nameservers), list(&config.searches));
    if servers.len() > SERVERS {
        errors.push(field::invalid(
            path.child("nameservers"),
            servers.to_vec(),
            format!("must not have more than {SERVERS} nameservers"),
        ));
    }
    for (index, server) in servers.iter().enumerate() {
        let path = path.child("nameservers").index(index);
        errors.extend(ip_fields::legacy_ip(server, ip_fields::NONE, path));
    }
    if searches.len() > SEARCHES {
        errors.push(field::invalid(
            path.child("searches"),
            searches.to_vec(),
            format!("must not have more than {SEARCHES} search paths"),
        ));
    }
    if searches.join(" ").len() > SEARCH_CHARACTERS {
        errors.push(field::invalid(
            path.child("searches"),
            searches.to_vec(),
            format!(
                "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
            ),
        ));
    }
    for (index, search) in searches.iter().enumerate() {
        if search == "." {
            continue;
        }
        let name = search.strip_suffix('.').unwrap_or(search);
        let wrong = names::dns_subdomain_with_underscores(name);
        errors.extend(messages(&path.child("searches").index(index), name, wrong));
    }
    for (index, option) in list(&config.options).iter().enumerate() {
        if blank(&option.name) {
            errors.push(field::required(
                path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn names_are_searched_in_domains_of_services_too() {
        let found = |config: Value| {
            let spec: PodSpec =
                serde_json::from_value(json!({"containers": [], "dnsConfig": config})).unwrap();
            dns_config(&spec, &Path::new("d"))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        for fine in ["_sip._tcp.a_b.example", ".", "a.b.", "a"] {
            assert_eq!(found(json!({"searches": [fine]})), [""; 0], "{fine}");
        }
        for bad in ["a b", "a-", "__a", "a._", ""] {
            let errors = found(json!({"searches": [bad]}));
            assert_eq!(errors.len(), 1, "{bad}: {errors:?}");
            let expected = format!(
                "d.searches[0]: Invalid value: {bad:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"
            );
            assert_eq!(errors, [expected]);
        }
        for (server, text) in [
            (
                "x",
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ] {
            assert_eq!(
                found(json!({"nameservers": [server]})),
                [format!(
                    "d.nameservers[0]: Invalid value: {server:?}: {text}"
                )]
            );
        }
    }
}

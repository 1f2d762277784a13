//! What drivers, pools, devices, attributes and shares may be called.

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::messages,
    names,
};

const DRIVER: usize = 63;
const POOL: usize = 253;
const IDENTIFIER: usize = 32;
/// How long the qualified name of an attribute or a capacity is at most.
pub(super) const QUALIFIED: usize = DRIVER + 1 + IDENTIFIER;

/// A driver's name: a short subdomain, in whatever case.
pub(super) fn driver(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut out = ErrorList::new();
    if name.len() > DRIVER {
        out.push(field::too_long(path.clone(), DRIVER));
    }
    let texts = names::dns_subdomain(&name.to_lowercase(), false);
    out.extend(messages(path, name, texts));
    out
}

/// A driver's name where upstream's generated checks look at it, with texts of their own.
pub(super) fn declared_driver(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut out = ErrorList::new();
    if name.chars().count() > DRIVER {
        out.push(field::Error {
            detail: format!("may not be more than {DRIVER} characters"),
            ..field::too_long(path.clone(), DRIVER)
        });
    }
    let texts = names::dns_subdomain_of_any_case(name);
    out.extend(messages(path, name, texts));
    out
}

/// A pool's name: subdomains between slashes.
pub(super) fn pool(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut out = ErrorList::new();
    if name.len() > POOL {
        out.push(field::too_long(path.clone(), POOL));
    }
    for part in name.split('/') {
        out.extend(messages(path, part, names::dns_subdomain(part, false)));
    }
    out
}

/// A pool's name where upstream's generated checks look at it.
pub(super) fn declared_pool(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut out = ErrorList::new();
    if name.len() > POOL {
        out.push(field::too_long(path.clone(), POOL));
    }
    for (index, part) in name.split('/').enumerate() {
        if part.is_empty() {
            let text = format!("segment {index}: must not be empty");
            out.push(field::invalid(path.clone(), name, text));
            continue;
        }
        let texts = names::dns_subdomain(part, false).into_iter();
        let texts = texts.map(|text| format!("segment {index}: {text}"));
        out.extend(messages(path, part, texts.collect()));
    }
    out
}

/// The name of an attribute or a capacity: an identifier, which a domain may be in front of.
pub(super) fn qualified(name: &str, path: &Path) -> ErrorList {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [identifier] => self::identifier(identifier, path),
        [domain, identifier] => {
            let mut out = match domain {
                "" => vec![field::invalid(path.clone(), "", "the domain must not be empty")],
                domain => driver(domain, path),
            };
            match identifier {
                "" => out.push(field::invalid(path.clone(), "", "the name must not be empty")),
                identifier => out.extend(self::identifier(identifier, path)),
            }
            out
        }
        _ => vec![field::invalid(path.clone(), name, "must not contain more than one slash")],
    }
}

/// The name of an attribute with a domain in front of it.
pub(super) fn fully_qualified(name: &str, path: &Path) -> ErrorList {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [identifier] => {
            let mut out = self::identifier(identifier, path);
            let text = "a fully qualified name must be a domain and a name separated by a slash";
            out.push(field::invalid(path.clone(), name, text));
            out
        }
        [domain, identifier] => {
            let mut out = prefix(domain, path);
            match identifier {
                "" => out.push(field::invalid(path.clone(), "", "name must not be empty")),
                identifier => out.extend(self::identifier(identifier, path)),
            }
            out
        }
        _ => vec![field::invalid(path.clone(), name, "must not contain more than one slash")],
    }
}

fn prefix(domain: &str, path: &Path) -> ErrorList {
    if domain.is_empty() {
        return vec![field::invalid(path.clone(), "", "prefix must not be empty")];
    }
    let mut out = ErrorList::new();
    if domain.len() > DRIVER {
        out.push(field::too_long(path.clone(), DRIVER));
    }
    let texts = names::dns_subdomain(domain, false).into_iter();
    let texts = texts.map(|text| format!("prefix: {text}"));
    out.extend(messages(path, domain, texts.collect()));
    out
}

fn identifier(name: &str, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if name.len() > IDENTIFIER {
        out.push(field::too_long(path.clone(), IDENTIFIER));
    }
    out.extend(messages(path, name, names::c_identifier(name)));
    out
}

/// What tells one share of a device from the others.
pub(super) fn share(id: &str, path: &Path) -> ErrorList {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    match is_uuid {
        true => ErrorList::new(),
        false => {
            let text = "must be a lowercase UUID in 8-4-4-4-12 format";
            vec![field::invalid(path.clone(), id, text)]
        }
    }
}

/// The name of a resource that pods ask for, that is no resource of Kubernetes' own.
pub(super) fn extended_resource(name: &str, path: &Path) -> ErrorList {
    let invalid = |text: &str| field::invalid(path.clone(), name, text);
    let mut out = ErrorList::new();
    if !name.contains('/') {
        out.push(invalid("a name must be a domain-prefixed path, such as 'example.com/my-prop'"));
    } else if name.contains("kubernetes.io/") {
        out.push(invalid("must not have \"kubernetes.io/\" domain"));
    }
    if name.starts_with("requests.") {
        out.push(invalid("must not have \"requests.\" prefix"));
    }
    // Quotas count it under this name.
    let texts = names::qualified_name(&format!("requests.{name}"));
    out.extend(messages(path, name, texts));
    out
}

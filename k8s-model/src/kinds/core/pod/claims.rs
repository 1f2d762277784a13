//! Validation of a pod's resource claims, and of what its containers say of them (KEP-4381).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodResourceClaim, PodSpec, ResourceClaim};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, dns_subdomain, list, text},
        difference::spelled,
    },
};

/// The names by which containers can ask for a pod's claims.
pub(super) fn names(spec: &PodSpec) -> BTreeSet<&str> {
    list(&spec.resource_claims)
        .iter()
        .map(|claim| claim.name.as_str())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The claims of a pod. One that stands for a node's own file can have none: nobody would see to them.
pub(super) fn of_pod(claims: &[PodResourceClaim], is_mirror: bool, path: &Path) -> ErrorList {
    let mut names = BTreeSet::new();
    let mut errors = ErrorList::new();
    for (index, claim) in claims.iter().enumerate() {
        if is_mirror {
            let text = "static pods do not support resource claims";
            errors.push(field::forbidden(Path::default(), text));
        } else {
            errors.extend(of_pod_one(claim, &mut names, &path.index(index)));
        }
    }
    errors
}

fn of_pod_one<'c>(
    claim: &'c PodResourceClaim,
    names: &mut BTreeSet<&'c str>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let (name, at) = (claim.name.as_str(), path.child("name"));
    if name.is_empty() {
        errors.push(field::required(at, ""));
    } else if names.insert(name) {
        errors.extend(dns_label(name, at));
    } else {
        errors.push(field::duplicate(at, name));
    }
    let wrong = match (
        &claim.resource_claim_name,
        &claim.resource_claim_template_name,
    ) {
        (Some(_), Some(_)) => Some(
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        ),
        (None, None) => {
            Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        }
        _ => None,
    };
    errors.extend(wrong.map(|text| {
        field::invalid_spelled(path.clone(), &spelled("PodResourceClaim", claim), text)
    }));
    for (name, at) in [
        (&claim.resource_claim_name, "resourceClaimName"),
        (
            &claim.resource_claim_template_name,
            "resourceClaimTemplateName",
        ),
    ] {
        if let Some(name) = name {
            errors.extend(dns_subdomain(name, path.child(at)));
        }
    }
    errors
}

/// What a container asks for of its pod's claims: each claim as a whole, or some of its requests, once.
pub(super) fn of_container(
    claims: &[ResourceClaim],
    known: &BTreeSet<&str>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut asked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let (name, request) = (claim.name.as_str(), text(&claim.request));
        if name.is_empty() {
            errors.push(field::required(path, ""));
            continue;
        }
        if asked.contains(&(name, "")) {
            errors.push(field::duplicate(path.clone(), name));
        } else {
            if !request.is_empty() {
                errors.extend(dns_label(request, path.child("request")));
            }
            if asked.contains(&(name, request)) {
                let both = format!("{name}/{request}");
                errors.push(field::duplicate(path.clone(), both));
            } else if request.is_empty() {
                let parts = asked.iter().filter(|(other, _)| *other == name);
                errors.extend(parts.map(|_| field::duplicate(path.clone(), name)));
            }
            asked.insert((name, request));
        }
        if !known.contains(name) {
            errors.push(unknown(name, known, path));
        }
    }
    errors
}

fn unknown(name: &str, known: &BTreeSet<&str>, path: Path) -> field::Error {
    let known: Vec<&str> = known.iter().copied().collect();
    let rest = if known.is_empty() {
        " which is empty".to_owned()
    } else {
        format!(": {}", known.join(", "))
    };
    field::Error {
        detail: format!("must be one of the names in pod.spec.resourceClaims{rest}"),
        ..field::not_found(path, name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn pod(claims: Value) -> Vec<PodResourceClaim> {
        serde_json::from_value(claims).unwrap()
    }

    #[test]
    fn a_claim_has_a_name_and_one_source() {
        let found = |claims| told(of_pod(&pod(claims), false, &Path::new("c")));
        assert_eq!(
            found(json!([{"name": "a", "resourceClaimName": "x"},
                {"name": "b", "resourceClaimTemplateName": "y.z"}])),
            [""; 0]
        );
        for (claim, expected) in [
            (
                json!({"name": "", "resourceClaimName": "x"}),
                "c[1].name: Required value",
            ),
            (
                json!({"name": "a", "resourceClaimName": "x"}),
                "c[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"name": "b"}),
                "c[1]: Invalid value: {\"Name\":\"b\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            (
                json!({"name": "b", "resourceClaimName": "x", "resourceClaimTemplateName": "y"}),
                "c[1]: Invalid value: {\"Name\":\"b\",\"ResourceClaimName\":\"x\",\"ResourceClaimTemplateName\":\"y\"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
        ] {
            let all = json!([{"name": "a", "resourceClaimName": "x"}, claim]);
            assert_eq!(found(all), [expected]);
        }
        for claim in [
            json!({"name": "B", "resourceClaimName": "x"}),
            json!({"name": "b", "resourceClaimName": "X"}),
            json!({"name": "b", "resourceClaimTemplateName": "X"}),
        ] {
            assert_eq!(found(json!([claim])).len(), 1, "{claim}");
        }
        let one = pod(json!([{"name": "a", "resourceClaimName": "x"}]));
        assert_eq!(
            told(of_pod(&one, true, &Path::new("c"))),
            ["<nil>: Forbidden: static pods do not support resource claims"]
        );
    }

    #[test]
    fn a_container_asks_for_claims_of_its_pod_once() {
        let found = |claims: Value, known: &[&str]| {
            let claims: Vec<ResourceClaim> = serde_json::from_value(claims).unwrap();
            let known = known.iter().copied().collect();
            told(of_container(&claims, &known, &Path::new("c")))
        };
        let both = ["a", "b"];
        assert_eq!(
            found(
                json!([{"name": "a", "request": "x"}, {"name": "a", "request": "y"}, {"name": "b"}]),
                &both
            ),
            [""; 0]
        );
        for (claims, expected) in [
            (json!([{"name": ""}]), "c[0]: Required value"),
            (
                json!([{"name": "a"}, {"name": "a", "request": "x"}]),
                "c[1]: Duplicate value: \"a\"",
            ),
            (
                json!([{"name": "a", "request": "x"}, {"name": "a", "request": "x"}]),
                "c[1]: Duplicate value: \"a/x\"",
            ),
            (
                json!([{"name": "a", "request": "x"}, {"name": "a"}]),
                "c[1]: Duplicate value: \"a\"",
            ),
            (
                json!([{"name": "z"}]),
                "c[0]: Not found: \"z\": must be one of the names in pod.spec.resourceClaims: a, b",
            ),
        ] {
            assert_eq!(found(claims, &both), [expected]);
        }
        assert_eq!(
            found(json!([{"name": "z"}]), &[]),
            [
                "c[0]: Not found: \"z\": must be one of the names in pod.spec.resourceClaims which is empty"
            ]
        );
    }
}

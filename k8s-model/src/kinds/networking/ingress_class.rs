//! The rules of IngressClasses.

use k8s_openapi::api::{core::v1::TypedLocalObjectReference, networking::v1::IngressClass};

use super::ingress::local_reference;
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, dns_subdomain, fill_absent, immutable, same, supported, text},
        declared::Declared,
        typed::KindRules,
    },
};

const MAX_CONTROLLER: usize = 250;

/// The rules of IngressClasses.
pub(crate) struct IngressClassRules;

impl KindRules for IngressClassRules {
    type Kind = IngressClass;

    const GENERATION: bool = true;

    fn default(&self, class: &mut IngressClass) {
        let parameters = class
            .spec
            .as_mut()
            .and_then(|spec| spec.parameters.as_mut());
        if let Some(parameters) = parameters {
            fill_absent(&mut parameters.scope, "Cluster");
        }
    }

    fn spec_changed(&self, new: &IngressClass, old: &IngressClass) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn validate(&self, class: &IngressClass) -> ErrorList {
        let path = Path::new("spec");
        let spec = class.spec.clone().unwrap_or_default();
        let mut errors = controller(text(&spec.controller), &path.child("controller"));
        let Some(parameters) = &spec.parameters else {
            return errors;
        };
        let path = path.child("parameters");
        errors.extend(local_reference(
            &TypedLocalObjectReference {
                api_group: parameters.api_group.clone(),
                kind: parameters.kind.clone(),
                name: parameters.name.clone(),
            },
            &path,
        ));
        let scope = text(&parameters.scope);
        errors.extend(supported(
            scope,
            &["Cluster", "Namespace"],
            path.child("scope"),
        ));
        let at = path.child("namespace");
        match (scope, &parameters.namespace) {
            ("Namespace", None) => errors.push(field::required(
                at,
                "`parameters.scope` is set to 'Namespace'",
            )),
            ("Namespace", Some(namespace)) => errors.extend(dns_label(namespace, at)),
            ("Cluster", Some(_)) => errors.push(field::forbidden(
                at,
                "`parameters.scope` is set to 'Cluster'",
            )),
            _ => {}
        }
        errors
    }

    fn validate_update(&self, new: &IngressClass, old: &IngressClass) -> ErrorList {
        let controller = |class: &IngressClass| {
            let spec = class.spec.as_ref();
            spec.and_then(|spec| spec.controller.clone())
                .unwrap_or_default()
        };
        let mut errors = immutable(
            &controller(new),
            &controller(old),
            Path::new("spec").child("controller"),
        );
        errors.extend(self.validate(new));
        errors
    }

    fn declared(&self, new: &IngressClass, old: Option<&IngressClass>) -> ErrorList {
        let before = old.map(|old| &old.spec);
        Declared::of(&new.spec, before, Path::new("spec")).then(|spec, path| {
            let parameters = spec.as_ref().and_then(|spec| spec.parameters.as_ref());
            let Some(parameters) = parameters else {
                return ErrorList::new();
            };
            let path = path.child("parameters");
            let fields = [(&parameters.kind, "kind"), (&parameters.name, "name")];
            let empty = fields.iter().filter(|(value, _)| value.is_empty());
            empty
                .map(|(_, name)| field::required(path.child(name), ""))
                .collect()
        })
    }
}

/// What the part of a controller's name after its domain may consist of, besides letters and digits.
const PATH_MARKS: &str = "/-._~%!$&'()*+,;=:";

fn controller(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let mut errors = ErrorList::new();
    if name.len() > MAX_CONTROLLER {
        errors.push(field::too_long(path.clone(), MAX_CONTROLLER));
    }
    let parts = name.split_once('/');
    let Some((domain, rest)) =
        parts.filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(field::invalid(path.clone(), name, text));
        return errors;
    };
    errors.extend(dns_subdomain(domain, path.clone()));
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || PATH_MARKS.contains(c);
    if !rest.chars().all(is_allowed) {
        let text = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(field::invalid(path.clone(), rest, text));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_a_path_below_a_domain() {
        let long = format!("acme.io/{}", "a".repeat(250));
        for (name, told) in [
            ("acme.io/a/b%20c", vec![]),
            ("", vec!["c: Required value"]),
            (
                "acme.io",
                vec![
                    r#"c: Invalid value: "acme.io": must be a domain-prefixed path (such as "acme.io/foo")"#,
                ],
            ),
            (
                "acme.io/a b",
                vec![
                    r#"c: Invalid value: "a b": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"#,
                ],
            ),
            (&long, vec!["c: Too long: may not be more than 250 bytes"]),
        ] {
            let found = controller(name, &Path::new("c"));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, told, "{name}");
        }
        assert_eq!(controller("_/a b", &Path::new("c")).len(), 2);
    }
}

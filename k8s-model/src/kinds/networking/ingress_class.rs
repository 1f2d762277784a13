//! The rules of IngressClasses.

use k8s_openapi::api::{core::v1::TypedLocalObjectReference, networking::v1::IngressClass};

use super::ingress::local_reference;
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, fill_absent, immutable, same, supported, text},
        typed::KindRules,
    },
    names,
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
}

fn controller(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    if name.len() > MAX_CONTROLLER {
        return vec![field::too_long(path.clone(), MAX_CONTROLLER)];
    }
    match name.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            names::dns_subdomain(domain, false)
                .into_iter()
                .map(|text| field::invalid(path.clone(), domain, text))
                .collect()
        }
        _ => vec![field::invalid(
            path.clone(),
            name,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        )],
    }
}
